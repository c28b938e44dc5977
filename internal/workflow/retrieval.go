package workflow

import "time"

// Callbacks can begin PaceBurst retrievals of a workflow execution at once and one
// more every PaceInterval, so that a flood of callbacks does not become a flood of
// requests to Jumio.
const (
	PaceBurst    = 4
	PaceInterval = 10 * time.Minute
)

// Retrieval names one retrieval of a workflow execution.
type Retrieval struct {
	WorkflowExecutionID string
	Generation          int
	// Known reports whether Jumio has confirmed the workflow execution, or another
	// one of its account, by its details.
	Known bool
}

// Retrieval returns the current retrieval.
func (e *Execution) Retrieval() Retrieval {
	return Retrieval{WorkflowExecutionID: e.ID, Generation: e.RetrievalGeneration, Known: e.Known()}
}

// want begins a retrieval for a callback. If an attempt is running or the pace does
// not allow it, want postpones the retrieval; a pending one continues meanwhile, with
// the new values from this callback.
func want(e *Execution, receivedAt, now time.Time) {
	running := e.RetrievalState == Pending && now.Before(e.LeaseUntil)
	next := latest(e.RetrievalPacedAt.Add(-(PaceBurst-1)*PaceInterval), now)
	if running || next.After(now) {
		if e.RetrievalDueAt.IsZero() {
			e.RetrievalDueAt = next
		}
		return
	}
	BeginPaced(e, receivedAt, now)
}

// BeginPaced begins a retrieval that counts against the workflow execution's pace.
func BeginPaced(e *Execution, receivedAt, now time.Time) {
	e.RetrievalPacedAt = latest(e.RetrievalPacedAt, now).Add(PaceInterval)
	Begin(e, receivedAt)
}

// Begin begins a retrieval, from attempt 1. receivedAt is when the callback arrived,
// or when a refetch was requested. The job of an earlier retrieval then finds nothing
// left to do.
func Begin(e *Execution, receivedAt time.Time) {
	if e.RetrievalState.hasResult() {
		e.ResultState = e.RetrievalState
	}
	e.RetrievalState = Pending
	e.RetrievalGeneration++
	e.RetrievalAttempts, e.RetrievalError = 0, ""
	e.RetrievalReceivedAt = receivedAt
	e.RetrievalDueAt = time.Time{}
}
