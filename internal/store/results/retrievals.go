package results

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/store"
	"callbackd/internal/workflow"
)

const (
	// ErrSuperseded means that the retrieval is over or that a newer one has begun.
	ErrSuperseded store.Error = "superseded"
	// ErrBusy means that another run holds the workflow execution's lease.
	ErrBusy store.Error = "retrieved by another run"
)

// Lease is one run's exclusive right to retrieve a workflow execution.
type Lease struct {
	workflow.Retrieval
	// Token identifies the run; a job that runs twice has two.
	Token uuid.UUID
	// Attempt counts from 1 within the retrieval; ClaimRetrieval sets it.
	Attempt int
}

// Claim is what ClaimRetrieval returns with the lease.
type Claim struct {
	workflow.Execution
	// Details are the details that an earlier attempt of this retrieval stored, as
	// Jumio sent them; nil for none.
	Details []byte
	// Parts are the image parts that earlier attempts of this retrieval stored.
	Parts map[PartKey]bool
}

var claimRetrieval = `
	WITH claimed AS (
		UPDATE callbackd.workflow_executions
		SET lease_token = $3, lease_job_id = NULL, lease_until = clock_timestamp() + $4::interval,
			retrieval_attempts = retrieval_attempts + 1
		WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND retrieval_state = 'pending'
			AND (lease_until IS NULL OR lease_until < clock_timestamp())
		RETURNING *
	), stale AS (
		DELETE FROM callbackd.images AS i USING claimed AS c
		WHERE i.workflow_execution_id = c.workflow_execution_id AND NOT i.published AND i.generation <> $2
	)
	SELECT ` + executionRow.Columns("c.") + `, d.body, i.credentials, i.classifiers
	FROM claimed AS c
	LEFT JOIN callbackd.workflow_details AS d ON d.workflow_execution_id = c.workflow_execution_id AND d.generation = $2
	LEFT JOIN LATERAL (
		SELECT array_agg(credential_id) AS credentials, array_agg(classifier) AS classifiers
		FROM callbackd.images WHERE workflow_execution_id = c.workflow_execution_id AND generation = $2
	) AS i ON true`

// ClaimRetrieval gives the run the lease for holdFor and counts the attempt. It returns
// ErrSuperseded if nothing is left to do, and ErrBusy if another run holds the lease.
func (s *Store) ClaimRetrieval(ctx context.Context, l *Lease, holdFor time.Duration) (*Claim, error) {
	const doing = "claim a retrieval"
	var c Claim
	var credentials, classifiers []string
	into := append(executionRow.Into(&c.Execution), &c.Details, &credentials, &classifiers)
	err := s.db.Pool().QueryRow(ctx, claimRetrieval, l.WorkflowExecutionID, l.Generation, l.Token, holdFor).Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, store.Translate(doing, whyNotHeld(ctx, s.db.Pool().QueryRow, l))
	}
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	l.Attempt = c.RetrievalAttempts
	c.Parts = make(map[PartKey]bool, len(credentials))
	for i := range credentials {
		c.Parts[PartKey{credentials[i], classifiers[i]}] = true
	}
	return &c, nil
}

// whyNotHeld says why a run does not hold the lease; queryRow is the pool's or a
// transaction's.
func whyNotHeld(ctx context.Context, queryRow func(context.Context, string, ...any) pgx.Row, l *Lease) error {
	var pending bool
	err := queryRow(ctx, `SELECT EXISTS (SELECT FROM callbackd.workflow_executions
		WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND retrieval_state = 'pending')`,
		l.WorkflowExecutionID, l.Generation).Scan(&pending)
	switch {
	case err != nil:
		return err
	case pending:
		return ErrBusy
	}
	return ErrSuperseded
}

// Address is where one callback says that its workflow execution is.
type Address struct {
	AccountID    string `db:"account_id"`
	WorkflowHref string `db:"workflow_href"`
	AccountHref  string `db:"account_href"`
}

var addressRow = store.RowOf[Address]()

// mostRead bounds the callbacks of a workflow execution that Addresses reads.
const mostRead = 1000

