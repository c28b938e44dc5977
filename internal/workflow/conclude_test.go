package workflow

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConclude(t *testing.T) {
	const failure = "not_found: details answered 404"
	for name, tc := range map[string]struct {
		result  Result
		earlier RetrievalState
		want    Conclusion
	}{
		"all there": {
			Result{Status: StatusProcessed, HasDetails: true, Parts: 2},
			"",
			Conclusion{Outcome: Retrieved, State: Retrieved, Status: StatusProcessed, Event: EventRetrieved},
		},
		"an unknown status in the details": {
			Result{Status: "NEW_ONE", HasDetails: true},
			"",
			Conclusion{Outcome: Retrieved, State: Retrieved, Event: EventRetrieved},
		},
		"a failure before the last attempt": {
			Result{Failure: failure},
			"",
			Conclusion{Outcome: Pending, State: Pending, Error: failure},
		},
		"a failure before the last attempt, over a result": {
			Result{Failure: failure},
			Retrieved,
			Conclusion{Outcome: Pending, State: Pending, Error: failure},
		},
		"nothing in the end": {
			Result{Failure: failure, Last: true},
			"",
			Conclusion{Outcome: Failed, State: Failed, Error: failure, Event: EventRetrievalFailed},
		},
		"nothing in the end, over a result": {
			Result{Failure: failure, Last: true},
			Retrieved,
			Conclusion{Outcome: Failed, State: Retrieved, Error: failure},
		},
		"nothing in the end, over a part of a result": {
			Result{Failure: failure, Last: true},
			Partial,
			Conclusion{Outcome: Failed, State: Partial, Error: failure},
		},
		"an image missing in the end": {
			Result{Failure: failure, Last: true, HasDetails: true, Parts: 3, Missing: 1},
			"",
			Conclusion{Outcome: Partial, State: Partial, Error: failure + " (1 of 3 images missing)", Event: EventRetrieved},
		},
		"stored details that cannot be read in the end": {
			Result{Failure: failure, Last: true, HasDetails: true},
			"",
			Conclusion{Outcome: Partial, State: Partial, Error: failure, Event: EventRetrieved},
		},
		"an image that has no address": {
			Result{Status: StatusProcessed, HasDetails: true, Parts: 3, Missing: 1, NoAddress: "part_address: no id"},
			"",
			Conclusion{Outcome: Partial, State: Partial, Status: StatusProcessed, Error: "part_address: no id (1 of 3 images missing)", Event: EventRetrieved},
		},
		"the person is still at it": {
			Result{Status: StatusAcquired},
			"",
			Conclusion{Outcome: Awaiting, State: Awaiting, Status: StatusAcquired},
		},
		"the person is said to be still at it, over a result": {
			Result{Status: StatusAcquired},
			Retrieved,
			Conclusion{Outcome: Awaiting, State: Retrieved, Status: StatusAcquired},
		},
		"expired": {
			Result{Status: StatusSessionExpired},
			"",
			Conclusion{Outcome: NotRequired, State: NotRequired, Status: StatusSessionExpired, Event: EventExpired},
		},
		"expired, as Jumio itself says, over a result": {
			Result{Status: StatusTokenExpired},
			Retrieved,
			Conclusion{Outcome: NotRequired, State: NotRequired, Status: StatusTokenExpired, Event: EventExpired},
		},
	} {
		if d := cmp.Diff(tc.want, Conclude(tc.result, tc.earlier)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
