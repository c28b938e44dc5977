package fetcher

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store"
)

var noon = time.Date(2021, 1, 21, 12, 0, 0, 0, time.UTC)

// delivery is one callback: received and sent in seconds after noon; no time of
// its own when sent is negative.
func delivery(status string, received, sent int, body string) *store.Delivery {
	d := &store.Delivery{Status: status, ReceivedAt: noon.Add(time.Duration(received) * time.Second), BodyDigest: []byte(body), WorkflowExecutionID: "w"}
	if sent >= 0 {
		d.SentAt = noon.Add(time.Duration(sent) * time.Second)
	}
	return d
}

func TestApply(t *testing.T) {
	for name, tc := range map[string]struct {
		deliveries []*store.Delivery
		status     string
		state      store.RetrievalState
		retrievals int // how often a retrieval was begun
		expired    int // events
	}{
		"PROCESSED leads to a retrieval": {
			[]*store.Delivery{delivery("PROCESSED", 1, 0, "a")}, "PROCESSED", store.Pending, 1, 0,
		},
		"the same callback delivered twice leads to one retrieval": {
			[]*store.Delivery{delivery("PROCESSED", 1, 0, "a"), delivery("PROCESSED", 2, 0, "a")}, "PROCESSED", store.Pending, 1, 0,
		},
		"the same callback without a time delivered twice leads to one retrieval": {
			[]*store.Delivery{delivery("PROCESSED", 1, -1, "a"), delivery("PROCESSED", 2, -1, "a")}, "PROCESSED", store.Pending, 1, 0,
		},
		"a newer PROCESSED callback retrieves again": {
			[]*store.Delivery{delivery("PROCESSED", 1, 0, "a"), delivery("PROCESSED", 2, 1, "b")}, "PROCESSED", store.Pending, 2, 0,
		},
		"an older PROCESSED callback changes nothing": {
			[]*store.Delivery{delivery("PROCESSED", 1, 1, "a"), delivery("PROCESSED", 2, 0, "b")}, "PROCESSED", store.Pending, 1, 0,
		},
		"without callbackSentAt it counts as sent when it was received": {
			[]*store.Delivery{delivery("ACQUIRED", 1, 1, "a"), delivery("PROCESSED", 2, -1, "b")}, "PROCESSED", store.Pending, 1, 0,
		},
		"a status that is not final waits for the next callback": {
			[]*store.Delivery{delivery("ACQUIRED", 1, 0, "a")}, "ACQUIRED", store.Awaiting, 0, 0,
		},
		"SESSION_EXPIRED ends without a retrieval": {
			[]*store.Delivery{delivery("SESSION_EXPIRED", 1, 0, "a"), delivery("SESSION_EXPIRED", 2, 0, "a")}, "SESSION_EXPIRED", store.NotRequired, 0, 1,
		},
		"TOKEN_EXPIRED ends without a retrieval": {
			[]*store.Delivery{delivery("TOKEN_EXPIRED", 1, 0, "a")}, "TOKEN_EXPIRED", store.NotRequired, 0, 1,
		},
		"an unknown status is asked for": {
			[]*store.Delivery{delivery("SOMETHING_NEW", 1, 0, "a")}, "SOMETHING_NEW", store.Pending, 1, 0,
		},
		"no status is asked for": {
			[]*store.Delivery{delivery("", 1, 0, "a")}, "", store.Pending, 1, 0,
		},
		"out of order: the newest callbackSentAt holds": {
			[]*store.Delivery{delivery("PROCESSED", 1, 5, "a"), delivery("ACQUIRED", 2, 3, "b")}, "PROCESSED", store.Pending, 1, 0,
		},
		"equal times: a final status wins when it comes first": {
			[]*store.Delivery{delivery("PROCESSED", 1, 5, "a"), delivery("ACQUIRED", 2, 5, "b")}, "PROCESSED", store.Pending, 1, 0,
		},
		"equal times: a final status wins when it comes last": {
			[]*store.Delivery{delivery("ACQUIRED", 1, 5, "a"), delivery("PROCESSED", 2, 5, "b")}, "PROCESSED", store.Pending, 1, 0,
		},
		"equal times, both final: the later arrival": {
			[]*store.Delivery{delivery("PROCESSED", 1, 5, "a"), delivery("SESSION_EXPIRED", 2, 5, "b")}, "SESSION_EXPIRED", store.NotRequired, 1, 1,
		},
		"equal times, neither final: the later arrival": {
			[]*store.Delivery{delivery("INITIATED", 1, 5, "a"), delivery("ACQUIRED", 2, 5, "b")}, "ACQUIRED", store.Awaiting, 0, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &store.WorkflowExecution{ID: "w", RetrievalState: store.Awaiting}
			retrievals, expired, generation := 0, 0, 0
			for _, d := range tc.deliveries {
				for _, e := range apply(w, d) {
					if e != (store.Event{Type: store.EventExpired, WorkflowExecutionID: "w"}) {
						t.Errorf("event %+v", e)
					}
					expired++
				}
				if w.RetrievalState == store.Pending && w.RetrievalGeneration != generation {
					retrievals++
				}
				generation = w.RetrievalGeneration
			}
			if w.Status != tc.status || w.RetrievalState != tc.state || retrievals != tc.retrievals || expired != tc.expired {
				t.Errorf("status %q, state %q, %d retrievals, %d expired; want %q, %q, %d, %d",
					w.Status, w.RetrievalState, retrievals, expired, tc.status, tc.state, tc.retrievals, tc.expired)
			}
			if w.CallbackCount != int64(len(tc.deliveries)) {
				t.Errorf("callback_count %d, want %d: it counts deliveries", w.CallbackCount, len(tc.deliveries))
			}
		})
	}
}

