package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

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
	// ResultState is what a retrieval that gets nothing goes back to: Retrieved
	// or Partial where an earlier one got something, else empty.
	ResultState RetrievalState
	// RetrievalAsksStatus: the retrieval begins with Get Status.
	RetrievalAsksStatus bool
	// RetrievalDueAt is the time from which a further retrieval is to begin; zero
	// for none.
	RetrievalDueAt time.Time
	// RetrievalPacedAt is how far ahead of its share the workflow execution is
	// with retrievals (the theoretical arrival time of the generic cell rate
	// algorithm); zero before the first.
	RetrievalPacedAt time.Time

	// DetailsRetrievedAt is when details were first stored; zero before. Promotion
	// reads it and LeaseUntil, and changes neither.
	DetailsRetrievedAt time.Time
	// LeaseUntil is how long the attempt that is running may last.
	LeaseUntil time.Time
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
		retrieval_state, retrieval_generation, retrieval_attempts, coalesce(retrieval_error, ''), retrieval_received_at,
		coalesce(result_state, ''), retrieval_asks_status, retrieval_due_at, retrieval_paced_at,
		details_retrieved_at, lease_until
	FROM callbackd.workflow_executions`

func scanWorkflow(row pgx.CollectableRow) (*WorkflowExecution, error) {
	var w WorkflowExecution
	var first, last, decided, received, due, paced, details, lease *time.Time
	err := row.Scan(&w.ID, &w.AccountID, &w.DefinitionKey, &w.Status, &w.UserReference, &w.WorkflowHref, &w.AccountHref,
		&w.CallbackCount, &first, &last, &decided, &w.DecidedBodyDigest,
		&w.RetrievalState, &w.RetrievalGeneration, &w.RetrievalAttempts, &w.RetrievalError, &received,
		&w.ResultState, &w.RetrievalAsksStatus, &due, &paced, &details, &lease)
	w.FirstCallbackAt, w.LastCallbackAt = timeOrZero(first), timeOrZero(last)
	w.DecidedSentAt, w.RetrievalReceivedAt = timeOrZero(decided), timeOrZero(received)
	w.RetrievalDueAt, w.RetrievalPacedAt = timeOrZero(due), timeOrZero(paced)
	w.DetailsRetrievedAt, w.LeaseUntil = timeOrZero(details), timeOrZero(lease)
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
	retrieval_generation, retrieval_attempts, retrieval_error, retrieval_received_at, result_state, retrieval_asks_status,
	retrieval_due_at, retrieval_paced_at`

const workflowRows = `unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
	$9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::bytea[], $13::text[], $14::int[], $15::int[],
	$16::text[], $17::timestamptz[], $18::text[], $19::bool[], $20::timestamptz[], $21::timestamptz[]) AS n (` + workflowColumns + `)`

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
				retrieval_received_at = n.retrieval_received_at, result_state = n.result_state,
				retrieval_asks_status = n.retrieval_asks_status, retrieval_due_at = n.retrieval_due_at,
				retrieval_paced_at = n.retrieval_paced_at
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
		result      = make([]*string, 0, n)
		asks        = make([]bool, 0, n)
		due         = make([]*time.Time, 0, n)
		paced       = make([]*time.Time, 0, n)
	)
	for id, w := range workflows {
		ids, account, definition = append(ids, id), append(account, nullText(w.AccountID)), append(definition, nullText(w.DefinitionKey))
		status, userRef = append(status, nullText(w.Status)), append(userRef, nullText(w.UserReference))
		href, accountHref = append(href, nullText(w.WorkflowHref)), append(accountHref, nullText(w.AccountHref))
		count, first, last = append(count, w.CallbackCount), append(first, nullTime(w.FirstCallbackAt)), append(last, nullTime(w.LastCallbackAt))
		decided, digest = append(decided, nullTime(w.DecidedSentAt)), append(digest, w.DecidedBodyDigest)
		state, generation = append(state, string(w.RetrievalState)), append(generation, w.RetrievalGeneration)
		attempts, problem = append(attempts, w.RetrievalAttempts), append(problem, nullText(w.RetrievalError))
		received, result = append(received, nullTime(w.RetrievalReceivedAt)), append(result, nullText(string(w.ResultState)))
		asks, due, paced = append(asks, w.RetrievalAsksStatus), append(due, nullTime(w.RetrievalDueAt)), append(paced, nullTime(w.RetrievalPacedAt))
	}
	return []any{
		ids, account, definition, status, userRef, href, accountHref, count, first, last, decided, digest,
		state, generation, attempts, problem, received, result, asks, due, paced,
	}
}
