package workflow

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/callback"
)

var noon = time.Date(2021, 1, 21, 12, 0, 0, 0, time.UTC)

// delivery is one callback: received and sent in seconds after noon; no time of
// its own when sent is negative.
func delivery(status string, received, sent int, body string) *Delivery {
	d := &Delivery{BodyDigest: []byte(body), Callback: callback.Callback{
		WorkflowExecutionID: "w", WorkflowStatus: status, ReceivedAt: noon.Add(time.Duration(received) * time.Second),
	}}
	if sent >= 0 {
		d.CallbackSentAt = noon.Add(time.Duration(sent) * time.Second)
	}
	return d
}

func TestPromote(t *testing.T) {
	for name, tc := range map[string]struct {
		deliveries []*Delivery
		status     string
		state      RetrievalState
		retrievals int // how often a retrieval was begun
		expired    int // events
	}{
		"PROCESSED leads to a retrieval": {
			[]*Delivery{delivery("PROCESSED", 1, 0, "a")}, "PROCESSED", Pending, 1, 0,
		},
		"the same callback delivered twice leads to one retrieval": {
			[]*Delivery{delivery("PROCESSED", 1, 0, "a"), delivery("PROCESSED", 2, 0, "a")}, "PROCESSED", Pending, 1, 0,
		},
		"the same callback without a time delivered twice leads to one retrieval": {
			[]*Delivery{delivery("PROCESSED", 1, -1, "a"), delivery("PROCESSED", 2, -1, "a")}, "PROCESSED", Pending, 1, 0,
		},
		"a newer PROCESSED callback retrieves again": {
			[]*Delivery{delivery("PROCESSED", 1, 0, "a"), delivery("PROCESSED", 2, 1, "b")}, "PROCESSED", Pending, 2, 0,
		},
		"an older PROCESSED callback changes nothing": {
			[]*Delivery{delivery("PROCESSED", 1, 1, "a"), delivery("PROCESSED", 2, 0, "b")}, "PROCESSED", Pending, 1, 0,
		},
		"without callbackSentAt it counts as sent when it was received": {
			[]*Delivery{delivery("ACQUIRED", 1, 1, "a"), delivery("PROCESSED", 2, -1, "b")}, "PROCESSED", Pending, 1, 0,
		},
		"a status that is not final waits for the next callback": {
			[]*Delivery{delivery("ACQUIRED", 1, 0, "a")}, "ACQUIRED", Awaiting, 0, 0,
		},
		"SESSION_EXPIRED ends without a retrieval": {
			[]*Delivery{delivery("SESSION_EXPIRED", 1, 0, "a"), delivery("SESSION_EXPIRED", 2, 0, "a")}, "SESSION_EXPIRED", NotRequired, 0, 1,
		},
		"TOKEN_EXPIRED ends without a retrieval": {
			[]*Delivery{delivery("TOKEN_EXPIRED", 1, 0, "a")}, "TOKEN_EXPIRED", NotRequired, 0, 1,
		},
		"an unknown status is asked for": {
			[]*Delivery{delivery("SOMETHING_NEW", 1, 0, "a")}, "SOMETHING_NEW", Pending, 1, 0,
		},
		"no status is asked for": {
			[]*Delivery{delivery("", 1, 0, "a")}, "", Pending, 1, 0,
		},
		"out of order: the newest callbackSentAt holds": {
			[]*Delivery{delivery("PROCESSED", 1, 5, "a"), delivery("ACQUIRED", 2, 3, "b")}, "PROCESSED", Pending, 1, 0,
		},
		"equal times: a final status wins when it comes first": {
			[]*Delivery{delivery("PROCESSED", 1, 5, "a"), delivery("ACQUIRED", 2, 5, "b")}, "PROCESSED", Pending, 1, 0,
		},
		"equal times: a final status wins when it comes last": {
			[]*Delivery{delivery("ACQUIRED", 1, 5, "a"), delivery("PROCESSED", 2, 5, "b")}, "PROCESSED", Pending, 1, 0,
		},
		"equal times, both final: the later arrival has Jumio asked": {
			[]*Delivery{delivery("PROCESSED", 1, 5, "a"), delivery("SESSION_EXPIRED", 2, 5, "b")}, "SESSION_EXPIRED", Pending, 2, 0,
		},
		"equal times, neither final: the later arrival": {
			[]*Delivery{delivery("INITIATED", 1, 5, "a"), delivery("ACQUIRED", 2, 5, "b")}, "ACQUIRED", Awaiting, 0, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &Execution{ID: "w", RetrievalState: Awaiting}
			retrievals, expired, generation := 0, 0, 0
			for _, d := range tc.deliveries {
				if Promote(w, d, noon).Expired {
					expired++
				}
				if w.RetrievalState == Pending && w.RetrievalGeneration != generation {
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
func TestPromoteIsAHint(t *testing.T) {
	late := func(status string) *Delivery { return delivery(status, 100, 100, status) }
	ahead := func(status string) *Delivery {
		d := delivery(status, 100, 100, status)
		d.CallbackSentAt = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
		return d
	}
	processed := delivery("PROCESSED", 200, 150, "p")
	result := func(state RetrievalState) func(*Execution) {
		return func(w *Execution) {
			w.RetrievalState, w.Status, w.DecidedSentAt, w.DetailsRetrievedAt = state, "PROCESSED", noon, noon
		}
	}
	for name, tc := range map[string]struct {
		before     func(*Execution)
		deliveries []*Delivery
		status     string
		state      RetrievalState
		result     RetrievalState
		asks       bool
	}{
		"dated far ahead, an expiry does not outlast the genuine callback": {
			nil, []*Delivery{ahead("TOKEN_EXPIRED"), processed}, "PROCESSED", Pending, "", false,
		},
		"a genuine callback that is older than an expiry has Jumio asked": {
			nil, []*Delivery{late("TOKEN_EXPIRED"), delivery("PROCESSED", 200, 50, "p")}, "TOKEN_EXPIRED", Pending, "", true,
		},
		"a status that is not final over an expiry has Jumio asked": {
			nil, []*Delivery{delivery("TOKEN_EXPIRED", 1, 1, "t"), late("ACQUIRED")}, "ACQUIRED", Pending, "", true,
		},
		"an expiry that is older than a status that is not final has Jumio asked": {
			nil, []*Delivery{late("ACQUIRED"), delivery("TOKEN_EXPIRED", 200, 50, "t")}, "ACQUIRED", Pending, "", true,
		},
		"an expiry over a pending retrieval has Jumio asked": {
			nil, []*Delivery{delivery("PROCESSED", 1, 1, "p"), late("SESSION_EXPIRED")}, "SESSION_EXPIRED", Pending, "", true,
		},
		"a status that is not final over a pending retrieval has Jumio asked": {
			nil, []*Delivery{delivery("PROCESSED", 1, 1, "p"), late("ACQUIRED")}, "ACQUIRED", Pending, "", true,
		},
		"an expiry over a result has Jumio asked and leaves the status": {
			result(Retrieved), []*Delivery{late("TOKEN_EXPIRED")}, "PROCESSED", Pending, Retrieved, true,
		},
		"a status that is not final over a result leaves the status": {
			result(Partial), []*Delivery{late("INITIATED")}, "PROCESSED", Pending, Partial, true,
		},
		"a newer PROCESSED over a result retrieves again": {
			result(Retrieved), []*Delivery{late("PROCESSED")}, "PROCESSED", Pending, Retrieved, false,
		},
		"a repeat of a failed one is tried again": {
			func(w *Execution) {
				w.RetrievalState, w.Status, w.DecidedSentAt = Failed, "PROCESSED", noon.Add(150*time.Second)
			}, []*Delivery{processed}, "PROCESSED", Pending, "", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &Execution{ID: "w", RetrievalState: Awaiting}
			if tc.before != nil {
				tc.before(w)
			}
			for _, d := range tc.deliveries {
				Promote(w, d, noon)
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
	w := &Execution{ID: "w", RetrievalState: Awaiting}
	Promote(w, delivery("MADE_UP", 1, 300, "forged"), noon)
	w.LeaseUntil = noon.Add(time.Minute)
	Promote(w, delivery("PROCESSED", 2, 2, "genuine"), noon)
	if w.RetrievalDueAt.IsZero() || !w.RetrievalAsksStatus {
		t.Errorf("due %v, asks %v: want Jumio asked after the attempt", w.RetrievalDueAt, w.RetrievalAsksStatus)
	}
}

// Once details are there, no callback changes whose they are.
func TestDetailsWin(t *testing.T) {
	w := &Execution{
		ID: "w", RetrievalState: Retrieved, Status: "PROCESSED", DecidedSentAt: noon, DetailsRetrievedAt: noon,
		AccountID: "account", UserReference: "mallory", WorkflowHref: "href", AccountHref: "account href",
	}
	forged := delivery("PROCESSED", 5, 5, "f")
	forged.AccountID, forged.UserReference, forged.DefinitionKey, forged.WorkflowHref, forged.AccountHref = "other", "carol", "9", "h", "a"
	if c := Promote(w, forged, noon); !c.Contradicts {
		t.Error("the contradiction is not noticed")
	}
	if w.AccountID != "account" || w.UserReference != "mallory" || w.DefinitionKey != "" || w.WorkflowHref != "href" || w.AccountHref != "account href" {
		t.Errorf("got %+v", w)
	}
	agreeing := delivery("PROCESSED", 6, 6, "g")
	agreeing.AccountID, agreeing.UserReference = "account", "mallory"
	if c := Promote(w, agreeing, noon); c.Contradicts {
		t.Error("a callback that agrees counts as a contradiction")
	}
}

// A storm of newer callbacks for one workflow execution begins a few retrievals at
// once, and then one each interval; one that is running is left to its end.
func TestStormIsPaced(t *testing.T) {
	w := &Execution{ID: "w", RetrievalState: Awaiting}
	generation := func() int { return w.RetrievalGeneration }
	storm := func(from time.Time) {
		for i := range 100 {
			d := delivery("PROCESSED", 0, 0, "s")
			d.ReceivedAt, d.CallbackSentAt = from.Add(time.Duration(i)*time.Millisecond), from.Add(time.Duration(i)*time.Millisecond)
			Promote(w, d, d.ReceivedAt)
		}
	}
	storm(noon)
	if generation() != PaceBurst {
		t.Errorf("a storm began %d retrievals, want %d", generation(), PaceBurst)
	}
	if due := w.RetrievalDueAt; due.Before(noon.Add(PaceInterval-time.Second)) || due.After(noon.Add(PaceInterval+time.Second)) {
		t.Errorf("the next one is due at %v, want in %v", due, PaceInterval)
	}
	storm(noon.Add(PaceInterval + time.Second))
	if generation() != PaceBurst+1 {
		t.Errorf("an interval later %d retrievals were begun, want %d", generation(), PaceBurst+1)
	}

	w = &Execution{ID: "w", RetrievalState: Pending, RetrievalGeneration: 1, LeaseUntil: noon.Add(time.Minute)}
	storm(noon)
	if generation() != 1 || w.RetrievalDueAt.IsZero() {
		t.Errorf("a running attempt: generation %d, due %v; want it left alone, and one after it", generation(), w.RetrievalDueAt)
	}
}

func TestFutureDated(t *testing.T) {
	for ahead, want := range map[time.Duration]bool{0: false, FutureTolerance: false, FutureTolerance + time.Second: true} {
		w := &Execution{ID: "w", RetrievalState: Awaiting}
		d := delivery("ACQUIRED", 0, 0, "a")
		d.CallbackSentAt = d.ReceivedAt.Add(ahead)
		if c := Promote(w, d, noon); c.FutureDated != want {
			t.Errorf("%v ahead: future is %v", ahead, c.FutureDated)
		}
		sent := d.CallbackSentAt
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
// each other, Jumio is asked in every order. Whose the workflow execution is, and
// where, is what the newest callback says that says it.
func TestPromoteOrderDoesNotMatter(t *testing.T) {
	for _, statuses := range [][]string{
		{StatusInitiated, StatusAcquisitionStarted, StatusAcquired},
		{StatusInitiated, StatusAcquired, StatusSessionExpired},
		{StatusInitiated, StatusAcquisitionStarted, StatusAcquired, StatusProcessed},
		{StatusInitiated, StatusAcquired, StatusProcessed, StatusSessionExpired, "NEW_ONE"},
		{StatusAcquired, StatusAcquired, StatusProcessed, StatusProcessed},
	} {
		// Which callbacks have the fields: bit i for the one with status i.
		for having := range 1 << len(statuses) {
			deliveries := make([]*Delivery, len(statuses))
			for i, status := range statuses {
				deliveries[i] = delivery(status, 60+i%2, i, status)
				if having&(1<<i) != 0 {
					name(deliveries[i], fmt.Sprint(i))
				}
			}
			var want *Execution
			for order := range permutations(len(statuses)) {
				e := &Execution{ID: "w", RetrievalState: Awaiting}
				for _, i := range order {
					Promote(e, deliveries[i], noon)
				}
				// They tell of what was begun on the way; and whether Jumio is asked
				// for the status does not matter before a status that has it asked.
				e.RetrievalGeneration, e.RetrievalPacedAt, e.RetrievalDueAt, e.RetrievalReceivedAt = 0, time.Time{}, time.Time{}, time.Time{}
				if e.Status != StatusProcessed {
					e.RetrievalAsksStatus = true
				}
				if want == nil {
					want = e
				} else if d := cmp.Diff(want, e); d != "" {
					t.Fatalf("%v, fields in %b: two orders, two ends (-one +other, %v):\n%s", statuses, having, order, d)
				}
			}
			if last := bits.Len(uint(having)) - 1; last >= 0 {
				if got := []string{want.AccountID, want.DefinitionKey, want.UserReference, want.WorkflowHref, want.AccountHref}; slices.ContainsFunc(got, func(s string) bool { return s != fmt.Sprint(last) }) {
					t.Fatalf("%v, fields in %b: got %v, want those of the newest that has them", statuses, having, got)
				}
			}
		}
	}
}

// name fills every field that says whose the workflow execution is, and where.
func name(d *Delivery, value string) {
	for _, field := range []*string{&d.AccountID, &d.DefinitionKey, &d.UserReference, &d.WorkflowHref, &d.AccountHref} {
		*field = value
	}
}

// permutations gives every order of the numbers below n.
func permutations(n int) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		var permute func(int) bool
		permute = func(k int) bool {
			if k == n {
				return yield(order)
			}
			for i := k; i < n; i++ {
				order[k], order[i] = order[i], order[k]
				if !permute(k + 1) {
					return false
				}
				order[k], order[i] = order[i], order[k]
			}
			return true
		}
		permute(0)
	}
}

// Of two callbacks of the same time, the one with a final status says whose the
// workflow execution is; else the later arrival.
func TestPromoteEqualTimes(t *testing.T) {
	for _, tc := range []struct{ first, last, want string }{
		{StatusProcessed, StatusAcquired, "first"},
		{StatusAcquired, StatusProcessed, "last"},
		{StatusAcquired, StatusInitiated, "last"},
		{StatusProcessed, StatusSessionExpired, "last"},
	} {
		e := &Execution{ID: "w", RetrievalState: Awaiting}
		for i, status := range []string{tc.first, tc.last} {
			d := delivery(status, i, 5, status)
			name(d, []string{"first", "last"}[i])
			Promote(e, d, noon)
		}
		if e.AccountID != tc.want || e.UserReference != tc.want {
			t.Errorf("%s, then %s: got %q, want %q", tc.first, tc.last, e.AccountID, tc.want)
		}
	}
}

// A row from before the times of its values were kept has them from the callback that
// decided.
func TestPromoteOldRow(t *testing.T) {
	for sent, want := range map[int]string{4: "known", 5: "newer", 6: "newer"} {
		e := &Execution{ID: "w", RetrievalState: Awaiting, Status: StatusAcquired, AccountID: "known", DecidedSentAt: noon.Add(5 * time.Second)}
		d := delivery(StatusAcquired, 60, sent, "a")
		d.AccountID = "newer"
		Promote(e, d, noon)
		if e.AccountID != want {
			t.Errorf("sent %d s after noon: account %q, want %q", sent, e.AccountID, want)
		}
	}
}

func TestPromoteKeepsWhatIsKnown(t *testing.T) {
	w := &Execution{ID: "w", RetrievalState: Awaiting}
	first := delivery("ACQUIRED", 1, 1, "a")
	first.AccountID, first.WorkflowHref, first.UserReference = "account", "href", "ref"
	last := delivery("PROCESSED", 2, 2, "b")
	last.WorkflowHref = "newer href"
	Promote(w, first, noon)
	Promote(w, last, noon)
	older := delivery("INITIATED", 3, 0, "c")
	older.DefinitionKey, older.AccountID = "3", "older account"
	Promote(w, older, noon)
	if w.AccountID != "account" || w.WorkflowHref != "newer href" || w.UserReference != "ref" || w.DefinitionKey != "3" {
		t.Errorf("got %+v", w)
	}
	if !w.FirstCallbackAt.Equal(first.ReceivedAt) || !w.LastCallbackAt.Equal(older.ReceivedAt) {
		t.Errorf("first %v, last %v", w.FirstCallbackAt, w.LastCallbackAt)
	}
}
