// Package results holds the statements that the worker and the operators' commands
// execute: promotion, retrieval, images, events, rejected callbacks. They need the
// rights of the schema's owner, which nothing that faces the internet has.
//
// It decides nothing: the rules are in internal/workflow.
package results

import (
	"context"

	"callbackd/internal/store"
	"callbackd/internal/workflow"
)

// Store executes the statements. It is safe for concurrent use.
type Store struct{ db *store.DB }

// New creates a Store.
func New(db *store.DB) *Store { return &Store{db} }

// Tx is a transaction of several statements.
type Tx struct{ *store.Tx }

// InTx is store.DB.InTx.
func (s *Store) InTx(ctx context.Context, doing string, f func(*Tx) error) error {
	return s.db.InTx(ctx, doing, func(tx *store.Tx) error { return f(&Tx{tx}) })
}

// AddEvents stores events, as the last statement of the transaction, because it takes the
// lock that keeps event ids in the order of their commits. After the commit, consumers are
// notified.
func (tx *Tx) AddEvents(events ...workflow.Event) {
	if len(events) == 0 {
		return
	}
	ids, rows := make([]string, len(events)), make([]*workflow.Event, len(events))
	for i := range events {
		ids[i], rows[i] = events[i].WorkflowExecutionID, &events[i]
	}
	tx.AfterCommit(func() { tx.DB.Announce(ids) })
	tx.Last(addEvents, append([]any{len(events)}, eventRow.Arrays(rows)...)...)
}

var (
	eventRow  = store.RowOf[workflow.Event]()
	addEvents = `INSERT INTO callbackd.events (event_id, occurred_at, ` + eventRow.Written() + `)
		SELECT t.last + row_number() OVER (), clock_timestamp(), n.* FROM callbackd.take_event_ids($1) AS t (last), ` + eventRow.Unnest("n", 1)
)
