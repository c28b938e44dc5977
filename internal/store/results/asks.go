package results

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/store"
	"callbackd/internal/workflow"
)

// Ask is one question to Jumio about a workflow execution's status, and the exclusive
// right to ask it.
type Ask struct {
	WorkflowExecutionID string
	Address
	DataCenter string // empty if unknown

	token uuid.UUID
	early bool // ahead of the deadline
}

// Asking says which questions to take: those that are due, and, from the data centers in
// Early, those of which nothing has been heard for Grace.
type Asking struct {
	Limit   int
	HoldFor time.Duration
	Early   []string
	Grace   time.Duration
}

func leaseAsks(which string) string {
	return `
	WITH due AS (
		SELECT workflow_execution_id FROM callbackd.expectations
		WHERE ` + which + ` AND (asking_until IS NULL OR asking_until < clock_timestamp())
		ORDER BY next_ask_at LIMIT $1 FOR UPDATE SKIP LOCKED
	), leased AS (
		UPDATE callbackd.expectations AS e SET ask_token = $2, asking_until = clock_timestamp() + $3::interval
		FROM due WHERE e.workflow_execution_id = due.workflow_execution_id
		RETURNING e.*
	)
	SELECT e.workflow_execution_id, ` + addressRow.Columns("w.") + `, coalesce(e.data_center, w.data_center, '')
	FROM leased AS e JOIN callbackd.workflow_executions AS w USING (workflow_execution_id)`
}

var (
	leaseDue   = leaseAsks(`next_ask_at <= now()`)
	leaseEarly = leaseAsks(`state = 'expected' AND NOT asked_early AND next_ask_at > now() AND data_center = ANY ($4)
		AND expected_at <= now() - $5::interval AND NOT EXISTS (
			SELECT FROM callbackd.workflow_executions AS w
			WHERE w.workflow_execution_id = expectations.workflow_execution_id AND w.last_callback_at > now() - $5::interval)`)
)

// LeaseAsks takes questions, so that no other worker asks them meanwhile.
func (s *Store) LeaseAsks(ctx context.Context, a Asking) ([]Ask, error) {
	list, err := s.leaseAsks(ctx, leaseDue, false, a.Limit, uuid.New(), a.HoldFor)
	if err == nil && len(list) < a.Limit && len(a.Early) > 0 {
		var early []Ask
		early, err = s.leaseAsks(ctx, leaseEarly, true, a.Limit-len(list), uuid.New(), a.HoldFor, a.Early, a.Grace)
		list = append(list, early...)
	}
	return list, store.Translate("look for what Jumio is to be asked", err)
}

func (s *Store) leaseAsks(ctx context.Context, statement string, early bool, limit int, token uuid.UUID, holdFor time.Duration, more ...any) ([]Ask, error) {
	rows, err := s.db.Pool().Query(ctx, statement, append([]any{limit, token, holdFor}, more...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Ask, error) {
		a := Ask{token: token, early: early}
		into := append([]any{&a.WorkflowExecutionID}, addressRow.Into(&a.Address)...)
		return a, row.Scan(append(into, &a.DataCenter)...)
	})
}

// PostponeAsk gives a question back that was not asked: nobody asks it for a while.
func (s *Store) PostponeAsk(ctx context.Context, a *Ask, pause time.Duration) error {
	_, err := s.db.Pool().Exec(ctx, `UPDATE callbackd.expectations SET ask_token = NULL, asking_until = clock_timestamp() + $3::interval
		WHERE workflow_execution_id = $1 AND ask_token = $2`, a.WorkflowExecutionID, a.token, pause)
	return store.Translate("give back what Jumio was to be asked", err)
}

// Asked is what a question led to.
type Asked struct {
	At time.Time
	// Status is what Jumio says; empty if it gave no answer.
	Status    string
	AccountID string // empty if unknown
}

// Found is what a final status has led to.
type Found struct {
	// Recovered reports whether it was news.
	Recovered bool
	// Overdue reports whether the question was the last one.
	Overdue bool
}

// setAsked counts a question that was asked at $2, and gives it back.
const setAsked = `asked_count = asked_count + 1, last_asked_at = $2, ask_token = NULL, asking_until = NULL`

// FinishAsk stores what a question led to. enqueue, in the same transaction, queues the
// retrieval that a final status begins.
func (s *Store) FinishAsk(ctx context.Context, a *Ask, asked Asked, delays workflow.Delays, enqueue func(*Tx, *workflow.Execution) error) (f Found, err error) {
	err = s.InTx(ctx, "store what Jumio says about a workflow execution", func(tx *Tx) error {
		f = Found{}
		known, err := tx.LockExecutions(ctx, []string{a.WorkflowExecutionID})
		if err != nil {
			return err
		}
		n, held, err := tx.heldAsk(ctx, a)
		if err != nil || !held {
			return err
		}
		e := known[a.WorkflowExecutionID]
		if final, _ := workflow.FinalStatus(asked.Status); final {
			return tx.recover(ctx, e, asked, enqueue, &f)
		}
		return tx.askAgain(ctx, a, e, asked, n, delays, &f)
	})
	if err = s.eraseIfBarred(ctx, err, a.WorkflowExecutionID, cmp.Or(a.AccountID, asked.AccountID)); errors.Is(err, ErrErased) {
		return Found{}, nil
	}
	return f, err
}

