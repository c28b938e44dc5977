package results

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
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
	claim   Claim // of ClaimRetrieval
}

// Claim is what ClaimRetrieval returns with the lease.
type Claim struct {
	workflow.Execution
	stored
	// Details are the details that an earlier attempt of this retrieval stored, as
	// Jumio sent them; nil for none.
	Details []byte
	// Parts are the image parts that earlier attempts of this retrieval stored.
	Parts map[PartKey]bool
	// hasImages reports whether jumio.images shows any yet.
	hasImages bool
}

// The commit does not wait for the disk: a crash of the database that forgets a lease has
// closed the run's connections, too, and the run is repeated once its job is taken for a
// dead worker's.
var claimRetrieval = `
	WITH claimed AS (
		UPDATE callbackd.workflow_executions
		SET lease_token = $3, lease_job_id = NULL, lease_until = clock_timestamp() + $4::interval,
			-- A run that was released does not count as an attempt, and may have stored details.
			retrieval_changed = retrieval_changed AND (retrieval_attempts > 0
				OR EXISTS (SELECT FROM callbackd.details AS d WHERE d.details_id = workflow_executions.details_id AND d.generation = $2)),
			retrieval_attempts = retrieval_attempts + 1
		WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND retrieval_state = 'pending'
			AND (lease_until IS NULL OR lease_until < clock_timestamp())
			-- Nor is it erased, as far as this worker's key tells.
			AND (NOT EXISTS (SELECT FROM callbackd.tombstones) OR EXISTS (SELECT FROM callbackd.erasure_key WHERE key_check = $6))
			AND NOT EXISTS (SELECT FROM callbackd.tombstones WHERE hash = $5)
		RETURNING *
	), stale AS (
		DELETE FROM callbackd.images AS i USING claimed AS c
		WHERE i.workflow_execution_id = c.workflow_execution_id AND NOT i.published AND i.generation <> $2
		RETURNING i.object_key, i.stored_in
	), queued AS (
		INSERT INTO callbackd.object_deletions (object_key, stored_in)
		SELECT object_key, stored_in FROM stale WHERE object_key IS NOT NULL
		ON CONFLICT DO NOTHING
	)
	SELECT ` + executionRow.Columns("c.") + `, c.details_id, o.generation IS NOT NULL,
		coalesce(CASE WHEN o.generation = $2 THEN o.body END, CASE WHEN d.generation = $2 THEN d.body END), i.credentials, i.classifiers, i.published,
		EXISTS (SELECT FROM callbackd.tombstones)
	FROM claimed AS c CROSS JOIN set_config('synchronous_commit', 'off', true)
	LEFT JOIN callbackd.workflow_details AS o ON o.workflow_execution_id = c.workflow_execution_id
	LEFT JOIN callbackd.details AS d ON d.details_id = c.details_id
	LEFT JOIN LATERAL (
		SELECT array_agg(credential_id) FILTER (WHERE generation = $2) AS credentials,
			array_agg(classifier) FILTER (WHERE generation = $2) AS classifiers, coalesce(bool_or(published), false) AS published
		FROM callbackd.images WHERE workflow_execution_id = c.workflow_execution_id
	) AS i ON true`

