package results

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/callback"
	"callbackd/internal/store"
	"callbackd/internal/workflow"
)

// Expectation is a verification that has been started.
type Expectation struct {
	WorkflowExecutionID string
	AccountID           string
	// DataCenter is amer-1, emea-1 or apac-1; empty if unknown.
	DataCenter string
	// UserReference is as given to Jumio, our signature included; empty for none.
	UserReference string
	DefinitionKey string
	// TokenLifetime is how long the person may take to begin.
	TokenLifetime time.Duration
}

// Expect stores that a verification has been started. Repeating it changes nothing.
func (s *Store) Expect(ctx context.Context, e Expectation) error {
	_, err := s.db.Pool().Exec(ctx, `SELECT jumio.expect($1, $2, nullif($3, ''), nullif($4, ''), nullif($5, ''), $6)`,
		e.WorkflowExecutionID, e.AccountID, e.DataCenter, e.UserReference, e.DefinitionKey, e.TokenLifetime)
	return store.Translate("store that a verification has been started", err)
}

// ReadExpectedReferences gives verifications that were said to have been started since a
// time the userReference without our signature.
func (s *Store) ReadExpectedReferences(ctx context.Context, key string, since time.Time) error {
	return s.InTx(ctx, "read user references", func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT w.workflow_execution_id, w.user_reference, w.user_reference_unsigned
			FROM callbackd.expectations AS e JOIN callbackd.workflow_executions AS w USING (workflow_execution_id)
			WHERE e.state = 'expected' AND e.expected_at > $1 AND w.user_reference IS NOT NULL`, since)
		if err != nil {
			return err
		}
		var id, reference, unsigned string
		var ids, read []string
		_, err = pgx.ForEachRow(rows, []any{&id, &reference, (*zeronull.Text)(&unsigned)}, func() error {
			if u := callback.UnsignedReference(key, reference); u != unsigned {
				ids, read = append(ids, id), append(read, u)
			}
			return nil
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		return tx.setUnsignedReferences(ctx, ids, read)
	})
}

// SetReconciliation stores what deadlines are made of, and moves those of verifications
// that are expected still. Without delays, Jumio is never asked.
func (s *Store) SetReconciliation(ctx context.Context, sessionTimeout, grace time.Duration, delays workflow.Delays) error {
	var first *time.Duration
	if len(delays) > 0 {
		first = &delays[0]
	}
	return s.InTx(ctx, "store the settings of reconciliation", func(tx *Tx) error {
		var before time.Duration
		if err := tx.QueryRow(ctx, `SELECT session_timeout + grace FROM callbackd.reconciliation FOR UPDATE`).Scan(&before); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE callbackd.reconciliation SET session_timeout = $1, grace = $2, first_delay = $3
			WHERE (session_timeout, grace) <> ($1, $2) OR first_delay IS DISTINCT FROM $3`, sessionTimeout, grace, first)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE callbackd.expectations SET deadline_at = deadline_at + $1::interval, next_ask_at = CASE
				WHEN $2::interval IS NULL THEN NULL
				WHEN asked_since_deadline = 0 OR next_ask_at IS NULL THEN deadline_at + $1::interval + $2::interval
				ELSE next_ask_at END
			WHERE state = 'expected'`, sessionTimeout+grace-before, first)
		return err
	})
}

// Heard is a callback of a workflow execution that was expected or overdue.
type Heard struct {
	WorkflowExecutionID string
	// LastCallbackAt is when its latest callback arrived.
	LastCallbackAt time.Time
	// Final reports whether the callback has a final status.
	Final bool
}

// Hear answers the expectations of callbacks with a final status, and moves the deadlines
// of others.
func (tx *Tx) Hear(ctx context.Context, list []Heard) error {
	if len(list) == 0 {
		return nil
	}
	latest := make(map[string]Heard, len(list))
	for _, h := range list {
		h.Final = h.Final || latest[h.WorkflowExecutionID].Final
		latest[h.WorkflowExecutionID] = h
	}
	var ids []string
	var arrivals []time.Time
	var final []bool
	for id, h := range latest {
		ids, arrivals, final = append(ids, id), append(arrivals, h.LastCallbackAt), append(final, h.Final)
	}
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM callbackd.expectations WHERE workflow_execution_id = ANY ($1) AND expected_at IS NULL`, ids)
	batch.Queue(`
		UPDATE callbackd.expectations AS e SET
			state = CASE WHEN n.final THEN 'answered' ELSE 'expected' END,
			answered_at = CASE WHEN n.final THEN clock_timestamp() END,
			deadline_at = CASE WHEN n.final THEN e.deadline_at ELSE n.arrival + s.session_timeout + s.grace END,
			next_ask_at = CASE WHEN NOT n.final THEN n.arrival + s.session_timeout + s.grace + s.first_delay END,
			asked_since_deadline = 0, asked_early = false
		FROM unnest($1::text[], $2::timestamptz[], $3::boolean[]) AS n (id, arrival, final), callbackd.reconciliation AS s
		WHERE e.workflow_execution_id = n.id AND e.state IN ('expected', 'overdue')`, ids, arrivals, final)
	return tx.SendBatch(ctx, batch).Close()
}

