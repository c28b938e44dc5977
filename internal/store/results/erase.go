package results

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/store"
	"callbackd/internal/tombstone"
	"callbackd/internal/workflow"
)

const (
	// mostErased and mostImagesErased bound the rows of one table that a transaction
	// deletes: anybody can send a hundred thousand callbacks of a workflow execution.
	mostErased, mostImagesErased = 5000, 200
)

// erasing is a workflow execution that is being erased.
type erasing struct {
	id      string
	orderID uuid.UUID
	count   func(table string, n int64)
	deleted int64
}

func (e *erasing) counted(table string) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		e.deleted += tag.RowsAffected()
		e.count(table, tag.RowsAffected())
		return nil
	}
}

// erase deletes what there is of a workflow execution, as far as one transaction may, and
// reports whether more is left. If nothing is, its row says that it is erased, and so does
// an event.
//
// It locks in promotion's order: the inbox, the workflow execution, the callbacks. What a
// promotion under way has locked is left to it.
func (tx *Tx) erase(ctx context.Context, e *erasing) (more bool, err error) {
	batch := &pgx.Batch{}
	queue := func(table, sql string, args ...any) {
		batch.Queue(sql, append([]any{e.id}, args...)...).Exec(e.counted(table))
	}
	queue("inbox", `DELETE FROM callbackd.inbox WHERE callback_id = ANY (ARRAY(
		SELECT callback_id FROM callbackd.inbox WHERE callback_id = ANY (ARRAY(
			SELECT callback_id FROM callbackd.callbacks WHERE workflow_execution_id = $1 LIMIT $2)) FOR UPDATE SKIP LOCKED))`, mostErased)
	var detailsID *uuid.UUID
	known := false
	batch.Queue(`SELECT details_id FROM callbackd.workflow_executions WHERE workflow_execution_id = $1 AND erased_at IS NULL FOR UPDATE`, e.id).
		Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&detailsID}, func() error { known = true; return nil })
			return err
		})
	queue("callbacks", `DELETE FROM callbackd.callbacks WHERE callback_id = ANY (ARRAY(
		SELECT callback_id FROM callbackd.callbacks WHERE workflow_execution_id = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))`, mostErased)
	queue("rejected_callbacks", `DELETE FROM callbackd.rejected_callbacks WHERE rejected_id = ANY (ARRAY(
		SELECT rejected_id FROM callbackd.rejected_callbacks WHERE workflow_execution_id = $1 LIMIT $2))`, mostErased)
	queue("events", `DELETE FROM callbackd.events WHERE event_id = ANY (ARRAY(
		SELECT event_id FROM callbackd.events WHERE workflow_execution_id = $1 AND type <> 'erased' LIMIT $2))`, mostErased)
	batch.Queue(`
		WITH gone AS (
			DELETE FROM callbackd.images WHERE image_id = ANY (ARRAY(SELECT image_id FROM callbackd.images WHERE workflow_execution_id = $1 LIMIT $2))
			RETURNING object_key, stored_in
		), queued AS (
			INSERT INTO callbackd.object_deletions (object_key, stored_in, order_id)
			SELECT object_key, stored_in, $3 FROM gone WHERE object_key IS NOT NULL
			ON CONFLICT (object_key) DO UPDATE SET order_id = excluded.order_id
		)
		SELECT count(*), count(object_key) FROM gone`, e.id, mostImagesErased, e.orderID).QueryRow(func(row pgx.Row) error {
		var images, objects int64
		err := row.Scan(&images, &objects)
		e.deleted += images
		e.count("images", images)
		e.count("objects", objects)
		return err
	})
	// What is being uploaded may arrive until its attempt is cut off.
	batch.Queue(`
		WITH gone AS (DELETE FROM callbackd.image_uploads WHERE workflow_execution_id = $1 RETURNING object_key, stored_in, started_at)
		INSERT INTO callbackd.object_deletions (object_key, stored_in, not_before, order_id)
		SELECT object_key, stored_in, started_at + interval '2 minutes', $2 FROM gone
		ON CONFLICT (object_key) DO UPDATE SET order_id = excluded.order_id`, e.id, e.orderID)
	queue("expectations", `DELETE FROM callbackd.expectations WHERE workflow_execution_id = $1`)
	queue("mentions", `DELETE FROM callbackd.mentions WHERE workflow_execution_id = $1`)
	batch.Queue(`UPDATE callbackd.image_reads SET workflow_execution_id = NULL WHERE workflow_execution_id = $1`, e.id)
	batch.Queue(`DELETE FROM callbackd.unscreened WHERE source = 'expectations' AND id = $1`, e.id)
	queue("workflow_details", `DELETE FROM callbackd.workflow_details WHERE workflow_execution_id = $1`)
	queue("extracted_documents", `DELETE FROM callbackd.extracted_documents WHERE workflow_execution_id = $1`)
	batch.Queue(`
		SELECT EXISTS (SELECT FROM callbackd.callbacks WHERE workflow_execution_id = $1)
			OR EXISTS (SELECT FROM callbackd.rejected_callbacks WHERE workflow_execution_id = $1)
			OR EXISTS (SELECT FROM callbackd.events WHERE workflow_execution_id = $1 AND type <> 'erased')
			OR EXISTS (SELECT FROM callbackd.images WHERE workflow_execution_id = $1)`, e.id).QueryRow(func(row pgx.Row) error { return row.Scan(&more) })
	if err := tx.SendBatch(ctx, batch).Close(); err != nil || more || !known {
		return more, err
	}
	return false, tx.scrub(ctx, e, detailsID)
}