// ClaimRetrieval gives the run the lease for holdFor and counts the attempt. It returns
// ErrSuperseded if nothing is left to do, ErrBusy if another run holds the lease, and
// ErrErased if the account is erased; then the workflow execution is, too.
func (s *Store) ClaimRetrieval(ctx context.Context, l *Lease, holdFor time.Duration) (*Claim, error) {
	const doing = "claim a retrieval"
	var c Claim
	var credentials, classifiers []string
	into := append(executionRow.Into(&c.Execution), storedRow.Into(&c.stored)...)
	var erased bool // anything
	into = append(into, &c.Details, &credentials, &classifiers, &c.hasImages, &erased)
	var hash, check []byte
	if key := s.db.ErasureKey; !key.IsZero() {
		hash, check = key.Hash(tombstone.Subject{Kind: tombstone.WorkflowExecution, ID: l.WorkflowExecutionID}), key.Check()
	}
	err := s.db.Pool().QueryRow(ctx, claimRetrieval, l.WorkflowExecutionID, l.Generation, l.Token, holdFor, hash, check).Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, store.Translate(doing, whyNotHeld(ctx, s.db.Pool().QueryRow, l))
	}
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	if erased && c.AccountID != "" {
		if err := s.eraseIfBarred(ctx, s.NotErased(ctx, l.WorkflowExecutionID, c.AccountID), l.WorkflowExecutionID, c.AccountID); err != nil {
			return nil, store.Translate(doing, err)
		}
	}
	l.Attempt, l.claim = c.RetrievalAttempts, c
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
// does not count. Details, unless nil, are stored for the next attempt, with whose they
// are. It does nothing if the lease is no longer held. It returns ErrErased as FinishAttempt
// does.
func (s *Store) ReleaseRetrieval(ctx context.Context, l *Lease, r *Reading, i *Identity) error {
	return s.eraseIfBarred(ctx, s.releaseRetrieval(ctx, l, r, i), l.WorkflowExecutionID, l.account(i))
}

func (s *Store) releaseRetrieval(ctx context.Context, l *Lease, r *Reading, i *Identity) error {
	return s.withDetails(r, func(jsonb *string) error {
		return s.InTx(ctx, "release a retrieval", func(tx *Tx) error {
			tag, err := tx.Exec(ctx, `
				UPDATE callbackd.workflow_executions SET lease_token = NULL, lease_until = NULL,
					retrieval_attempts = CASE WHEN retrieval_generation = $2 THEN $4 ELSE retrieval_attempts END
				WHERE workflow_execution_id = $1 AND lease_token = $3 AND lease_job_id IS NULL`,
				l.WorkflowExecutionID, l.Generation, l.Token, max(l.Attempt-1, 0))
			if err != nil || tag.RowsAffected() == 0 || r == nil {
				return err
			}
			if err := tx.notBarred(ctx, executionAndAccount(l.WorkflowExecutionID, l.account(i))...); err != nil {
				return err
			}
			o := Outcome{Conclusion: workflow.Conclusion{State: l.claim.RetrievalState}, Read: r, Identity: i}
			id, earlier, err := tx.prepareRead(ctx, l, &o, jsonb)
			if err != nil {
				return err
			}
			batch := &pgx.Batch{}
			queueShow(batch, id, l.WorkflowExecutionID, r, i)
			queueDetails(batch, id, l.WorkflowExecutionID, l.Generation, r, jsonb, earlier)
			if o.changed() && l.claim.ResultState != "" {
				batch.Queue(setChanged, l.WorkflowExecutionID)
			}
			if err := tx.SendBatch(ctx, batch).Close(); err != nil {
				return err
			}
			tx.AddEvents(o.events(l)...)
			return nil
		})
	})
}

// Outcome is how an attempt ended.
type Outcome struct {
	workflow.Conclusion
	// Read is what this attempt's details say; nil for none.
	Read *Reading
	// Identity is from the details of this attempt or of an earlier one of the
	// retrieval; nil without details.
	Identity *Identity
	// Images counts the image parts that this retrieval has staged, including those
	// of earlier attempts.
	Images int

	detailsChanged, imagesChanged bool
}

// Identity is what the details say about a workflow execution. An empty field keeps the
// callbacks' value.
type Identity struct {
	AccountID             string `db:"account_id"`
	DefinitionKey         string `db:"definition_key"`
	UserReference         string `db:"user_reference"`
	UserReferenceUnsigned string `db:"user_reference_unsigned"`
	// DataCenter returned the details; empty if one endpoint serves all.
	DataCenter string `db:"data_center"`
}

var identityRow = store.RowOf[Identity]()

// errImagesLost means that a crash of the database lost staged images, so that the
// attempt must be repeated.
var errImagesLost = fmt.Errorf("staged images are lost: %w", store.ErrUnavailable)

