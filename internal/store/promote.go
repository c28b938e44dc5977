package store

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Delivery is what promotion needs to know of one stored callback.
type Delivery struct {
	CallbackID          uuid.UUID
	WorkflowExecutionID string
	ReceivedAt          time.Time
	// SentAt is callbackSentAt, or zero.
	SentAt        time.Time
	Status        string
	WorkflowHref  string
	AccountHref   string
	AccountID     string
	DefinitionKey string
	UserReference string
	// BodyDigest is the SHA-256 of the body.
	BodyDigest []byte
}

// RetrievalState is the column retrieval_state (contract of jumio.workflow_executions).
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

// WorkflowExecution is the state of one workflow execution as promotion sees
// and changes it. Its zero value with an id is one that no callback has named.
type WorkflowExecution struct {
	ID            string
	AccountID     string
	DefinitionKey string
	Status        string
	UserReference string
	WorkflowHref  string
	AccountHref   string

	CallbackCount   int64
	FirstCallbackAt time.Time
	LastCallbackAt  time.Time

	// DecidedSentAt and DecidedBodyDigest belong to the callback that decides
	// the state; zero before the first.
	DecidedSentAt     time.Time
	DecidedBodyDigest []byte

	RetrievalState      RetrievalState
	RetrievalGeneration int
	RetrievalAttempts   int
	RetrievalError      string
	// RetrievalReceivedAt is when the callback that led to the retrieval came.
	RetrievalReceivedAt time.Time
}

// Retrieval names one retrieval of a workflow execution.
type Retrieval struct {
	WorkflowExecutionID string
	Generation          int
}

// Promotion is what a promoter does with a batch. Begin, if not nil, is called
// first, and again when the transaction is made anew: what the others have seen
// before has not come about. Apply changes the workflow execution by one delivery
// and returns the events besides callback_received; Enqueue adds the jobs of the
// retrievals within the transaction.
type Promotion struct {
	Begin   func()
	Apply   func(w *WorkflowExecution, d *Delivery) []Event
	Enqueue func(ctx context.Context, tx pgx.Tx, retrievals []Retrieval) error
}

// errRaced: another promoter made a workflow execution of the batch meanwhile.
var errRaced = errors.New("raced with another promoter")

// Promote takes at most limit new callbacks, applies them in the order in which
// they were received, and stores the states, the jobs and the events in one
// transaction. It returns how many callbacks it took. Callbacks that another
// promoter holds are left to it.
func (s *Store) Promote(ctx context.Context, limit int, p Promotion) (int, error) {
	for {
		if p.Begin != nil {
			p.Begin()
		}
		var taken int
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			taken, err = promote(ctx, tx, limit, p)
			return err
		})
		if errors.Is(err, errRaced) {
			continue // what it made is there now
		}
		if err != nil {
			return 0, translate("promote callbacks", err)
		}
		return taken, nil
	}
}

func promote(ctx context.Context, tx pgx.Tx, limit int, p Promotion) (int, error) {
	deliveries, err := takeInbox(ctx, tx, limit)
	if err != nil || len(deliveries) == 0 {
		return 0, err
	}
	known, err := lockWorkflows(ctx, tx, deliveries)
	if err != nil {
		return 0, err
	}
	generations := make(map[string]int, len(known))
	for id, w := range known {
		generations[id] = w.RetrievalGeneration
	}
	made := make(map[string]*WorkflowExecution)
	events := make([]Event, 0, len(deliveries))
	for i := range deliveries {
		d := &deliveries[i]
		w := cmp.Or(known[d.WorkflowExecutionID], made[d.WorkflowExecutionID])
		if w == nil {
			w = &WorkflowExecution{ID: d.WorkflowExecutionID, RetrievalState: Awaiting}
			made[w.ID] = w
		}
		events = append(events, Event{EventCallbackReceived, d.WorkflowExecutionID})
		events = append(events, p.Apply(w, d)...)
	}
	if err := storeWorkflows(ctx, tx, known, made); err != nil {
		return 0, err
	}
	var retrievals []Retrieval
	for _, workflows := range []map[string]*WorkflowExecution{known, made} {
		for id, w := range workflows {
			if w.RetrievalState == Pending && w.RetrievalGeneration != generations[id] {
				retrievals = append(retrievals, Retrieval{id, w.RetrievalGeneration})
			}
		}
	}
	if len(retrievals) > 0 {
		if err := p.Enqueue(ctx, tx, retrievals); err != nil {
			return 0, err
		}
	}
	return len(deliveries), appendEvents(ctx, tx, events)
}