// scrub deletes the details of a workflow execution, puts a row that says that it is erased
// in the place of its own, and tells consumers.
func (tx *Tx) scrub(ctx context.Context, e *erasing, detailsID *uuid.UUID) error {
	batch := &pgx.Batch{}
	if detailsID != nil {
		for _, table := range []string{"credentials", "capabilities", "details"} {
			batch.Queue(`DELETE FROM callbackd.`+table+` WHERE details_id = $1`, *detailsID).Exec(e.counted(table))
		}
	}
	// Only what is named here stays, whatever columns there will be.
	var generation int
	batch.Queue(`DELETE FROM callbackd.workflow_executions WHERE workflow_execution_id = $1 RETURNING retrieval_generation`, e.id).
		QueryRow(func(row pgx.Row) error { return row.Scan(&generation) })
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO callbackd.workflow_executions (workflow_execution_id, retrieval_state, retrieval_generation, erased_at, erasure_order_id)
		VALUES ($1, 'not_required', $2, clock_timestamp(), $3)`, e.id, generation+1, e.orderID); err != nil {
		return err
	}
	tx.AddEvents(workflow.Event{Type: workflow.EventErased, WorkflowExecutionID: e.id})
	// The event has the last id: its lock is held.
	tx.Last(`UPDATE callbackd.erasures SET last_event_id = (SELECT last_value FROM callbackd.event_ids) WHERE order_id = $1 AND finished_at IS NULL`, e.orderID)
	return nil
}

// EraseBarred erases a workflow execution that has come after its account, or itself, was
// erased: one that nobody knew to be of it. accountID may be empty.
func (s *Store) EraseBarred(ctx context.Context, workflowExecutionID, accountID string) error {
	hashes := [][]byte{}
	for _, subject := range executionAndAccount(workflowExecutionID, accountID) {
		hashes = append(hashes, s.db.ErasureKey.Hash(subject))
	}
	for more := true; more; {
		err := s.InTx(ctx, "erase a workflow execution of what is erased", func(tx *Tx) error {
			var orderID uuid.UUID
			err := tx.QueryRow(ctx, `
				SELECT order_id FROM callbackd.tombstones WHERE hash = ANY ($1)
				UNION ALL SELECT erasure_order_id FROM callbackd.workflow_executions WHERE workflow_execution_id = $2 AND erasure_order_id IS NOT NULL
				LIMIT 1`, hashes, workflowExecutionID).Scan(&orderID)
			if errors.Is(err, pgx.ErrNoRows) {
				more = false
				return nil
			}
			if err != nil {
				return err
			}
			deleted := map[string]int64{}
			more, err = tx.eraseCounted(ctx, orderID, workflowExecutionID, deleted)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eraseIfBarred erases a workflow execution if err is ErrErased, and returns err.
func (s *Store) eraseIfBarred(ctx context.Context, err error, workflowExecutionID, accountID string) error {
	if errors.Is(err, ErrErased) {
		if failed := s.EraseBarred(ctx, workflowExecutionID, accountID); failed != nil {
			return failed
		}
	}
	return err
}

// eraseCounted erases a workflow execution, and counts with the order unless that is done.
// The order's row is locked first, as in inOrder.
func (tx *Tx) eraseCounted(ctx context.Context, orderID uuid.UUID, id string, deleted map[string]int64) (more bool, err error) {
	if _, err := tx.Exec(ctx, `SELECT FROM callbackd.erasures WHERE order_id = $1 FOR UPDATE`, orderID); err != nil {
		return false, err
	}
	e := &erasing{id: id, orderID: orderID, count: func(table string, n int64) {
		if n > 0 {
			deleted[table] += n
		}
	}}
	if more, err = tx.erase(ctx, e); err != nil {
		return more, err
	}
	tag, err := tx.Exec(ctx, `DELETE FROM callbackd.river_job WHERE args ->> 'workflow_execution_id' = $1`, id)
	if err != nil {
		return more, err
	}
	e.count("river_job", tag.RowsAffected())
	_, err = tx.Exec(ctx, `
		UPDATE callbackd.erasures AS e SET deleted = e.deleted || (
			SELECT coalesce(jsonb_object_agg(n.key, coalesce((e.deleted ->> n.key)::bigint, 0) + n.value::bigint), '{}') FROM jsonb_each_text($2) AS n)
		WHERE order_id = $1 AND finished_at IS NULL`, orderID, deleted)
	return more, err
}

// EraseMentions deletes what other workflow executions say of what the order covers, the
// jobs, and the reports about its accounts. It reports whether it got on.
func (s *Store) EraseMentions(ctx context.Context, o *Order, referenceKey string) (progress bool, err error) {
	err = s.inOrder(ctx, o, "erase what names what is erased", func(tx *orderTx) error {
		progress = true
		n, err := tx.namesOf(ctx, referenceKey)
		if err != nil {
			return err
		}
		var id string
		err = tx.QueryRow(ctx, `
			SELECT w.workflow_execution_id FROM callbackd.workflow_executions AS w
			WHERE w.workflow_execution_id IN (
				SELECT m.workflow_execution_id FROM callbackd.mentions AS m WHERE m.subject = ANY ($1::text[] || $2::text[] || $3::text[])
				UNION SELECT x.workflow_execution_id FROM callbackd.workflow_executions AS x WHERE x.account_id = ANY ($1)
				UNION SELECT x.workflow_execution_id FROM callbackd.workflow_executions AS x WHERE x.user_reference = ANY ($2)
				UNION SELECT x.workflow_execution_id FROM callbackd.workflow_executions AS x WHERE x.user_reference_unsigned = ANY ($2))
			LIMIT 1`, n.accounts, n.references, n.executions).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return tx.eraseJobs(ctx, n)
		}
		if err != nil {
			return err
		}
		progress, err = tx.eraseMention(ctx, n, id)
		return err
	})
	return progress, err
}

// names are the texts by which what an order covers is named.
type names struct{ accounts, references, executions []string }

func (n *names) all() []string {
	return append(append(append([]string{}, n.accounts...), n.references...), n.executions...)
}

// namesOf returns the names of what the order covers; references in all their forms.
func (tx *orderTx) namesOf(ctx context.Context, referenceKey string) (*names, error) {
	rows, err := tx.Query(ctx, `SELECT kind, subject FROM callbackd.erasure_subjects WHERE order_id = $1`, tx.ID)
	if err != nil {
		return nil, err
	}
	n := &names{accounts: []string{}, references: []string{}, executions: []string{}}
	var kind tombstone.Kind
	var subject string
	_, err = pgx.ForEachRow(rows, []any{&kind, &subject}, func() error {
		switch kind {
		case tombstone.Account:
			n.accounts = append(n.accounts, subject)
		case tombstone.UserReference:
			n.references = append(n.references, referenceForms(referenceKey, subject)...)
		case tombstone.WorkflowExecution:
			n.executions = append(n.executions, subject)
		}
		return nil
	})
	return n, err
}

// hrefNames is whether an href names one of the ids in a parameter.
func hrefNames(column, segment, parameter string) string {
	return `split_part(split_part(split_part(` + column + `, '` + segment + `/', 2), '/', 1), '?', 1) = ANY (` + parameter + `)`
}

var namingCallbacks = `SELECT callback_id FROM callbackd.callbacks WHERE workflow_execution_id = $4 AND (account_id = ANY ($1) OR user_reference = ANY ($2)
	OR ` + hrefNames("workflow_href", "accounts", "$1") + ` OR ` + hrefNames("account_href", "accounts", "$1") + `
	OR ` + hrefNames("workflow_href", "workflow-executions", "$3") + ` OR ` + hrefNames("account_href", "workflow-executions", "$3") + `)`

// eraseMention deletes the callbacks of another workflow execution that name what is
// erased, and takes the names out of its row, its events and its expectation.
func (tx *orderTx) eraseMention(ctx context.Context, n *names, id string) (progress bool, err error) {
	// As in erase: the inbox, the workflow execution, the callbacks.
	var inbox, callbacks int64
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM callbackd.inbox WHERE callback_id = ANY (ARRAY(
		SELECT callback_id FROM callbackd.inbox WHERE callback_id = ANY (ARRAY(`+namingCallbacks+` LIMIT $5)) FOR UPDATE SKIP LOCKED))`,
		n.accounts, n.references, n.executions, id, mostErased).Exec(func(tag pgconn.CommandTag) error { inbox = tag.RowsAffected(); return nil })
	batch.Queue(`SELECT FROM callbackd.workflow_executions WHERE workflow_execution_id = $1 FOR UPDATE`, id)
	batch.Queue(`DELETE FROM callbackd.callbacks WHERE callback_id = ANY (ARRAY(`+namingCallbacks+` LIMIT $5 FOR UPDATE SKIP LOCKED))`,
		n.accounts, n.references, n.executions, id, mostErased).Exec(func(tag pgconn.CommandTag) error { callbacks = tag.RowsAffected(); return nil })
	var more bool
	batch.Queue(`SELECT EXISTS (`+namingCallbacks+`)`, n.accounts, n.references, n.executions, id).QueryRow(func(row pgx.Row) error { return row.Scan(&more) })
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return false, err
	}
	tx.count("inbox", inbox)
	tx.count("callbacks", callbacks)
	if more {
		return callbacks > 0, nil
	}
	clean := &pgx.Batch{}
	clean.Queue(`UPDATE callbackd.workflow_executions SET
			account_id = CASE WHEN account_id = ANY ($1) THEN NULL ELSE account_id END,
			user_reference = CASE WHEN user_reference = ANY ($2) THEN NULL ELSE user_reference END,
			user_reference_unsigned = CASE WHEN user_reference_unsigned = ANY ($2) THEN NULL ELSE user_reference_unsigned END,
			workflow_href = CASE WHEN `+hrefNames("workflow_href", "accounts", "$1")+` OR `+hrefNames("workflow_href", "workflow-executions", "$3")+` THEN NULL ELSE workflow_href END,
			account_href = CASE WHEN `+hrefNames("account_href", "accounts", "$1")+` OR `+hrefNames("account_href", "workflow-executions", "$3")+` THEN NULL ELSE account_href END
		WHERE workflow_execution_id = $4`, n.accounts, n.references, n.executions, id)
	clean.Queue(`UPDATE callbackd.events SET account_id = CASE WHEN account_id = ANY ($1) THEN NULL ELSE account_id END,
			user_reference = CASE WHEN user_reference = ANY ($2) THEN NULL ELSE user_reference END
		WHERE workflow_execution_id = $3 AND (account_id = ANY ($1) OR user_reference = ANY ($2))`, n.accounts, n.references, id)
	clean.Queue(`UPDATE callbackd.expectations SET account_id = CASE WHEN account_id = ANY ($1) THEN NULL ELSE account_id END,
			user_reference = CASE WHEN user_reference = ANY ($2) THEN NULL ELSE user_reference END
		WHERE workflow_execution_id = $3 AND (account_id = ANY ($1) OR user_reference = ANY ($2))`, n.accounts, n.references, id)
	clean.Queue(`DELETE FROM callbackd.mentions WHERE workflow_execution_id = $1 AND subject = ANY ($2)`, id, n.all()).
		Exec(func(tag pgconn.CommandTag) error { tx.count("mentions", tag.RowsAffected()); return nil })
	return true, tx.SendBatch(ctx, clean).Close()
}

