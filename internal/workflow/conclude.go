package workflow

import "fmt"

// Result is what a retrieval has after an attempt, including what its earlier
// attempts stored.
type Result struct {
	// Failure is the attempt's first failure, as "code: detail"; empty if none.
	Failure string
	// Last reports whether this was the last attempt.
	Last bool
	// Status is the workflow's status according to Jumio; empty if unknown.
	Status     string
	HasDetails bool
	// Parts counts the image parts that the details name; Missing counts those of
	// them that have not been stored.
	Parts, Missing int
	// NoAddress is why some missing parts cannot be requested, as "code: detail";
	// empty if all can.
	NoAddress string
}

// Conclusion is what a Result means.
type Conclusion struct {
	// Outcome is how the retrieval ended; Pending if another attempt follows.
	Outcome RetrievalState
	// State is the workflow execution's new state: Outcome, or the earlier
	// retrieval's state.
	State RetrievalState
	// Error is the column retrieval_error.
	Error string
	// Status is the workflow execution's new status; empty to keep the old one.
	Status string
	// Event is the event to publish; empty for none.
	Event EventType
}

// Conclude says what r means for a workflow execution. The parameter earlier is the
// state that an earlier retrieval reached: Retrieved, Partial or empty. Its result
// stays: if the new retrieval gets nothing, or Jumio says that the workflow is not
// done, the workflow execution returns to that state without an event.
func Conclude(r Result, earlier RetrievalState) Conclusion {
	c := conclude(r)
	c.State = c.Outcome
	if earlier != "" && (c.Outcome == Failed || c.Outcome == Awaiting) {
		c.State, c.Event = earlier, ""
	}
	return c
}

func conclude(r Result) Conclusion {
	c := Conclusion{Error: r.Failure}
	final, known := FinalStatus(r.Status)
	if known {
		c.Status = r.Status
	}
	missing := ""
	if r.Parts > 0 {
		missing = fmt.Sprintf(" (%d of %d images missing)", r.Missing, r.Parts)
	}
	switch {
	case r.Failure != "" && !r.Last:
		c.Outcome = Pending
	case r.Failure != "" && !r.HasDetails:
		c.Outcome, c.Event = Failed, EventRetrievalFailed
	case r.Failure != "":
		c.Outcome, c.Event = Partial, EventRetrieved
		c.Error += missing
	case !r.HasDetails && !final:
		c.Outcome = Awaiting
	case !r.HasDetails:
		c.Outcome, c.Event = NotRequired, EventExpired
	case r.NoAddress != "":
		c.Outcome, c.Event = Partial, EventRetrieved
		c.Error = r.NoAddress + missing
	default:
		c.Outcome, c.Event = Retrieved, EventRetrieved
	}
	return c
}
