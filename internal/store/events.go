package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// EventType is the column type of jumio.events.
type EventType string

// The event types.
const (
	EventCallbackReceived EventType = "callback_received"
	EventRetrieved        EventType = "retrieved"
	EventRetrievalFailed  EventType = "retrieval_failed"
	EventExpired          EventType = "expired"
)

// Event is one line of jumio.events.
type Event struct {
	Type                EventType
	WorkflowExecutionID string
}

// addEvents must be the last statement of its transaction: it takes the lock that
// keeps the event ids in the order of their commits. After the commit, announce
// tells those who listen.
func addEvents(ctx context.Context, tx pgx.Tx, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	types, ids := make([]string, len(events)), make([]string, len(events))
	for i, e := range events {
		types[i], ids[i] = string(e.Type), e.WorkflowExecutionID
	}
	_, err := tx.Exec(ctx, `SELECT callbackd.add_events($1::text[], $2::text[])`, types, ids)
	return err
}
