package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"callbackd/internal/callback"
)

// BusyError says that another run retrieves the workflow execution now.
type BusyError struct {
	// Until is when its lease ends, unless it ends earlier by itself.
	Until time.Time
}

// Error says until when to stay away.
func (e *BusyError) Error() string {
	return "retrieved by another run until " + e.Until.Format(time.RFC3339)
}

// Lease is one run's exclusive right to retrieve a workflow execution.
type Lease struct {
	Retrieval
	// Token tells the run from every other, also of the same job.
	Token uuid.UUID
	// Attempt counts from 1 within the retrieval; ClaimRetrieval sets it.
	Attempt int
}

// PartKey names an image part within a workflow execution.
type PartKey struct{ CredentialID, Classifier string }

// Claim is what a run learns when it gets the lease.
type Claim struct {
	Status        string
	AccountID     string
	DefinitionKey string
	UserReference string
	WorkflowHref  string
	AccountHref   string
	// DataCenter answered with details before; empty before the first.
	DataCenter string
	// AsksStatus: callbacks contradict each other, so Jumio is to be asked.
	AsksStatus bool
	// HasResult: an earlier retrieval got something.
	HasResult bool
	// ReceivedAt is when the callback that led to this retrieval came.
	ReceivedAt time.Time
	// Details is Jumio's answer where an earlier attempt of this retrieval
	// has stored it; nil otherwise.
	Details []byte
	// Parts are the image parts that this retrieval has fetched already.
	Parts map[PartKey]bool
}

// ClaimRetrieval gives the run the lease for the time that an attempt may take,
// and counts the attempt. ErrSuperseded: there is nothing left to do.
// *BusyError: another run holds the lease.
func (s *Store) ClaimRetrieval(ctx context.Context, l *Lease, holdFor time.Duration) (*Claim, error) {
	var c Claim
	var credentials, classifiers []string
	var received *time.Time
	err := s.pool.QueryRow(ctx, `
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
		SELECT c.retrieval_attempts, coalesce(c.status, ''), coalesce(c.account_id, ''), coalesce(c.definition_key, ''),
			coalesce(c.user_reference, ''), coalesce(c.workflow_href, ''), coalesce(c.account_href, ''), coalesce(c.data_center, ''),
			c.retrieval_asks_status, c.result_state IS NOT NULL, c.retrieval_received_at, d.body, i.credentials, i.classifiers
		FROM claimed AS c
		LEFT JOIN callbackd.workflow_details AS d ON d.workflow_execution_id = c.workflow_execution_id AND d.generation = $2
		LEFT JOIN LATERAL (
			SELECT array_agg(credential_id) AS credentials, array_agg(classifier) AS classifiers
			FROM callbackd.images WHERE workflow_execution_id = c.workflow_execution_id AND generation = $2
		) AS i ON true`,
		l.WorkflowExecutionID, l.Generation, l.Token, holdFor).
		Scan(&l.Attempt, &c.Status, &c.AccountID, &c.DefinitionKey, &c.UserReference, &c.WorkflowHref, &c.AccountHref, &c.DataCenter,
			&c.AsksStatus, &c.HasResult, &received, &c.Details, &credentials, &classifiers)
	if err == pgx.ErrNoRows { //nolint:errorlint // Scan returns it bare
		return nil, s.whyNotClaimed(ctx, l)
	}
	if err != nil {
		return nil, translate("claim a retrieval", err)
	}
	c.ReceivedAt = timeOrZero(received)
	c.Parts = make(map[PartKey]bool, len(credentials))
	for i := range credentials {
		c.Parts[PartKey{credentials[i], classifiers[i]}] = true
	}
	return &c, nil
}

func (s *Store) whyNotClaimed(ctx context.Context, l *Lease) error {
	var until *time.Time
	err := s.pool.QueryRow(ctx, `SELECT lease_until FROM callbackd.workflow_executions
		WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND retrieval_state = 'pending'`,
		l.WorkflowExecutionID, l.Generation).Scan(&until)
	switch {
	case err == pgx.ErrNoRows: //nolint:errorlint // Scan returns it bare
		return ErrSuperseded
	case err != nil:
		return translate("look at a retrieval's lease", err)
	default:
		return &BusyError{Until: timeOrZero(until)}
	}
}

