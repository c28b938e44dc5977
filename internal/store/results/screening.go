package results

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/callback"
	"callbackd/internal/tombstone"
)

// mostScreened bounds what one transaction looks through.
const mostScreened = 200

// Screen looks through what others than the worker have written, and deletes what is of
// somebody who is erased: rejected callbacks, and workflow executions that were expected.
// It reports whether there may be more.
func (s *Store) Screen(ctx context.Context) (more bool, err error) {
	rejected, err := s.screenRejected(ctx)
	if err != nil {
		return false, err
	}
	expected, barred, err := s.screenExpectations(ctx)
	if err != nil {
		return false, err
	}
	for _, e := range barred {
		if err := s.EraseBarred(ctx, e.id, e.account); err != nil {
			return false, err
		}
		// Only now: if this worker dies, another one looks again.
		if _, err := s.db.Pool().Exec(ctx, deleteUnscreened, "expectations", []string{e.id}); err != nil {
			return false, err
		}
	}
	return rejected == mostScreened || expected == mostScreened, nil
}

const (
	selectUnscreened = `SELECT id FROM callbackd.unscreened WHERE source = $1 LIMIT $2 FOR UPDATE SKIP LOCKED`
	deleteUnscreened = `DELETE FROM callbackd.unscreened WHERE source = $1 AND id = ANY ($2)`
)

// unscreened takes what is to be looked through, and reports whether anything is erased at
// all; while nothing is, nothing will be until the transaction ends.
func (tx *Tx) unscreened(ctx context.Context, source string) (ids []string, erased bool, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`SELECT EXISTS (SELECT FROM callbackd.tombstones)`).QueryRow(func(row pgx.Row) error { return row.Scan(&erased) })
	batch.Queue(selectUnscreened, source, mostScreened).Query(func(rows pgx.Rows) error {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return ids, erased, tx.SendBatch(ctx, batch).Close()
}

func (s *Store) screenRejected(ctx context.Context) (n int, err error) {
	err = s.InTx(ctx, "look through rejected callbacks for what is erased", func(tx *Tx) error {
		list, erased, err := tx.unscreened(ctx, "rejected_callbacks")
		n = len(list)
		if err != nil || n == 0 {
			return err
		}
		if erased {
			if err := tx.deleteBarredRejected(ctx, list); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, deleteUnscreened, "rejected_callbacks", list)
		return err
	})
	return n, err
}

// deleteBarredRejected deletes those of the rejected callbacks that name what is erased.
func (tx *Tx) deleteBarredRejected(ctx context.Context, list []string) error {
	rows, err := tx.Query(ctx, selectRejectedNames+` WHERE rejected_id = ANY ($1::text[]::uuid[])`, list)
	if err != nil {
		return err
	}
	rejected, err := pgx.CollectRows(rows, scanRejectedNames)
	if err != nil {
		return err
	}
	var barred []uuid.UUID
	for i := range rejected {
		r := &rejected[i]
		named := ids(r.Body)
		named[r.WorkflowExecutionID], named[r.AccountID] = true, true
		var subjects []tombstone.Subject
		for id := range named {
			if callback.ValidID(id) {
				subjects = append(subjects, tombstone.Subject{Kind: tombstone.WorkflowExecution, ID: id}, tombstone.Subject{Kind: tombstone.Account, ID: id})
			}
		}
		b := tx.barrier(subjects)
		if err := b.scan(tx.QueryRow(ctx, selectBarred, b.hashes)); err != nil {
			return err
		}
		if len(b.barred) > 0 {
			barred = append(barred, r.ID)
		}
	}
	return tx.deleteRejected(ctx, barred, func(string, int64) {})
}

// barredExecution is a workflow execution with what bars it.
type barredExecution struct{ id, account string }

func (s *Store) screenExpectations(ctx context.Context) (n int, barred []barredExecution, err error) {
	err = s.InTx(ctx, "look through expectations for what is erased", func(tx *Tx) error {
		barred = nil
		list, erased, err := tx.unscreened(ctx, "expectations")
		n = len(list)
		if err != nil || n == 0 {
			return err
		}
		if erased {
			if barred, err = tx.barredExpectations(ctx, list); err != nil {
				return err
			}
		}
		var rest []string
		keep := map[string]bool{}
		for _, e := range barred {
			keep[e.id] = true
		}
		for _, id := range list {
			if !keep[id] {
				rest = append(rest, id)
			}
		}
		_, err = tx.Exec(ctx, deleteUnscreened, "expectations", rest)
		return err
	})
	return n, barred, err
}

// barredExpectations returns those of the workflow executions that are erased, or of an
// account that is.
func (tx *Tx) barredExpectations(ctx context.Context, list []string) (barred []barredExecution, err error) {
	rows, err := tx.Query(ctx, `
		SELECT w.workflow_execution_id, w.account_id, e.account_id, w.erased_at IS NOT NULL AND e.workflow_execution_id IS NOT NULL
		FROM callbackd.workflow_executions AS w LEFT JOIN callbackd.expectations AS e USING (workflow_execution_id)
		WHERE w.workflow_execution_id = ANY ($1)`, list)
	if err != nil {
		return nil, err
	}
	type expected struct {
		id, account, expectedAccount string
		late                         bool // written after the erasure
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e expected, err error) {
		return e, row.Scan(&e.id, (*zeronull.Text)(&e.account), (*zeronull.Text)(&e.expectedAccount), &e.late)
	})
	if err != nil {
		return nil, err
	}
	var subjects []tombstone.Subject
	for _, e := range all {
		subjects = append(subjects, executionAndAccount(e.id, e.account)...)
		subjects = append(subjects, executionAndAccount(e.id, e.expectedAccount)...)
	}
	b := tx.barrier(subjects)
	if err := b.scan(tx.QueryRow(ctx, selectBarred, b.hashes)); err != nil {
		return nil, err
	}
	for _, e := range all {
		for _, account := range []string{e.account, e.expectedAccount} {
			if e.late || b.barred[tombstone.Subject{Kind: tombstone.WorkflowExecution, ID: e.id}] ||
				b.barred[tombstone.Subject{Kind: tombstone.Account, ID: account}] {
				barred = append(barred, barredExecution{e.id, account})
				break
			}
		}
	}
	return barred, nil
}