func takeInbox(ctx context.Context, tx pgx.Tx, limit int) ([]Delivery, error) {
	// Arrays instead of joins: whatever the statistics say of tables that grow
	// this fast, the planner looks the ids up in the primary keys.
	rows, err := tx.Query(ctx, `
		WITH taken AS (
			DELETE FROM callbackd.inbox WHERE callback_id = ANY (ARRAY(
				SELECT callback_id FROM callbackd.inbox ORDER BY callback_id LIMIT $1 FOR UPDATE SKIP LOCKED))
			RETURNING callback_id
		)
		SELECT c.callback_id, c.workflow_execution_id, c.received_at, c.callback_sent_at, coalesce(c.workflow_status, ''),
			coalesce(c.workflow_href, ''), coalesce(c.account_href, ''), coalesce(c.account_id, ''),
			coalesce(c.definition_key, ''), coalesce(c.user_reference, ''), sha256(c.body)
		FROM callbackd.callbacks AS c WHERE c.callback_id = ANY (ARRAY(SELECT callback_id FROM taken))
		ORDER BY c.received_at, c.callback_id`, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Delivery, error) {
		var d Delivery
		var sent *time.Time
		err := row.Scan(&d.CallbackID, &d.WorkflowExecutionID, &d.ReceivedAt, &sent, &d.Status,
			&d.WorkflowHref, &d.AccountHref, &d.AccountID, &d.DefinitionKey, &d.UserReference, &d.BodyDigest)
		d.SentAt = timeOrZero(sent)
		return d, err
	})
}

// lockWorkflows gives those of the deliveries' workflow executions that are
// there, locked in the order of their ids, so that two promoters cannot deadlock.
func lockWorkflows(ctx context.Context, tx pgx.Tx, deliveries []Delivery) (map[string]*WorkflowExecution, error) {
	ids := make(map[string]struct{}, len(deliveries))
	for i := range deliveries {
		ids[deliveries[i].WorkflowExecutionID] = struct{}{}
	}
	rows, err := tx.Query(ctx, selectWorkflow+` WHERE workflow_execution_id = ANY ($1) ORDER BY workflow_execution_id FOR UPDATE`,
		slices.Collect(maps.Keys(ids)))
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, scanWorkflow)
	if err != nil {
		return nil, err
	}
	workflows := make(map[string]*WorkflowExecution, len(list))
	for _, w := range list {
		workflows[w.ID] = w
	}
	return workflows, nil
}

const selectWorkflow = `
	SELECT workflow_execution_id, coalesce(account_id, ''), coalesce(definition_key, ''), coalesce(status, ''),
		coalesce(user_reference, ''), coalesce(workflow_href, ''), coalesce(account_href, ''),
		callback_count, first_callback_at, last_callback_at, decided_sent_at, decided_body_digest,
		retrieval_state, retrieval_generation, retrieval_attempts, coalesce(retrieval_error, ''), retrieval_received_at
	FROM callbackd.workflow_executions`

func scanWorkflow(row pgx.CollectableRow) (*WorkflowExecution, error) {
	var w WorkflowExecution
	var first, last, decided, received *time.Time
	err := row.Scan(&w.ID, &w.AccountID, &w.DefinitionKey, &w.Status, &w.UserReference, &w.WorkflowHref, &w.AccountHref,
		&w.CallbackCount, &first, &last, &decided, &w.DecidedBodyDigest,
		&w.RetrievalState, &w.RetrievalGeneration, &w.RetrievalAttempts, &w.RetrievalError, &received)
	w.FirstCallbackAt, w.LastCallbackAt = timeOrZero(first), timeOrZero(last)
	w.DecidedSentAt, w.RetrievalReceivedAt = timeOrZero(decided), timeOrZero(received)
	return &w, err
}

func timeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

const workflowColumns = `workflow_execution_id, account_id, definition_key, status, user_reference, workflow_href, account_href,
	callback_count, first_callback_at, last_callback_at, decided_sent_at, decided_body_digest, retrieval_state,
	retrieval_generation, retrieval_attempts, retrieval_error, retrieval_received_at`