// errDoubles means that a run whose lease has expired has staged images, too.
const errDoubles store.Error = "two runs have staged images"

// FinishAttempt stores an attempt's outcome, publishes the staged images, gives the
// lease back, calls complete and adds the events, all in one transaction. Nothing changes
// if it returns ErrSuperseded (a newer retrieval has begun), ErrBusy (another run has
// taken the lease) or ErrUnavailable (also if staged images are lost). If the workflow
// execution or its account, by the details, is erased, it erases what there is of it and
// returns ErrErased.
func (s *Store) FinishAttempt(ctx context.Context, l *Lease, o Outcome, complete func(*Tx) error) error {
	return s.eraseIfBarred(ctx, s.finishAttempt(ctx, l, o, complete), l.WorkflowExecutionID, l.account(o.Identity))
}

// account is whose the workflow execution is, as far as is known.
func (l *Lease) account(i *Identity) string {
	if i != nil && i.AccountID != "" {
		return i.AccountID
	}
	return l.claim.AccountID
}

func (s *Store) finishAttempt(ctx context.Context, l *Lease, o Outcome, complete func(*Tx) error) error {
	return s.withDetails(o.Read, func(jsonb *string) error {
		finish := func() error {
			return s.InTx(ctx, "finish a retrieval attempt", func(tx *Tx) error {
				if err := tx.finishAttempt(ctx, l, &o, jsonb); err != nil {
					return err
				}
				if err := complete(tx); err != nil {
					return err
				}
				tx.AddEvents(o.events(l)...)
				return nil
			})
		}
		err := finish()
		if errors.Is(err, errDoubles) {
			l.claim.hasImages = true // as if they were of an earlier retrieval
			err = finish()
		}
		return err
	})
}

// finishState stores how an attempt ended and locks the row. Once Jumio has said
// PROCESSED, later attempts need not ask for the status. Until the retrieval ends, the
// view counts images: a worker of the previous version may add some, and does not know the
// count.
func finishState(more string) string {
	return `
	UPDATE callbackd.workflow_executions AS w SET
		retrieval_state = $4, result_state = CASE WHEN $4 = 'pending' THEN result_state END,
		retrieval_error = nullif($5, ''), status = coalesce(nullif($6, ''), status), retrieval_attempts = $7,
		retrieval_asks_status = retrieval_asks_status AND $6 <> 'PROCESSED',
		lease_token = NULL, lease_until = NULL,
		retrieved_at = CASE WHEN $8 THEN clock_timestamp() ELSE retrieved_at END,
		image_count = CASE WHEN $4 <> 'pending' THEN $9::int END` + more + `
	WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND lease_token = $3 AND lease_job_id IS NULL
		AND retrieval_state = 'pending'`
}

// setIdentity shows whose the details are, once they are stored.
func setIdentity(before int) string {
	set := `, details_retrieved_at = coalesce(details_retrieved_at, retrieved_at, clock_timestamp())`
	for i, column := range strings.Split(identityRow.Written(), ", ") {
		set += fmt.Sprintf(", %s = coalesce($%d, w.%s)", column, before+i+1, column)
	}
	return set
}

var (
	finishWithout  = finishState("")
	finishIdentity = finishState(setIdentity(9))
	finishRead     = finishState(setIdentity(9) + ", " + readRow.Set(14))
	showRead       = `UPDATE callbackd.workflow_executions AS w SET image_count = CASE WHEN retrieval_state <> 'pending' THEN coalesce(image_count, (
			SELECT count(*) FROM callbackd.images AS i WHERE i.workflow_execution_id = $1 AND i.published)) END` +
		setIdentity(1) + ", " + readRow.Set(6) + ` WHERE workflow_execution_id = $1`
	setChanged = `UPDATE callbackd.workflow_executions SET retrieval_changed = true WHERE workflow_execution_id = $1`
)