// In whatever order callbacks of different times arrive, the end is the same.
func TestApplyOrderDoesNotMatter(t *testing.T) {
	statuses := []string{"INITIATED", "ACQUISITION_STARTED", "ACQUIRED", "PROCESSED", "SESSION_EXPIRED", "NEW_ONE"}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		deliveries := make([]*store.Delivery, len(statuses))
		for i, status := range statuses {
			deliveries[i] = delivery(status, i, r.IntN(1000)*10+i, status)
		}
		var want *store.WorkflowExecution
		for range 5 {
			w := &store.WorkflowExecution{ID: "w", RetrievalState: store.Awaiting}
			for _, i := range r.Perm(len(deliveries)) {
				apply(w, deliveries[i])
			}
			w.RetrievalGeneration = 0 // counts what was begun on the way
			if want == nil {
				want = w
			} else if d := cmp.Diff(want, w); d != "" {
				t.Fatalf("two orders, two ends (-one +other):\n%s", d)
			}
		}
	}
}

func TestApplyKeepsWhatIsKnown(t *testing.T) {
	w := &store.WorkflowExecution{ID: "w", RetrievalState: store.Awaiting}
	first := delivery("ACQUIRED", 1, 1, "a")
	first.AccountID, first.WorkflowHref, first.UserReference = "account", "href", "ref"
	last := delivery("PROCESSED", 2, 2, "b")
	last.WorkflowHref = "newer href"
	apply(w, first)
	apply(w, last)
	older := delivery("INITIATED", 3, 0, "c")
	older.DefinitionKey, older.AccountID = "3", "older account"
	apply(w, older)
	if w.AccountID != "account" || w.WorkflowHref != "newer href" || w.UserReference != "ref" || w.DefinitionKey != "3" {
		t.Errorf("got %+v", w)
	}
	if !w.FirstCallbackAt.Equal(first.ReceivedAt) || !w.LastCallbackAt.Equal(older.ReceivedAt) {
		t.Errorf("first %v, last %v", w.FirstCallbackAt, w.LastCallbackAt)
	}
}

func TestSchedule(t *testing.T) {
	s := Schedule{0, 40 * time.Second, 60 * time.Second}
	for _, tc := range []struct {
		name      string
		attempt   int
		notBefore time.Duration
		want      time.Duration
	}{
		{"after the first attempt", 1, 0, 40 * time.Second},
		{"after the second", 2, 0, 60 * time.Second},
		{"beyond the schedule", 3, 0, 0},
		{"Retry-After within the delay", 1, 10 * time.Second, 40 * time.Second},
		{"Retry-After beyond the delay", 1, 90 * time.Second, 90 * time.Second},
	} {
		if got := s.Next(tc.attempt, noon, noon.Add(tc.notBefore)); !got.Equal(noon.Add(tc.want)) {
			t.Errorf("%s: after %v, want %v", tc.name, got.Sub(noon), tc.want)
		}
	}
	if got := s.Length(); got != 100*time.Second {
		t.Errorf("its length is %v, want 100s", got)
	}
}