// eraseJobs deletes the jobs that name what is erased, and what was reported of its
// accounts.
func (tx *orderTx) eraseJobs(ctx context.Context, n *names) error {
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM callbackd.river_job WHERE args ->> 'workflow_execution_id' = ANY ($1) OR args ->> 'account_id' = ANY ($2)`,
		n.executions, n.accounts).Exec(func(tag pgconn.CommandTag) error { tx.count("river_job", tag.RowsAffected()); return nil })
	batch.Queue(`DELETE FROM callbackd.relationships WHERE account_id = ANY ($1)`, n.accounts).
		Exec(func(tag pgconn.CommandTag) error { tx.count("relationships", tag.RowsAffected()); return nil })
	batch.Queue(`DELETE FROM callbackd.mentions WHERE subject = ANY ($1)`, n.all()).
		Exec(func(tag pgconn.CommandTag) error { tx.count("mentions", tag.RowsAffected()); return nil })
	tx.Step = StepRejected
	return tx.SendBatch(ctx, batch).Close()
}

// mostSearched bounds the rejected callbacks whose bodies one transaction searches.
const mostSearched = 5000

// EraseRejected deletes the rejected callbacks after one that name what is erased, at most
// as many as one transaction searches. It returns the last of them, for the next call.
func (s *Store) EraseRejected(ctx context.Context, o *Order, referenceKey string, after uuid.UUID) (last uuid.UUID, err error) {
	err = s.inOrder(ctx, o, "erase rejected callbacks", func(tx *orderTx) error {
		n, err := tx.namesOf(ctx, referenceKey)
		if err != nil {
			return err
		}
		var found []uuid.UUID
		if last, found, err = tx.findRejected(ctx, newFinder(n.all()), after); err != nil {
			return err
		}
		if last == after {
			tx.Step = StepObjects
			return nil
		}
		return tx.deleteRejected(ctx, found, tx.count)
	})
	return last, err
}

// findRejected searches rejected callbacks after one, in the order of their ids. It returns
// the last that it has searched, and those that the finder finds something in.
func (tx *Tx) findRejected(ctx context.Context, f *finder, after uuid.UUID) (last uuid.UUID, found []uuid.UUID, err error) {
	last = after
	rows, err := tx.Query(ctx, selectRejectedNames+` WHERE rejected_id > $1 ORDER BY rejected_id LIMIT $2`, after, mostSearched)
	if err != nil {
		return last, nil, err
	}
	var r rejectedNames
	_, err = pgx.ForEachRow(rows, r.columns(), func() error {
		last = r.ID
		if f.in(&r) {
			found = append(found, r.ID)
		}
		return nil
	})
	return last, found, err
}

// deleteRejected deletes rejected callbacks, and the callbacks whose dead letters they are.
func (tx *Tx) deleteRejected(ctx context.Context, ids []uuid.UUID, count func(table string, n int64)) error {
	if len(ids) == 0 {
		return nil
	}
	for _, d := range []struct{ table, column string }{{"inbox", "callback_id"}, {"callbacks", "callback_id"}, {"rejected_callbacks", "rejected_id"}} {
		tag, err := tx.Exec(ctx, `DELETE FROM callbackd.`+d.table+` WHERE `+d.column+` = ANY ($1)`, ids)
		if err != nil {
			return err
		}
		count(d.table, tag.RowsAffected())
	}
	return nil
}

// ErasureStates counts orders by state, and returns when the oldest one that is neither
// held nor over was given; zero if there is none. A failed one does not count once its
// subject has been ordered again.
func (s *Store) ErasureStates(ctx context.Context) (states map[OrderState]int64, oldest time.Time, err error) {
	const doing = "count the orders to erase"
	rows, err := s.db.Pool().Query(ctx, `
		SELECT e.state, count(*), min(e.requested_at) FILTER (WHERE e.state IN ('ordered', 'running'))
		FROM callbackd.erasures AS e
		WHERE e.state <> 'failed' OR NOT EXISTS (
			SELECT FROM callbackd.erasures AS l WHERE l.subject_hash = e.subject_hash AND l.requested_at > e.requested_at)
		GROUP BY e.state`)
	if err != nil {
		return nil, oldest, store.Translate(doing, err)
	}
	states = map[OrderState]int64{OrderOrdered: 0, OrderHeld: 0, OrderRunning: 0, OrderDone: 0, OrderFailed: 0}
	var state OrderState
	var n int64
	var since time.Time
	_, err = pgx.ForEachRow(rows, []any{&state, &n, (*zeronull.Timestamptz)(&since)}, func() error {
		states[state], oldest = n, earlier(oldest, since)
		return nil
	})
	return states, oldest, store.Translate(doing, err)
}