const workflowRows = `unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
	$9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::bytea[], $13::text[], $14::int[], $15::int[],
	$16::text[], $17::timestamptz[]) AS n (` + workflowColumns + `)`

// storeWorkflows changes the rows that are there and makes the new ones.
// errRaced: one of them has come into being since.
func storeWorkflows(ctx context.Context, tx pgx.Tx, known, made map[string]*WorkflowExecution) error {
	if len(known) > 0 {
		_, err := tx.Exec(ctx, `
			UPDATE callbackd.workflow_executions AS w SET
				account_id = n.account_id, definition_key = n.definition_key, status = n.status, user_reference = n.user_reference,
				workflow_href = n.workflow_href, account_href = n.account_href, callback_count = n.callback_count,
				first_callback_at = n.first_callback_at, last_callback_at = n.last_callback_at,
				decided_sent_at = n.decided_sent_at, decided_body_digest = n.decided_body_digest,
				retrieval_state = n.retrieval_state, retrieval_generation = n.retrieval_generation,
				retrieval_attempts = n.retrieval_attempts, retrieval_error = n.retrieval_error,
				retrieval_received_at = n.retrieval_received_at
			FROM `+workflowRows+` WHERE w.workflow_execution_id = n.workflow_execution_id`, workflowArrays(known)...)
		if err != nil {
			return err
		}
	}
	if len(made) == 0 {
		return nil
	}
	// In the order of the ids, too: a row that another promoter is making is waited for.
	tag, err := tx.Exec(ctx, `INSERT INTO callbackd.workflow_executions (`+workflowColumns+`)
		SELECT * FROM `+workflowRows+` ORDER BY workflow_execution_id ON CONFLICT DO NOTHING`, workflowArrays(made)...)
	if err != nil {
		return err
	}
	if tag.RowsAffected() < int64(len(made)) {
		return errRaced
	}
	return nil
}

func workflowArrays(workflows map[string]*WorkflowExecution) []any {
	n := len(workflows)
	var (
		ids         = make([]string, 0, n)
		account     = make([]*string, 0, n)
		definition  = make([]*string, 0, n)
		status      = make([]*string, 0, n)
		userRef     = make([]*string, 0, n)
		href        = make([]*string, 0, n)
		accountHref = make([]*string, 0, n)
		count       = make([]int64, 0, n)
		first       = make([]*time.Time, 0, n)
		last        = make([]*time.Time, 0, n)
		decided     = make([]*time.Time, 0, n)
		digest      = make([][]byte, 0, n)
		state       = make([]string, 0, n)
		generation  = make([]int, 0, n)
		attempts    = make([]int, 0, n)
		problem     = make([]*string, 0, n)
		received    = make([]*time.Time, 0, n)
	)
	for id, w := range workflows {
		ids, account, definition = append(ids, id), append(account, nullText(w.AccountID)), append(definition, nullText(w.DefinitionKey))
		status, userRef = append(status, nullText(w.Status)), append(userRef, nullText(w.UserReference))
		href, accountHref = append(href, nullText(w.WorkflowHref)), append(accountHref, nullText(w.AccountHref))
		count, first, last = append(count, w.CallbackCount), append(first, nullTime(w.FirstCallbackAt)), append(last, nullTime(w.LastCallbackAt))
		decided, digest = append(decided, nullTime(w.DecidedSentAt)), append(digest, w.DecidedBodyDigest)
		state, generation = append(state, string(w.RetrievalState)), append(generation, w.RetrievalGeneration)
		attempts, problem = append(attempts, w.RetrievalAttempts), append(problem, nullText(w.RetrievalError))
		received = append(received, nullTime(w.RetrievalReceivedAt))
	}
	return []any{
		ids, account, definition, status, userRef, href, accountHref, count, first, last, decided, digest,
		state, generation, attempts, problem, received,
	}
}

// appendEvents must be the last statement of its transaction: it takes the lock
// that keeps the event ids in the order of their commits.
func appendEvents(ctx context.Context, tx pgx.Tx, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	types, ids := make([]string, len(events)), make([]string, len(events))
	for i, e := range events {
		types[i], ids[i] = string(e.Type), e.WorkflowExecutionID
	}
	_, err := tx.Exec(ctx, `SELECT callbackd.append_events($1::text[], $2::text[])`, types, ids)
	return err
}