// Address is what one callback says of where its workflow execution is.
type Address struct{ AccountID, WorkflowHref, AccountHref string }

const (
	// mostPlaces is how many different ones of a workflow execution are worth
	// a request; mostRead is how many of its callbacks are looked at for them.
	mostPlaces = 8
	mostRead   = 1000
)

// Addresses gives the different addresses that a workflow execution's callbacks
// name, at most 8, bounded as by Callback.Bound. more: its callbacks may name
// others besides.
func (s *Store) Addresses(ctx context.Context, workflowExecutionID string) (list []Address, more bool, err error) {
	const doing = "read a workflow execution's addresses"
	rows, err := s.pool.Query(ctx, `
		WITH c AS (
			SELECT account_id, workflow_href, account_href FROM callbackd.callbacks WHERE workflow_execution_id = $1 LIMIT $2
		)
		SELECT DISTINCT
			CASE WHEN octet_length(account_id) <= 64 THEN account_id ELSE '' END,
			CASE WHEN octet_length(workflow_href) <= 2048 THEN workflow_href ELSE '' END,
			CASE WHEN octet_length(account_href) <= 2048 THEN account_href ELSE '' END,
			(SELECT count(*) = $2 FROM c)
		FROM c LIMIT $3`, workflowExecutionID, mostRead, mostPlaces)
	if err != nil {
		return nil, false, translate(doing, err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Address, err error) {
		return a, row.Scan(&a.AccountID, &a.WorkflowHref, &a.AccountHref, &more)
	})
	return list, more || len(list) == mostPlaces, translate(doing, err)
}

