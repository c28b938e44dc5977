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
		"equal times, both final: the later arrival has Jumio asked": {
			[]*store.Delivery{delivery("PROCESSED", 1, 5, "a"), delivery("SESSION_EXPIRED", 2, 5, "b")}, "SESSION_EXPIRED", store.Pending, 2, 0,
		},
		"equal times, neither final: the later arrival": {
			[]*store.Delivery{delivery("INITIATED", 1, 5, "a"), delivery("ACQUIRED", 2, 5, "b")}, "ACQUIRED", store.Awaiting, 0, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &store.WorkflowExecution{ID: "w", RetrievalState: store.Awaiting}
			retrievals, expired, generation := 0, 0, 0
			for _, d := range tc.deliveries {
				for _, e := range apply(w, d, noon).events {
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

// What callbacks may do to a workflow execution about which others have said
// something else, or Jumio itself has. None takes a result away, and none keeps one
// from being fetched.
func TestApplyIsAHint(t *testing.T) {
	late := func(status string) *store.Delivery { return delivery(status, 100, 100, status) }
	ahead := func(status string) *store.Delivery {
		d := delivery(status, 100, 100, status)
		d.SentAt = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
		return d
	}
	processed := delivery("PROCESSED", 200, 150, "p")
	result := func(state store.RetrievalState) func(*store.WorkflowExecution) {
		return func(w *store.WorkflowExecution) {
			w.RetrievalState, w.Status, w.DecidedSentAt, w.DetailsRetrievedAt = state, "PROCESSED", noon, noon
		}
	}
	for name, tc := range map[string]struct {
		before     func(*store.WorkflowExecution)
		deliveries []*store.Delivery
		status     string
		state      store.RetrievalState
		result     store.RetrievalState
		asks       bool
	}{
		"dated far ahead, an expiry does not outlast the genuine callback": {
			nil, []*store.Delivery{ahead("TOKEN_EXPIRED"), processed}, "PROCESSED", store.Pending, "", false,
		},
		"a genuine callback that is older than an expiry has Jumio asked": {
			nil, []*store.Delivery{late("TOKEN_EXPIRED"), delivery("PROCESSED", 200, 50, "p")}, "TOKEN_EXPIRED", store.Pending, "", true,
		},
		"a status that is not final over an expiry has Jumio asked": {
			nil, []*store.Delivery{delivery("TOKEN_EXPIRED", 1, 1, "t"), late("ACQUIRED")}, "ACQUIRED", store.Pending, "", true,
		},
		"an expiry that is older than a status that is not final has Jumio asked": {
			nil, []*store.Delivery{late("ACQUIRED"), delivery("TOKEN_EXPIRED", 200, 50, "t")}, "ACQUIRED", store.Pending, "", true,
		},
		"an expiry over a pending retrieval has Jumio asked": {
			nil, []*store.Delivery{delivery("PROCESSED", 1, 1, "p"), late("SESSION_EXPIRED")}, "SESSION_EXPIRED", store.Pending, "", true,
		},
		"a status that is not final over a pending retrieval has Jumio asked": {
			nil, []*store.Delivery{delivery("PROCESSED", 1, 1, "p"), late("ACQUIRED")}, "ACQUIRED", store.Pending, "", true,
		},
		"an expiry over a result has Jumio asked and leaves the status": {
			result(store.Retrieved), []*store.Delivery{late("TOKEN_EXPIRED")}, "PROCESSED", store.Pending, store.Retrieved, true,
		},
		"a status that is not final over a result leaves the status": {
			result(store.Partial), []*store.Delivery{late("INITIATED")}, "PROCESSED", store.Pending, store.Partial, true,
		},
		"a newer PROCESSED over a result retrieves again": {
			result(store.Retrieved), []*store.Delivery{late("PROCESSED")}, "PROCESSED", store.Pending, store.Retrieved, false,
		},
		"a repeat of a failed one is tried again": {
			func(w *store.WorkflowExecution) {
				w.RetrievalState, w.Status, w.DecidedSentAt = store.Failed, "PROCESSED", noon.Add(150*time.Second)
			}, []*store.Delivery{processed}, "PROCESSED", store.Pending, "", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &store.WorkflowExecution{ID: "w", RetrievalState: store.Awaiting}
			if tc.before != nil {
				tc.before(w)
			}
			for _, d := range tc.deliveries {
				apply(w, d, noon)
			}
			if w.Status != tc.status || w.RetrievalState != tc.state || w.ResultState != tc.result || w.RetrievalAsksStatus != tc.asks {
				t.Errorf("status %q, state %q, result %q, asks %v; want %q, %q, %q, %v", w.Status, w.RetrievalState, w.ResultState,
					w.RetrievalAsksStatus, tc.status, tc.state, tc.result, tc.asks)
			}
		})
	}
}

// Jumio may have been asked, because of a forged callback, a moment before there was
// a result: the genuine callback has it asked once more, after that attempt.
func TestGenuineCallbackDuringAForgedAttempt(t *testing.T) {
	w := &store.WorkflowExecution{ID: "w", RetrievalState: store.Awaiting}
	apply(w, delivery("MADE_UP", 1, 300, "forged"), noon)
	w.LeaseUntil = noon.Add(time.Minute)
	apply(w, delivery("PROCESSED", 2, 2, "genuine"), noon)
	if w.RetrievalDueAt.IsZero() || !w.RetrievalAsksStatus {
		t.Errorf("due %v, asks %v: want Jumio asked after the attempt", w.RetrievalDueAt, w.RetrievalAsksStatus)
	}
}

// Once details are there, no callback changes whose they are.
func TestDetailsWin(t *testing.T) {
	w := &store.WorkflowExecution{
		ID: "w", RetrievalState: store.Retrieved, Status: "PROCESSED", DecidedSentAt: noon, DetailsRetrievedAt: noon,
		AccountID: "account", UserReference: "mallory", WorkflowHref: "href", AccountHref: "account href",
	}
	forged := delivery("PROCESSED", 5, 5, "f")
	forged.AccountID, forged.UserReference, forged.DefinitionKey, forged.WorkflowHref, forged.AccountHref = "other", "carol", "9", "h", "a"
	if c := apply(w, forged, noon); !c.contradicts {
		t.Error("the contradiction is not noticed")
	}
	if w.AccountID != "account" || w.UserReference != "mallory" || w.DefinitionKey != "" || w.WorkflowHref != "href" || w.AccountHref != "account href" {
		t.Errorf("got %+v", w)
	}
	agreeing := delivery("PROCESSED", 6, 6, "g")
	agreeing.AccountID, agreeing.UserReference = "account", "mallory"
	if c := apply(w, agreeing, noon); c.contradicts {
		t.Error("a callback that agrees counts as a contradiction")
	}
}

// A storm of newer callbacks for one workflow execution begins a few retrievals at
// once, and then one each interval; one that is running is left to its end.
func TestStormIsPaced(t *testing.T) {
	w := &store.WorkflowExecution{ID: "w", RetrievalState: store.Awaiting}
	generation := func() int { return w.RetrievalGeneration }
	storm := func(from time.Time) {
		for i := range 100 {
			d := delivery("PROCESSED", 0, 0, "s")
			d.ReceivedAt, d.SentAt = from.Add(time.Duration(i)*time.Millisecond), from.Add(time.Duration(i)*time.Millisecond)
			apply(w, d, d.ReceivedAt)
		}
	}
	storm(noon)
	if generation() != paceBurst {
		t.Errorf("a storm began %d retrievals, want %d", generation(), paceBurst)
	}
	if due := w.RetrievalDueAt; due.Before(noon.Add(paceInterval-time.Second)) || due.After(noon.Add(paceInterval+time.Second)) {
		t.Errorf("the next one is due at %v, want in %v", due, paceInterval)
	}
	storm(noon.Add(paceInterval + time.Second))
	if generation() != paceBurst+1 {
		t.Errorf("an interval later %d retrievals were begun, want %d", generation(), paceBurst+1)
	}

	w = &store.WorkflowExecution{ID: "w", RetrievalState: store.Pending, RetrievalGeneration: 1, LeaseUntil: noon.Add(time.Minute)}
	storm(noon)
	if generation() != 1 || w.RetrievalDueAt.IsZero() {
		t.Errorf("a running attempt: generation %d, due %v; want it left alone, and one after it", generation(), w.RetrievalDueAt)
	}
}

func TestFutureDated(t *testing.T) {
	for ahead, want := range map[time.Duration]bool{0: false, futureTolerance: false, futureTolerance + time.Second: true} {
		w := &store.WorkflowExecution{ID: "w", RetrievalState: store.Awaiting}
		d := delivery("ACQUIRED", 0, 0, "a")
		d.SentAt = d.ReceivedAt.Add(ahead)
		if c := apply(w, d, noon); c.future != want {
			t.Errorf("%v ahead: future is %v", ahead, c.future)
		}
		sent := d.SentAt
		if want {
			sent = d.ReceivedAt
		}
		if !w.DecidedSentAt.Equal(sent) {
			t.Errorf("%v ahead: counts as sent at %v, want %v", ahead, w.DecidedSentAt, sent)
		}
	}
}

// In whatever order callbacks of different times arrive, the end is the same where
// they agree that there is a result, or that there is none; where they contradict
// each other, Jumio is asked in every order.
func TestApplyOrderDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, statuses := range [][]string{
		{"INITIATED", "ACQUISITION_STARTED", "ACQUIRED"},
		{"INITIATED", "ACQUIRED", "SESSION_EXPIRED"},
		{"INITIATED", "ACQUISITION_STARTED", "ACQUIRED", "PROCESSED"},
		{"INITIATED", "ACQUIRED", "PROCESSED", "SESSION_EXPIRED", "NEW_ONE"},
	} {
		for range 100 {
			deliveries := make([]*store.Delivery, len(statuses))
			for i, status := range statuses {
				deliveries[i] = delivery(status, i, r.IntN(500)+i, status)
				deliveries[i].SentAt = deliveries[i].SentAt.Add(time.Duration(i) * time.Millisecond)
			}
			var want *store.WorkflowExecution
			for range 5 {
				w := &store.WorkflowExecution{ID: "w", RetrievalState: store.Awaiting}
				for _, i := range r.Perm(len(deliveries)) {
					apply(w, deliveries[i], noon)
				}
				// They tell of what was begun on the way; and whether Jumio is asked
				// for the status does not matter before a status that has it asked.
				w.RetrievalGeneration, w.RetrievalPacedAt, w.RetrievalDueAt, w.RetrievalReceivedAt = 0, time.Time{}, time.Time{}, time.Time{}
				if w.Status != "PROCESSED" {
					w.RetrievalAsksStatus = true
				}
				if want == nil {
					want = w
				} else if d := cmp.Diff(want, w); d != "" {
					t.Fatalf("two orders, two ends (-one +other):\n%s", d)
				}
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
	apply(w, first, noon)
	apply(w, last, noon)
	older := delivery("INITIATED", 3, 0, "c")
	older.DefinitionKey, older.AccountID = "3", "older account"
	apply(w, older, noon)
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
