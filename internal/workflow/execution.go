package workflow

import (
	"time"

	"callbackd/internal/callback"
)

// RetrievalState is the column retrieval_state of jumio.workflow_executions.
type RetrievalState string

// The retrieval states.
const (
	Awaiting    RetrievalState = "awaiting"
	Pending     RetrievalState = "pending"
	Retrieved   RetrievalState = "retrieved"
	Partial     RetrievalState = "partial"
	Failed      RetrievalState = "failed"
	NotRequired RetrievalState = "not_required"
)

// hasResult reports whether a retrieval that ended in s got something.
func (s RetrievalState) hasResult() bool { return s == Retrieved || s == Partial }

// EventType is the column type of jumio.events.
type EventType string

// The event types.
const (
	EventCallbackReceived EventType = "callback_received"
	EventDetailsRetrieved EventType = "details_retrieved"
	EventRetrieved        EventType = "retrieved"
	EventRetrievalFailed  EventType = "retrieval_failed"
	EventExpired          EventType = "expired"
	EventRecovered        EventType = "missed_callback_recovered"
	EventOverdue          EventType = "overdue"
	EventErased           EventType = "erased"
)

// Event is a row of jumio.events, with what is known after it.
type Event struct {
	Type                EventType      `db:"type"`
	WorkflowExecutionID string         `db:"workflow_execution_id"`
	AccountID           string         `db:"account_id"`
	UserReference       string         `db:"user_reference"`
	RetrievalState      RetrievalState `db:"retrieval_state"`
	DecisionType        string         `db:"decision_type"`
	// Changed reports, of a retrieval, whether anything differs from an earlier one; nil
	// for other events.
	Changed *bool `db:"changed"`
}

// Event returns an event of the workflow execution, as it is now.
func (e *Execution) Event(t EventType) Event {
	return Event{
		Type: t, WorkflowExecutionID: e.ID, AccountID: e.AccountID, UserReference: e.UserReference,
		RetrievalState: e.RetrievalState, DecisionType: e.DecisionType,
	}
}

// Execution is the state of a workflow execution. With only ID and RetrievalState
// set, no callback has named it yet. The tags are the columns of
// callbackd.workflow_executions, where empty strings and zero times are NULL.
type Execution struct {
	ID            string `db:"workflow_execution_id"`
	AccountID     string `db:"account_id"`
	DefinitionKey string `db:"definition_key"`
	Status        string `db:"status"`
	UserReference string `db:"user_reference"`
	// UserReferenceUnsigned is the UserReference without our signature.
	UserReferenceUnsigned string `db:"user_reference_unsigned"`
	WorkflowHref          string `db:"workflow_href"`
	AccountHref           string `db:"account_href"`

	// When the callbacks that supplied these values were sent.
	AccountIDSentAt     time.Time `db:"account_id_sent_at"`
	DefinitionKeySentAt time.Time `db:"definition_key_sent_at"`
	UserReferenceSentAt time.Time `db:"user_reference_sent_at"`
	WorkflowHrefSentAt  time.Time `db:"workflow_href_sent_at"`
	AccountHrefSentAt   time.Time `db:"account_href_sent_at"`

	CallbackCount   int64     `db:"callback_count"`
	FirstCallbackAt time.Time `db:"first_callback_at"`
	LastCallbackAt  time.Time `db:"last_callback_at"`

	// DecidedSentAt and DecidedBodyDigest describe the callback that decides the
	// state; zero before the first callback.
	DecidedSentAt     time.Time `db:"decided_sent_at"`
	DecidedBodyDigest []byte    `db:"decided_body_digest"`

	RetrievalState RetrievalState `db:"retrieval_state"`
	// RetrievalGeneration counts the retrievals.
	RetrievalGeneration int    `db:"retrieval_generation"`
	RetrievalAttempts   int    `db:"retrieval_attempts"`
	RetrievalError      string `db:"retrieval_error"`
	// RetrievalReceivedAt is when the callback that began the retrieval arrived.
	RetrievalReceivedAt time.Time `db:"retrieval_received_at"`
	// ResultState is the state to return to if the retrieval gets nothing:
	// Retrieved or Partial after an earlier result, else empty.
	ResultState RetrievalState `db:"result_state"`
	// RetrievalAsksStatus reports whether the retrieval begins with Get Status.
	RetrievalAsksStatus bool `db:"retrieval_asks_status"`
	// RetrievalDueAt is when another retrieval is to begin; zero for none.
	RetrievalDueAt time.Time `db:"retrieval_due_at"`
	// RetrievalPacedAt is the theoretical arrival time of the generic cell rate
	// algorithm, which paces retrievals; zero before the first.
	RetrievalPacedAt time.Time `db:"retrieval_paced_at"`

	// OverdueAt is when Jumio had been asked to the end without a final status; zero if it
	// has not, or if a callback has come since.
	OverdueAt time.Time `db:"overdue_at"`
	// RecoveredStatus is the final status that Jumio returned when it was asked, until the
	// callback that should have brought it comes after all; empty otherwise.
	RecoveredStatus string `db:"recovered_status"`

	// ExpectedAt is when it was said to have been started; zero if that was not said.
	ExpectedAt time.Time `db:"expected_at,readonly"`
	// ErasedAt is when it was erased; zero if it was not. Then only its ID is left.
	ErasedAt time.Time `db:"erased_at,readonly"`

	// Only attempts write the following fields.

	// DetailsRetrievedAt is when details were first stored; zero before.
	DetailsRetrievedAt time.Time `db:"details_retrieved_at,readonly"`
	// DataCenter is the data center that returned the details; before, the one in which it
	// was said to have been started, or empty.
	DataCenter string `db:"data_center,readonly"`
	// DecisionType is what has been decided by the details; empty before.
	DecisionType string `db:"decision_type,readonly"`
	// RetrievalChanged reports whether an earlier attempt of the retrieval got something
	// that differs from an earlier retrieval.
	RetrievalChanged bool `db:"retrieval_changed,readonly"`
	// LeaseUntil is when the running attempt's lease ends.
	LeaseUntil time.Time `db:"lease_until,readonly"`
}

// Known reports whether Jumio has confirmed the workflow execution by its details.
func (e *Execution) Known() bool { return !e.DetailsRetrievedAt.IsZero() }

// Delivery is one arrival of a callback as promotion reads it: without its body,
// bounded whoever wrote the row, and never received in the future.
type Delivery struct {
	callback.Callback
	// BodyDigest is a SHA-256 that identifies the body; nil if CallbackSentAt
	// suffices.
	BodyDigest []byte `db:"body_digest"`
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