// queueAnswer queues the statements that answer an expectation, as when an operator had
// the workflow execution retrieved.
func queueAnswer(batch *pgx.Batch, workflowExecutionID string) {
	batch.Queue(`UPDATE callbackd.expectations SET state = 'answered', answered_at = clock_timestamp(), next_ask_at = NULL
		WHERE workflow_execution_id = $1 AND state IN ('expected', 'overdue')`, workflowExecutionID)
	batch.Queue(`UPDATE callbackd.workflow_executions SET overdue_at = NULL WHERE workflow_execution_id = $1 AND overdue_at IS NOT NULL`,
		workflowExecutionID)
}

// queueReopen queues the statement that expects again what a callback has answered, because
// Jumio says that it has not ended.
func queueReopen(batch *pgx.Batch, workflowExecutionID string) {
	batch.Queue(`
		UPDATE callbackd.expectations AS e SET
			state = 'expected', answered_at = NULL, deadline_at = w.last_callback_at + s.session_timeout + s.grace,
			next_ask_at = w.last_callback_at + s.session_timeout + s.grace + s.first_delay, asked_since_deadline = 0, asked_early = false
		FROM callbackd.workflow_executions AS w, callbackd.reconciliation AS s
		WHERE e.workflow_execution_id = $1 AND w.workflow_execution_id = $1 AND e.state = 'answered'`, workflowExecutionID)
}

// Adopt begins to look after workflow executions that nobody has announced, and whose
// newest callback is not final: those whose deadline has passed, at most limit, with
// callbacks since a time. It forgets those for which that is no longer true.
func (s *Store) Adopt(ctx context.Context, since time.Time, limit int) error {
	batch := &pgx.Batch{}
	batch.Queue(`
		DELETE FROM callbackd.expectations AS e USING callbackd.workflow_executions AS w, callbackd.reconciliation AS s
		WHERE e.next_ask_at <= now() AND e.expected_at IS NULL AND w.workflow_execution_id = e.workflow_execution_id
			AND (w.retrieval_state <> 'awaiting' OR w.last_callback_at + s.session_timeout + s.grace > e.deadline_at)`)
	batch.Queue(`
		INSERT INTO callbackd.expectations (workflow_execution_id, account_id, data_center, deadline_at, state, next_ask_at)
		SELECT w.workflow_execution_id, w.account_id, w.data_center, w.last_callback_at + s.session_timeout + s.grace, 'expected',
			w.last_callback_at + s.session_timeout + s.grace + s.first_delay
		FROM callbackd.reconciliation AS s, callbackd.workflow_executions AS w
		WHERE callbackd.stage(w.erased_at, w.details_id, w.retrieval_state, w.overdue_at, w.status) IN ('created', 'started', 'in_review')
			AND w.last_callback_at > $1 AND w.last_callback_at <= now() - (s.session_timeout + s.grace)
			AND w.retrieval_state = 'awaiting' AND s.first_delay IS NOT NULL
			AND NOT EXISTS (SELECT FROM callbackd.expectations AS e WHERE e.workflow_execution_id = w.workflow_execution_id)
		LIMIT $2
		ON CONFLICT DO NOTHING`, since, limit)
	return store.Translate("look for workflow executions that have become silent", s.db.Pool().SendBatch(ctx, batch).Close())
}
