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

// AddEvents stores events and notifies consumers after the commit. It must be the last
// statement of its transaction, because it takes the lock that keeps event ids in the
// order of their commits.
func (tx *Tx) AddEvents(ctx context.Context, events ...workflow.Event) error {
	if len(events) == 0 {
		return nil
	}
	types, ids := make([]string, len(events)), make([]string, len(events))
	for i, e := range events {
		types[i], ids[i] = string(e.Type), e.WorkflowExecutionID
	}
	tx.AfterCommit(func() { tx.DB.Announce(ids) })
	_, err := tx.Exec(ctx, `SELECT callbackd.add_events($1::text[], $2::text[])`, types, ids)
	return err
}