// heldAsk locks the question, and returns how often Jumio has been asked since the
// deadline, and whether it is still ours and open.
func (tx *Tx) heldAsk(ctx context.Context, a *Ask) (n int, held bool, err error) {
	err = tx.QueryRow(ctx, `
		SELECT asked_since_deadline, state = 'expected' FROM callbackd.expectations
		WHERE workflow_execution_id = $1 AND ask_token = $2 FOR UPDATE`, a.WorkflowExecutionID, a.token).Scan(&n, &held)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return n, held, err
}

// recover takes in a final status, and answers the expectation if there is one.
func (tx *Tx) recover(ctx context.Context, e *workflow.Execution, asked Asked, enqueue func(*Tx, *workflow.Execution) error, f *Found) error {
	if err := tx.notBarred(ctx, executionAndAccount(e.ID, cmp.Or(e.AccountID, asked.AccountID))...); err != nil {
		return err
	}
	f.Recovered = e.Recoverable()
	state := "answered" // a callback has come meanwhile
	var events []workflow.Event
	if f.Recovered {
		state = "recovered"
		if e.AccountID == "" {
			e.AccountID = asked.AccountID
		}
		events = workflow.Recover(e, asked.Status, asked.At)
		if err := tx.UpdateExecutions(ctx, []*workflow.Execution{e}); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		UPDATE callbackd.expectations SET state = $3, answered_at = clock_timestamp(), next_ask_at = NULL, `+setAsked+`
		WHERE workflow_execution_id = $1 AND state IN ('expected', 'overdue')`, e.ID, asked.At, state)
	if err == nil && f.Recovered && e.RetrievalState == workflow.Pending {
		err = enqueue(tx, e)
	}
	if err != nil {
		return err
	}
	tx.AddEvents(events...)
	return nil
}

// askAgain plans the next question, or gives up.
func (tx *Tx) askAgain(ctx context.Context, a *Ask, e *workflow.Execution, asked Asked, n int, delays workflow.Delays, f *Found) error {
	if a.early {
		_, err := tx.Exec(ctx, `
			UPDATE callbackd.expectations SET asked_early = true, `+setAsked+` WHERE workflow_execution_id = $1`, e.ID, asked.At)
		return err
	}
	next := delays.Next(n+1, asked.At)
	f.Overdue = next.IsZero()
	_, known := workflow.FinalStatus(asked.Status)
	if e.RetrievalState == workflow.Awaiting {
		if known {
			e.Status = asked.Status
		}
		if f.Overdue {
			e.OverdueAt = asked.At
		}
		if err := tx.UpdateExecutions(ctx, []*workflow.Execution{e}); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		UPDATE callbackd.expectations SET state = CASE WHEN $4 THEN 'overdue' ELSE state END, next_ask_at = $3,
			asked_since_deadline = asked_since_deadline + 1, `+setAsked+`
		WHERE workflow_execution_id = $1`, e.ID, asked.At, zeronull.Timestamptz(next), f.Overdue)
	if err != nil || !f.Overdue {
		return err
	}
	tx.AddEvents(e.Event(workflow.EventOverdue))
	return nil
}

// TakeIn takes in a final status of a workflow execution that callbackd may not know yet,
// like FinishAsk. It returns ErrErased if that, or its account, is erased.
func (s *Store) TakeIn(ctx context.Context, id, dataCenter string, asked Asked, enqueue func(*Tx, *workflow.Execution) error) error {
	return s.InTx(ctx, fmt.Sprintf("take in the workflow execution %q", id), func(tx *Tx) error {
		if _, err := tx.Exec(ctx, `
			INSERT INTO callbackd.workflow_executions (workflow_execution_id, data_center) VALUES ($1, nullif($2, ''))
			ON CONFLICT DO NOTHING`, id, dataCenter); err != nil {
			return err
		}
		known, err := tx.LockExecutions(ctx, []string{id})
		if err != nil {
			return err
		}
		e := known[id]
		if e == nil || !e.ErasedAt.IsZero() {
			return ErrErased
		}
		return tx.recover(ctx, e, asked, enqueue, &Found{})
	})
}

// Expectations counts the verifications in each state: answered and recovered are those of
// the last hour. oldestOverdue is when the deadline of the oldest overdue one was; zero
// without any.
func (s *Store) Expectations(ctx context.Context) (states map[string]int64, oldestOverdue time.Time, err error) {
	const doing = "count the verifications that are expected"
	rows, err := s.db.Pool().Query(ctx, `
		SELECT v.state, count(e.state), min(e.deadline_at) FILTER (WHERE v.state = 'overdue')
		FROM unnest(ARRAY['expected', 'answered', 'recovered', 'overdue']) AS v (state)
		LEFT JOIN (
			SELECT state, deadline_at FROM callbackd.expectations WHERE state IN ('expected', 'overdue')
			UNION ALL
			SELECT state, NULL FROM callbackd.expectations WHERE answered_at > now() - interval '1 hour' AND expected_at IS NOT NULL
		) AS e ON e.state = v.state
		GROUP BY v.state`)
	if err != nil {
		return nil, time.Time{}, store.Translate(doing, err)
	}
	states = make(map[string]int64)
	var state string
	var count int64
	var oldest zeronull.Timestamptz
	_, err = pgx.ForEachRow(rows, []any{&state, &count, &oldest}, func() error {
		states[state] = count
		if t := time.Time(oldest); !t.IsZero() {
			oldestOverdue = t
		}
		return nil
	})
	return states, oldestOverdue, store.Translate(doing, err)
}
