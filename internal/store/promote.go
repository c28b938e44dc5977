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

	"callbackd/internal/callback"
)

// Delivery is what promotion needs to know of one stored callback. Whoever wrote
// the row, its texts are bounded as by Callback.Bound, but the workflow execution's
// id may be none: then it cannot be promoted.
type Delivery struct {
	CallbackID          uuid.UUID
	WorkflowExecutionID string
	// ReceivedAt is never in the future.
	ReceivedAt time.Time
	// SentAt is callbackSentAt, or zero.
	SentAt        time.Time
	Status        string
	WorkflowHref  string
	AccountHref   string
	AccountID     string
	DefinitionKey string
	UserReference string
	// BodyDigest tells a body from others: a SHA-256. It is nil where SentAt tells
	// enough.
	BodyDigest []byte
}

// Retrieval names one retrieval of a workflow execution.
type Retrieval struct {
	WorkflowExecutionID string
	Generation          int
	// Known: Jumio has told us of the account before.
	Known bool
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

// Take says which callbacks of the inbox a promotion takes: at most Limit, of
// Only if that is not nil, and none of Except.
type Take struct {
	Limit        int
	Only, Except []uuid.UUID
}

// errRaced: another promoter made a workflow execution of the batch meanwhile.
var errRaced = errors.New("raced with another promoter")

// Promote takes new callbacks, the oldest first, applies them in the order in
// which they were received, and stores the states, the jobs and the events in one
// transaction. It returns how many callbacks it took. Callbacks that another
// promoter holds are left to it. After an error, all stay where they were; OfBatch
// tells whether a smaller batch may fare better.
func (s *Store) Promote(ctx context.Context, t Take, p Promotion) (int, error) {
	for {
		if p.Begin != nil {
			p.Begin()
		}
		var done promoted
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			done, err = promote(ctx, tx, t, p)
			return err
		})
		if errors.Is(err, errRaced) {
			continue // what it made is there now
		}
		if err != nil {
			return 0, translate("promote callbacks", err)
		}
		s.waker.announce(done.events, done.jobs)
		return done.callbacks, nil
	}
}

// promoted is what a promotion has done.
type promoted struct {
	callbacks int
	events    []Event
	jobs      bool // some were enqueued
}

func promote(ctx context.Context, tx pgx.Tx, t Take, p Promotion) (promoted, error) {
	deliveries, err := takeInbox(ctx, tx, t)
	if err != nil || len(deliveries) == 0 {
		return promoted{}, err
	}
	known, err := lockWorkflows(ctx, tx, deliveries)
	if err != nil {
		return promoted{}, err
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
		return promoted{}, err
	}
	var begun []*WorkflowExecution
	for _, workflows := range []map[string]*WorkflowExecution{known, made} {
		for id, w := range workflows {
			if w.RetrievalState == Pending && w.RetrievalGeneration != generations[id] {
				begun = append(begun, w)
			}
		}
	}
	if err := enqueueBegun(ctx, tx, begun, p.Enqueue); err != nil {
		return promoted{}, err
	}
	return promoted{len(deliveries), events, len(begun) > 0}, addEvents(ctx, tx, events)
}

// enqueueBegun enqueues the retrievals that have begun.
func enqueueBegun(ctx context.Context, tx pgx.Tx, begun []*WorkflowExecution, enqueue func(context.Context, pgx.Tx, []Retrieval) error) error {
	if len(begun) == 0 {
		return nil
	}
	known, err := knownAccounts(ctx, tx, begun)
	if err != nil {
		return err
	}
	retrievals := make([]Retrieval, len(begun))
	for i, w := range begun {
		retrievals[i] = Retrieval{w.ID, w.RetrievalGeneration, known[w.AccountID]}
	}
	return enqueue(ctx, tx, retrievals)
}

