package results

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/tombstone"
)

// AtJumio is what is to be deleted at Jumio.
type AtJumio struct {
	Covered
	// Confirmed reports whether Jumio's details, and not callbacks, have named the account.
	Confirmed bool
}

// ToDelete returns what the order has yet to delete at Jumio: its accounts, or else its
// workflow execution. A legal hold that has come meanwhile puts the order off.
func (s *Store) ToDelete(ctx context.Context, o *Order) (list []AtJumio, err error) {
	kind := tombstone.Account
	if o.Kind == tombstone.WorkflowExecution {
		kind = tombstone.WorkflowExecution
	}
	err = s.inOrder(ctx, o, "look for what is to be deleted at Jumio", func(tx *orderTx) error {
		held, err := tx.heldUp(ctx, StepResolve)
		if err != nil || held {
			return err
		}
		if !tx.AtJumio {
			tx.Step = StepBar
			return nil
		}
		rows, err := tx.Query(ctx, `
			SELECT s.kind, s.subject, s.data_center, s.account_id, w.details_retrieved_at IS NOT NULL
			FROM callbackd.erasure_subjects AS s
			LEFT JOIN callbackd.workflow_executions AS w ON s.kind = 'workflow_execution' AND w.workflow_execution_id = s.subject
			WHERE s.order_id = $1 AND s.kind = $2 AND NOT s.deleted_at_jumio ORDER BY s.subject`, tx.ID, kind)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a AtJumio, err error) {
			return a, row.Scan(&a.Kind, &a.ID, (*zeronull.Text)(&a.DataCenter), (*zeronull.Text)(&a.AccountID), &a.Confirmed)
		})
		if err == nil && len(list) == 0 {
			tx.Step = StepBar
		}
		return err
	})
	return list, err
}

// AddAnswers stores Jumio's answers, and, if the subject is deleted there, that it is.
func (s *Store) AddAnswers(ctx context.Context, o *Order, subject tombstone.Subject, deleted bool, answers []Answer) error {
	return s.inOrder(ctx, o, "store Jumio's answers to a deletion", func(tx *orderTx) error {
		tx.Answers = append(tx.Answers, answers...)
		if !deleted {
			return nil
		}
		_, err := tx.Exec(ctx, `UPDATE callbackd.erasure_subjects SET deleted_at_jumio = true WHERE order_id = $1 AND kind = $2 AND subject = $3`,
			tx.ID, subject.Kind, subject.ID)
		return err
	})
}

// PutOff counts an attempt to delete at Jumio that has failed, and has the order wait for
// the next one. The zero time means that it was the last: the order has failed, and
// nothing of ours is deleted.
func (s *Store) PutOff(ctx context.Context, o *Order, next time.Time, cause string) error {
	return s.inOrder(ctx, o, "store that a deletion at Jumio has failed", func(tx *orderTx) error {
		tx.Attempts++
		tx.Error, tx.NextAt = cause, next
		if !next.IsZero() {
			return nil
		}
		tx.State = OrderFailed
		return tx.forgetSubjects(ctx)
	})
}
