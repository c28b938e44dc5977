package sandbox

import (
	"strings"
	"testing"

	"callbackd/internal/workflow"
)

func TestLostCallbacks(t *testing.T) {
	for _, tt := range []struct {
		kind, faults, sent string
		expected           workflow.RetrievalState
	}{
		{"passed-passport", "callback:lost", "", workflow.Retrieved},
		{"passed-passport", "callback:lost:1", "ACQUISITION_STARTED ACQUIRED", workflow.Retrieved},
		{"passed-passport", "callback:lost:2", "ACQUISITION_STARTED", workflow.Retrieved},
		{"passed-passport", "callback:lost:9", "", workflow.Retrieved},
		{"passed-passport", "callback:lost callback:reordered", "", workflow.Retrieved},
		{"passed-passport", "callback:lost:1 callback:reordered", "ACQUIRED ACQUISITION_STARTED", workflow.Retrieved},
		{"passed-passport", "callback:lost callback:late:1:delay=1ms", "", workflow.Retrieved},
		{"passed-passport", "callback:lost details:404", "", workflow.Failed},
		{"passed-passport", "callback:lost status:500", "", workflow.Awaiting},
		{"session-expired", "callback:lost", "", workflow.NotRequired},
	} {
		t.Run(tt.kind+" "+tt.faults, func(t *testing.T) {
			r := newReceiver(t)
			s := start(t, Config{CallbackURL: r.URL, Intermediate: 1})
			j := newJourney(t, s, tt.kind, WithFaults(faults(t, tt.faults)...))
			if err := s.Send(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(r.statuses(), " "); got != tt.sent {
				t.Errorf("sent %q, want %q", got, tt.sent)
			}
			if state := j.entry().Expected.State; state != tt.expected {
				t.Errorf("expected %s, want %s", state, tt.expected)
			}
		})
	}
}