func (tx *Tx) finishAttempt(ctx context.Context, l *Lease, o *Outcome, jsonb *string) error {
	id, earlier, err := tx.prepareRead(ctx, l, o, jsonb)
	if err != nil {
		return err
	}
	retrieved := o.answers() && o.Outcome != workflow.NotRequired
	args := []any{l.WorkflowExecutionID, l.Generation, l.Token, string(o.State), o.Error, o.Status, l.Attempt, retrieved, o.Images}
	statement := finishWithout
	if o.Identity != nil {
		args, statement = append(args, identityRow.Values(o.Identity)...), finishIdentity
	}
	if o.Read != nil {
		args, statement = append(args, readRow.Values(o.Read.columns(id))...), finishRead
	}
	batch := &pgx.Batch{}
	tx.queueNotBarred(batch, executionAndAccount(l.WorkflowExecutionID, l.account(o.Identity))...)
	batch.Queue(statement, args...).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == 0 {
			return ErrSuperseded
		}
		return nil
	})
	if l.claim.hasImages {
		queueReplaceImages(batch, l, o)
	} else {
		queuePublishImages(batch, l, o)
	}
	if o.Read != nil {
		queueDetails(batch, id, l.WorkflowExecutionID, l.Generation, o.Read, jsonb, earlier)
	}
	if missed := !l.claim.ExpectedAt.IsZero() || !l.claim.OverdueAt.IsZero(); missed && o.answers() {
		queueAnswer(batch, l.WorkflowExecutionID)
	}
	if o.State == workflow.Awaiting {
		queueReopen(batch, l.WorkflowExecutionID)
	}
	err = tx.SendBatch(ctx, batch).Close()
	if errors.Is(err, ErrSuperseded) {
		return whyNotHeld(ctx, tx.QueryRow, l)
	}
	if err == nil && o.Outcome == workflow.Pending && o.changed() && l.claim.ResultState != "" {
		_, err = tx.Exec(ctx, setChanged, l.WorkflowExecutionID)
	}
	return err
}

// answers reports whether Jumio has said how the workflow execution ended.
func (o *Outcome) answers() bool {
	return o.Outcome == workflow.Retrieved || o.Outcome == workflow.Partial || o.Outcome == workflow.NotRequired
}

// prepareRead compares details with those that are stored, and returns an id for them and
// where the others are.
func (tx *Tx) prepareRead(ctx context.Context, l *Lease, o *Outcome, jsonb *string) (id uuid.UUID, earlier stored, err error) {
	if o.Read == nil {
		return uuid.Nil, stored{}, nil
	}
	earlier, same, err := tx.compareDetails(ctx, l.WorkflowExecutionID, l.claim.stored, jsonb)
	if err != nil {
		return uuid.Nil, stored{}, err
	}
	o.detailsChanged = !same
	id, err = newDetailsID(time.Now())
	return id, earlier, err
}

func (o *Outcome) changed() bool { return o.detailsChanged || o.imagesChanged }

// events returns what consumers are told: that details are stored, and how the retrieval
// ended.
func (o *Outcome) events(l *Lease) []workflow.Event {
	c := &l.claim
	event := workflow.Event{
		WorkflowExecutionID: l.WorkflowExecutionID, AccountID: c.AccountID, UserReference: c.UserReference,
		RetrievalState: o.State, DecisionType: c.DecisionType,
	}
	if i := o.Identity; i != nil {
		event.AccountID, event.UserReference = cmp.Or(i.AccountID, c.AccountID), cmp.Or(i.UserReference, c.UserReference)
	}
	var events []workflow.Event
	if o.Read != nil {
		event.DecisionType = o.Read.Decision.Type
		event.Type, event.Changed = workflow.EventDetailsRetrieved, &o.detailsChanged
		events = append(events, event)
	}
	if o.Event != "" {
		event.Type, event.Changed = o.Event, nil
		if o.Event == workflow.EventRetrieved {
			changed := o.changed() || c.RetrievalChanged || o.State != c.ResultState
			event.Changed = &changed
		}
		events = append(events, event)
	}
	return events
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
