package sandbox

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPeaks(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p := newPeaks(func() time.Time { return now })
	for _, after := range []time.Duration{0, 400 * time.Millisecond, 400 * time.Millisecond, 199 * time.Millisecond, time.Millisecond, time.Second} {
		now = now.Add(after)
		p.count("emea-1")
	}
	p.count("apac-1")
	if diff := cmp.Diff(map[string]int{"emea-1": 4, "apac-1": 1}, p.all()); diff != "" {
		t.Error(diff)
	}
}

func TestTheLedgerHasThePeaksOfRetrieval(t *testing.T) {
	s := start(t, Config{DataCenter: "emea-1", RequestsPerSecond: 0.001})
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.peaks = newPeaks(func() time.Time { return now })
	c := login(t, s)
	j := newJourney(t, s, "passed-passport")
	for _, path := range []string{detailsPath(j), detailsPath(j) + "/status", partPath(j.parts[0]), "/api/v1/workflow-executions/unknown"} {
		c.get(path) // all but the first one are beyond the limit
	}
	c.send(http.MethodDelete, detailsPath(j), "", "")
	c.create(initiationOf("3")) // none of the Retrieval API's
	if diff := cmp.Diff(map[string]int{"emea-1": 4, "unknown": 1}, s.Ledger().Totals.PeakRetrievals); diff != "" {
		t.Error(diff)
	}
}