// knownAccounts are those of the accounts under which something has been
// retrieved.
func knownAccounts(ctx context.Context, tx pgx.Tx, workflows []*WorkflowExecution) (map[string]bool, error) {
	accounts := make(map[string]struct{}, len(workflows))
	for _, w := range workflows {
		if w.AccountID != "" {
			accounts[w.AccountID] = struct{}{}
		}
	}
	// Any number of workflow executions may name the same account: none is looked at
	// that has got nothing, and one that has is enough (the index
	// workflow_executions_known_account_idx).
	rows, err := tx.Query(ctx, `
		SELECT a.id FROM unnest($1::text[]) AS a (id), LATERAL (
			SELECT FROM callbackd.workflow_executions AS w WHERE w.account_id = a.id
				AND (w.details_retrieved_at IS NOT NULL OR w.retrieval_state IN ('retrieved', 'partial'))
			LIMIT 1) AS w`, slices.Collect(maps.Keys(accounts)))
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	known := make(map[string]bool, len(list))
	for _, id := range list {
		known[id] = true
	}
	return known, err
}

// takeInbox takes deliveries out of the inbox. What it reads of a row is bounded,
// also where the row is older than the table's constraints: an infinite time has
// no Go form, and some thousand long texts do not fit into memory.
func takeInbox(ctx context.Context, tx pgx.Tx, t Take) ([]Delivery, error) {
	// Arrays instead of joins: whatever the statistics say of tables that grow
	// this fast, the planner looks the ids up in the primary keys.
	rows, err := tx.Query(ctx, `
		WITH taken AS (
			DELETE FROM callbackd.inbox WHERE callback_id = ANY (ARRAY(`+selectInbox+` FOR UPDATE SKIP LOCKED))
			RETURNING callback_id
		)
		SELECT c.callback_id, left(c.workflow_execution_id, 65),
			CASE WHEN c.received_at BETWEEN '1970-01-01T00:00:00Z' AND clock_timestamp() + interval '10 minutes'
				THEN c.received_at ELSE clock_timestamp() END,
			CASE WHEN isfinite(c.callback_sent_at) THEN c.callback_sent_at END,
			coalesce(left(c.workflow_status, 64), ''),
			CASE WHEN octet_length(c.workflow_href) <= 2048 THEN c.workflow_href ELSE '' END,
			CASE WHEN octet_length(c.account_href) <= 2048 THEN c.account_href ELSE '' END,
			CASE WHEN octet_length(c.account_id) <= 64 THEN c.account_id ELSE '' END,
			coalesce(left(c.definition_key, 64), ''),
			CASE WHEN octet_length(c.user_reference) <= 1024 THEN c.user_reference ELSE '' END,
			CASE WHEN c.callback_sent_at <= c.received_at THEN NULL
				WHEN octet_length(c.body) <= 65536 THEN sha256(c.body)
				ELSE sha256(substring(c.body FROM 1 FOR 65536) || int8send(octet_length(c.body))) END
		FROM callbackd.callbacks AS c WHERE c.callback_id = ANY (ARRAY(SELECT callback_id FROM taken))
		ORDER BY 3, 1`, t.Limit, t.Only, notNilIDs(t.Except))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Delivery, error) {
		var d Delivery
		var sent *time.Time
		err := row.Scan(&d.CallbackID, &d.WorkflowExecutionID, &d.ReceivedAt, &sent, &d.Status,
			&d.WorkflowHref, &d.AccountHref, &d.AccountID, &d.DefinitionKey, &d.UserReference, &d.BodyDigest)
		d.SentAt = timeOrZero(sent)
		if !callback.ValidID(d.AccountID) {
			d.AccountID = ""
		}
		return d, err
	})
}

// selectInbox gives the ids of a Take.
const selectInbox = `
	SELECT callback_id FROM callbackd.inbox
	WHERE ($2::uuid[] IS NULL OR callback_id = ANY ($2)) AND callback_id <> ALL ($3::uuid[])
	ORDER BY callback_id LIMIT $1`

// Inbox gives the ids of the callbacks that Promote would take.
func (s *Store) Inbox(ctx context.Context, t Take) ([]uuid.UUID, error) {
	rows, err := s.pool.Query(ctx, selectInbox, t.Limit, t.Only, notNilIDs(t.Except))
	if err != nil {
		return nil, translate("read the inbox", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return ids, translate("read the inbox", err)
}

func notNilIDs(ids []uuid.UUID) []uuid.UUID {
	if ids == nil {
		return []uuid.UUID{}
	}
	return ids
}