// Addresses returns the distinct addresses that a workflow execution's callbacks name,
// at most limit, and whether there may be more.
func (s *Store) Addresses(ctx context.Context, workflowExecutionID string, limit int) (list []Address, more bool, err error) {
	const doing = "read the addresses of a workflow execution"
	rows, err := s.db.Pool().Query(ctx, `
		WITH c AS (
			SELECT account_id, workflow_href, account_href FROM callbackd.callbacks WHERE workflow_execution_id = $1 LIMIT $2
		)
		SELECT DISTINCT
			CASE WHEN octet_length(account_id) <= 64 THEN account_id END,
			CASE WHEN octet_length(workflow_href) <= 2048 THEN workflow_href END,
			CASE WHEN octet_length(account_href) <= 2048 THEN account_href END,
			(SELECT count(*) = $2 FROM c)
		FROM c LIMIT $3`, workflowExecutionID, mostRead, limit)
	if err != nil {
		return nil, false, store.Translate(doing, err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Address, err error) {
		return a, row.Scan(append(addressRow.Into(&a), &more)...)
	})
	return list, more || len(list) == limit, store.Translate(doing, err)
}

// ReleaseRetrieval gives the lease back without an outcome, as at a stop; the attempt
// does not count. Details, unless nil, are stored for the next attempt, with the data
// center that answered with them. It does nothing if the lease is no longer held.
func (s *Store) ReleaseRetrieval(ctx context.Context, l *Lease, details []byte, dataCenter string) error {
	return s.withDetails(details, func(jsonb *string) error {
		return s.InTx(ctx, "release a retrieval", func(tx *Tx) error {
			tag, err := tx.Exec(ctx, `
				UPDATE callbackd.workflow_executions SET lease_token = NULL, lease_until = NULL,
					data_center = CASE WHEN $5 THEN coalesce(nullif($6, ''), data_center) ELSE data_center END,
					retrieval_attempts = CASE WHEN retrieval_generation = $2 THEN $4 ELSE retrieval_attempts END
				WHERE workflow_execution_id = $1 AND lease_token = $3 AND lease_job_id IS NULL`,
				l.WorkflowExecutionID, l.Generation, l.Token, max(l.Attempt-1, 0), details != nil, dataCenter)
			if err != nil || tag.RowsAffected() == 0 || details == nil {
				return err
			}
			_, err = tx.Exec(ctx, upsertDetails, l.WorkflowExecutionID, l.Generation, jsonb, details)
			return err
		})
	})
}

const upsertDetails = `
	INSERT INTO callbackd.workflow_details (workflow_execution_id, generation, details, body)
	VALUES ($1, $2, $3::text::jsonb, $4)
	ON CONFLICT (workflow_execution_id) DO UPDATE
	SET generation = excluded.generation, details = excluded.details, body = excluded.body
	WHERE workflow_details.generation <= excluded.generation`

// withDetails calls f with the details as jsonb text, and again with nil if Postgres
// rejects that after all. f stores the original bytes, too.
func (s *Store) withDetails(details []byte, f func(jsonb *string) error) error {
	jsonb := jsonbText(details)
	err := f(jsonb)
	if jsonb != nil && store.BadRow(err) {
		err = f(nil)
	}
	return err
}

// Outcome is how an attempt ended.
type Outcome struct {
	workflow.Conclusion
	// Details are this attempt's, as Jumio sent them; nil for none.
	Details []byte
	// Identity is from the details of this attempt or of an earlier one of the
	// retrieval; nil without details.
	Identity *Identity
	// Images counts the image parts that this retrieval has staged, including those
	// of earlier attempts.
	Images int
}

// Identity is what the details say about a workflow execution. An empty field keeps the
// callbacks' value.
type Identity struct {
	AccountID     string `db:"account_id"`
	DefinitionKey string `db:"definition_key"`
	UserReference string `db:"user_reference"`
	// DataCenter returned the details; empty if one endpoint serves all.
	DataCenter string `db:"data_center"`
}

var identityRow = store.RowOf[Identity]()

// errImagesLost means that a crash of the database lost staged images, so that the
// attempt must be repeated.
var errImagesLost = fmt.Errorf("staged images are lost: %w", store.ErrUnavailable)