// ReleaseRetrieval gives the lease back without an outcome and takes the
// attempt back, as after a stop. A lease that is gone is no error.
func (s *Store) ReleaseRetrieval(ctx context.Context, l *Lease) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE callbackd.workflow_executions SET lease_token = NULL, lease_until = NULL,
			retrieval_attempts = CASE WHEN retrieval_generation = $2 THEN $4 ELSE retrieval_attempts END
		WHERE workflow_execution_id = $1 AND lease_token = $3 AND lease_job_id IS NULL`,
		l.WorkflowExecutionID, l.Generation, l.Token, max(l.Attempt-1, 0))
	return translate("release a retrieval", err)
}

// Image is the content of one image part as it was fetched.
type Image struct {
	AccountID   string
	Category    string
	ContentType string
	SHA256      [sha256.Size]byte
	// Width and Height are in pixels, 0 for what is no JPEG or PNG.
	Width, Height int
	Data          []byte
}

// StageImage stores an image, not yet visible in jumio.images: to publish it and
// to make it durable is FinishAttempt's part. The data are sent as they lie in
// memory, without a copy.
func (s *Store) StageImage(ctx context.Context, l *Lease, key PartKey, img *Image) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an image id: %w", err)
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate("store an image", err)
	}
	defer conn.Release()
	columns := []copyColumn{
		{"image_id", pgtype.UUIDOID, id},
		{"workflow_execution_id", pgtype.TextOID, l.WorkflowExecutionID},
		{"account_id", pgtype.TextOID, nullText(img.AccountID)},
		{"credential_id", pgtype.TextOID, key.CredentialID},
		{"category", pgtype.TextOID, nullText(img.Category)},
		{"classifier", pgtype.TextOID, key.Classifier},
		{"content_type", pgtype.TextOID, callback.CleanText(img.ContentType)},
		{"size_bytes", pgtype.Int8OID, int64(len(img.Data))},
		{"sha256", pgtype.ByteaOID, img.SHA256[:]},
		{"width", pgtype.Int4OID, nullInt(img.Width)},
		{"height", pgtype.Int4OID, nullInt(img.Height)},
		{"retrieved_at", pgtype.TimestamptzOID, time.Now()},
		{"generation", pgtype.Int4OID, int32(l.Generation)}, //nolint:gosec // far below 2^31 retrievals
		{"published", pgtype.BoolOID, false},
	}
	return translate("store an image", copyRow(ctx, conn.Conn(), "callbackd.images", columns, "data", img.Data))
}

func nullInt(n int) *int32 {
	if n <= 0 {
		return nil
	}
	v := int32(n) //nolint:gosec // pixels of an image header
	return &v
}

// Outcome is how an attempt ended.
type Outcome struct {
	// State is Pending when another attempt follows.
	State RetrievalState
	// Error is the column retrieval_error: a code, then ": " and a detail.
	Error string
	// Status, when set, replaces the workflow execution's status.
	Status string
	// Details, when set, is Jumio's answer, unchanged.
	Details []byte
	// Identity is what the details say, when they are set.
	Identity Identity
	// Images is how many image parts this retrieval has staged, in this attempt
	// and in earlier ones.
	Images int
	Events []Event
}

// Identity says whose a workflow execution is, as Jumio itself says it. What is
// empty leaves what callbacks have said.
type Identity struct {
	AccountID, DefinitionKey, UserReference string
	// DataCenter answered; it may be empty where one endpoint serves all.
	DataCenter string
}

// errImagesLost: the database has crashed and forgotten staged images. The
// attempt must be made again.
var errImagesLost = fmt.Errorf("staged images are gone: %w", ErrUnavailable)

// FinishAttempt stores an attempt's outcome, publishes the images that are in,
// gives the lease back and writes the events, all in one transaction. Where an
// earlier retrieval got something and this one ends without, its state comes back
// and there are no events. complete, if not nil, runs within it, before the
// events. It returns the state that was stored. ErrSuperseded: a newer retrieval
// has taken over; *BusyError: another run of this one has; nothing was changed
// then. ErrUnavailable also when images are missing that were staged.
func (s *Store) FinishAttempt(ctx context.Context, l *Lease, o Outcome, complete func(context.Context, pgx.Tx) error) (RetrievalState, error) {
	details := jsonbText(o.Details)
	state, err := s.finishAttempt(ctx, l, o, details, complete)
	if details != nil && badRow(err) {
		// Something jsonb cannot hold after all. The bytes are kept either way.
		state, err = s.finishAttempt(ctx, l, o, nil, complete)
	}
	switch {
	case errors.Is(err, ErrSuperseded):
		return "", s.whyNotClaimed(ctx, l)
	case err == nil && state == o.State:
		s.waker.announce(o.Events, false)
	}
	return state, err
}

// finishState stores how an attempt ended. It locks the row, and returns none
// when the lease is gone.
const finishState = `
	UPDATE callbackd.workflow_executions AS w SET
		retrieval_state = CASE WHEN $4 IN ('failed', 'awaiting') THEN coalesce(result_state, $4) ELSE $4 END,
		result_state = CASE WHEN $4 = 'pending' THEN result_state END,
		retrieval_error = $5, status = coalesce($6, status), retrieval_attempts = $7, lease_token = NULL, lease_until = NULL,
		retrieved_at = CASE WHEN $4 IN ('retrieved', 'partial') THEN clock_timestamp() ELSE retrieved_at END,
		details_retrieved_at = CASE WHEN $8 THEN coalesce(details_retrieved_at, clock_timestamp()) ELSE details_retrieved_at END,
		account_id = coalesce($9, account_id), definition_key = coalesce($10, definition_key),
		user_reference = coalesce($11, user_reference), data_center = coalesce($12, data_center)
	WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND lease_token = $3 AND lease_job_id IS NULL
		AND retrieval_state = 'pending'
	RETURNING retrieval_state`

func (s *Store) finishAttempt(ctx context.Context, l *Lease, o Outcome, details *string, complete func(context.Context, pgx.Tx) error) (state RetrievalState, err error) {
	err = s.inTx(ctx, "finish a retrieval attempt", func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(finishState, l.WorkflowExecutionID, l.Generation, l.Token, string(o.State), nullText(o.Error), nullText(o.Status),
			l.Attempt, o.Details != nil, nullText(o.Identity.AccountID), nullText(o.Identity.DefinitionKey),
			nullText(o.Identity.UserReference), nullText(o.Identity.DataCenter)).
			QueryRow(func(row pgx.Row) error {
				err := row.Scan(&state)
				if errors.Is(err, pgx.ErrNoRows) {
					return ErrSuperseded
				}
				return err
			})
		batch.Queue(`SELECT count(*) FROM callbackd.images WHERE workflow_execution_id = $1 AND generation = $2`,
			l.WorkflowExecutionID, l.Generation).
			QueryRow(func(row pgx.Row) error {
				var images int
				if err := row.Scan(&images); err != nil {
					return err
				}
				if images < o.Images {
					return errImagesLost
				}
				return nil
			})
		if o.Details != nil {
			batch.Queue(`
				INSERT INTO callbackd.workflow_details (workflow_execution_id, generation, details, body)
				VALUES ($1, $2, $3::text::jsonb, $4)
				ON CONFLICT (workflow_execution_id) DO UPDATE
				SET generation = excluded.generation, details = excluded.details, body = excluded.body`,
				l.WorkflowExecutionID, l.Generation, details, o.Details)
		}
		publishImages(batch, l.WorkflowExecutionID)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		if complete != nil {
			if err := complete(ctx, tx); err != nil {
				return err
			}
		}
		if state != o.State {
			return nil
		}
		return addEvents(ctx, tx, o.Events)
	})
	return state, err
}

// publishImages makes the staged images visible. Where the part has an image
// already, that row keeps its id and takes the content if it changed; an
// unchanged content keeps its place on disk too.
func publishImages(batch *pgx.Batch, workflowExecutionID string) {
	batch.Queue(`
		UPDATE callbackd.images AS p SET
			generation = s.generation, account_id = s.account_id, category = s.category, content_type = s.content_type,
			size_bytes = s.size_bytes, sha256 = s.sha256, width = s.width, height = s.height,
			retrieved_at = CASE WHEN p.sha256 = s.sha256 THEN p.retrieved_at ELSE s.retrieved_at END,
			data = CASE WHEN p.sha256 = s.sha256 THEN p.data ELSE s.data END
		FROM callbackd.images AS s
		WHERE p.workflow_execution_id = $1 AND p.published AND s.workflow_execution_id = $1 AND NOT s.published
			AND s.credential_id = p.credential_id AND s.classifier = p.classifier`, workflowExecutionID)
	batch.Queue(`
		DELETE FROM callbackd.images AS s USING callbackd.images AS p
		WHERE p.workflow_execution_id = $1 AND p.published AND s.workflow_execution_id = $1 AND NOT s.published
			AND s.credential_id = p.credential_id AND s.classifier = p.classifier`, workflowExecutionID)
	batch.Queue(`UPDATE callbackd.images SET published = true WHERE workflow_execution_id = $1 AND NOT published`, workflowExecutionID)
}

// Backlog is what waits for the workers, in the whole database.
type Backlog struct {
	// Callbacks are those that are not promoted yet.
	Callbacks int64
	// Retrievals are the workflow executions whose retrieval is pending.
	Retrievals int64
	// Oldest is when the callback arrived, or the refetch was asked for, whose
	// retrieval has been pending longest; the zero time when there is none.
	Oldest time.Time
}

// Backlog counts what waits.
func (s *Store) Backlog(ctx context.Context) (Backlog, error) {
	var b Backlog
	var oldest *time.Time
	err := s.pool.QueryRow(ctx, `
		SELECT count(*), min(retrieval_received_at), (SELECT count(*) FROM callbackd.inbox)
		FROM callbackd.workflow_executions WHERE retrieval_state = 'pending'`).Scan(&b.Retrievals, &oldest, &b.Callbacks)
	if oldest != nil {
		b.Oldest = *oldest
	}
	return b, translate("count what waits for the workers", err)
}

// SetJobPriority sets the priority of River's job, from 1, the most urgent, to 4.
func SetJobPriority(ctx context.Context, tx pgx.Tx, jobID int64, priority int) error {
	_, err := tx.Exec(ctx, `UPDATE callbackd.river_job SET priority = $2 WHERE id = $1`, jobID, priority)
	return err
}

// Refetch starts the retrieval of workflow executions anew, from attempt 1, and
// lets enqueue add the jobs in the same transaction. If any of them is unknown,
// nothing is done and the error, which wraps ErrNotFound, names it.
func (s *Store) Refetch(ctx context.Context, ids []string, enqueue func(context.Context, pgx.Tx, []Retrieval) error) error {
	sorted := slices.Compact(slices.Sorted(slices.Values(ids))) // the order in which promotion locks
	err := s.inTx(ctx, "queue the retrieval again", func(tx pgx.Tx) error {
		retrievals := make([]Retrieval, 0, len(sorted))
		for _, id := range sorted {
			r := Retrieval{WorkflowExecutionID: id, Known: true}
			err := tx.QueryRow(ctx, `UPDATE callbackd.workflow_executions SET `+beginRetrieval+`, retrieval_asks_status = false
				WHERE workflow_execution_id = $1 RETURNING retrieval_generation`, id).Scan(&r.Generation)
			if err == pgx.ErrNoRows { //nolint:errorlint // Scan returns it bare
				return fmt.Errorf("workflow execution %q: %w", id, ErrNotFound)
			}
			if err != nil {
				return err
			}
			retrievals = append(retrievals, r)
		}
		return enqueue(ctx, tx, retrievals)
	})
	if err == nil {
		s.waker.announce(nil, true)
	}
	return err
}

// beginRetrieval is SET's part of a new retrieval: pending, from attempt 1.
const beginRetrieval = `retrieval_state = 'pending', retrieval_generation = retrieval_generation + 1,
	result_state = CASE WHEN retrieval_state IN ('retrieved', 'partial') THEN retrieval_state ELSE result_state END,
	retrieval_attempts = 0, retrieval_error = NULL, retrieval_received_at = now(), retrieval_due_at = NULL`

// mostRequeued bounds a transaction of StartDue and of RequeueLost.
const mostRequeued = 500

// StartDue begins the retrievals that were put off until now, paced seconds apart
// from the ones before them, and returns how many. What is being retrieved is
// left until that is over.
func (s *Store) StartDue(ctx context.Context, interval time.Duration, enqueue func(context.Context, pgx.Tx, []Retrieval) error) (int, error) {
	return s.requeue(ctx, "begin the retrievals that are due", enqueue, `
		UPDATE callbackd.workflow_executions SET `+beginRetrieval+`,
			retrieval_paced_at = greatest(retrieval_paced_at, now()) + $2::interval
		WHERE workflow_execution_id = ANY (ARRAY(
			SELECT workflow_execution_id FROM callbackd.workflow_executions
			WHERE retrieval_due_at <= now() AND (lease_until IS NULL OR lease_until < now())
			ORDER BY workflow_execution_id LIMIT $1 FOR UPDATE SKIP LOCKED))
		RETURNING workflow_execution_id, retrieval_generation, details_retrieved_at IS NOT NULL`, mostRequeued, interval)
}

// RequeueLost queues the retrievals again that are pending and have no job that
// would make them, whatever has become of it, and returns how many. They go on
// with the next attempt.
func (s *Store) RequeueLost(ctx context.Context, enqueue func(context.Context, pgx.Tx, []Retrieval) error) (int, error) {
	return s.requeue(ctx, "queue retrievals again that have lost their job", enqueue, `
		SELECT w.workflow_execution_id, w.retrieval_generation, w.details_retrieved_at IS NOT NULL
		FROM callbackd.workflow_executions AS w
		WHERE w.retrieval_state = 'pending' AND (w.lease_until IS NULL OR w.lease_until < now())
			AND NOT EXISTS (
				SELECT FROM callbackd.river_job AS j
				WHERE j.kind = 'retrieval' AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled')
					AND j.args ->> 'workflow_execution_id' = w.workflow_execution_id
					AND j.args ->> 'generation' = w.retrieval_generation::text)
		ORDER BY w.workflow_execution_id LIMIT $1 FOR UPDATE OF w SKIP LOCKED`, mostRequeued)
}

// requeue enqueues the retrievals that the statement returns.
func (s *Store) requeue(ctx context.Context, doing string, enqueue func(context.Context, pgx.Tx, []Retrieval) error, sql string, args ...any) (int, error) {
	var list []Retrieval
	err := s.inTx(ctx, doing, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		if list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Retrieval]); err != nil || len(list) == 0 {
			return err
		}
		return enqueue(ctx, tx, list)
	})
	if err != nil {
		return 0, err
	}
	if len(list) > 0 {
		s.waker.announce(nil, true)
	}
	return len(list), nil
}