// FinishAttempt stores an attempt's outcome, publishes the staged images, gives the
// lease back, calls complete and adds the event, all in one transaction. Nothing changes
// if it returns ErrSuperseded (a newer retrieval has begun), ErrBusy (another run has
// taken the lease) or ErrUnavailable (also if staged images are lost).
func (s *Store) FinishAttempt(ctx context.Context, l *Lease, o Outcome, complete func(*Tx) error) error {
	return s.withDetails(o.Details, func(jsonb *string) error {
		return s.InTx(ctx, "finish a retrieval attempt", func(tx *Tx) error {
			if err := tx.finishAttempt(ctx, l, o, jsonb); err != nil {
				return err
			}
			if err := complete(tx); err != nil || o.Event == "" {
				return err
			}
			return tx.AddEvents(ctx, workflow.Event{Type: o.Event, WorkflowExecutionID: l.WorkflowExecutionID})
		})
	})
}

// finishState stores how an attempt ended and locks the row. Once Jumio has said
// PROCESSED, later attempts need not ask for the status.
const finishState = `
	UPDATE callbackd.workflow_executions AS w SET
		retrieval_state = $4, result_state = CASE WHEN $4 = 'pending' THEN result_state END,
		retrieval_error = nullif($5, ''), status = coalesce(nullif($6, ''), status), retrieval_attempts = $7,
		retrieval_asks_status = retrieval_asks_status AND $6 <> 'PROCESSED',
		lease_token = NULL, lease_until = NULL,
		retrieved_at = CASE WHEN $8 THEN clock_timestamp() ELSE retrieved_at END,
		details_retrieved_at = CASE WHEN $9 THEN coalesce(details_retrieved_at, clock_timestamp()) ELSE details_retrieved_at END,
		account_id = coalesce($10, account_id), definition_key = coalesce($11, definition_key),
		user_reference = coalesce($12, user_reference), data_center = coalesce($13, data_center)
	WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND lease_token = $3 AND lease_job_id IS NULL
		AND retrieval_state = 'pending'`

func (tx *Tx) finishAttempt(ctx context.Context, l *Lease, o Outcome, jsonb *string) error {
	retrieved := o.Outcome == workflow.Retrieved || o.Outcome == workflow.Partial
	batch := &pgx.Batch{}
	args := append([]any{
		l.WorkflowExecutionID, l.Generation, l.Token, string(o.State), o.Error, o.Status, l.Attempt, retrieved, o.Identity != nil,
	}, identityRow.Values(cmp.Or(o.Identity, new(Identity)))...)
	batch.Queue(finishState, args...).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == 0 {
			return ErrSuperseded
		}
		return nil
	})
	batch.Queue(`SELECT FROM callbackd.images WHERE workflow_execution_id = $1 AND generation = $2`,
		l.WorkflowExecutionID, l.Generation).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() < int64(o.Images) {
			return errImagesLost
		}
		return nil
	})
	if o.Details != nil {
		batch.Queue(upsertDetails, l.WorkflowExecutionID, l.Generation, jsonb, o.Details)
	}
	publishImages(batch, l.WorkflowExecutionID)
	err := tx.SendBatch(ctx, batch).Close()
	if errors.Is(err, ErrSuperseded) {
		return whyNotHeld(ctx, tx.QueryRow, l)
	}
	return err
}

// Backlog is the work that waits for the workers, in the whole database.
type Backlog struct {
	// Callbacks counts the callbacks in the inbox.
	Callbacks int64
	// Retrievals counts the workflow executions whose retrieval is pending.
	Retrievals int64
	// Oldest is when the callback or refetch of the oldest pending retrieval
	// arrived; zero if none is pending.
	Oldest time.Time
}

// Backlog counts the work that waits.
func (s *Store) Backlog(ctx context.Context) (Backlog, error) {
	var b Backlog
	err := s.db.Pool().QueryRow(ctx, `
		SELECT count(*), min(retrieval_received_at), (SELECT count(*) FROM callbackd.inbox)
		FROM callbackd.workflow_executions WHERE retrieval_state = 'pending'`).
		Scan(&b.Retrievals, (*zeronull.Timestamptz)(&b.Oldest), &b.Callbacks)
	return b, store.Translate("count what waits for the workers", err)
}
