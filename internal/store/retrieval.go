package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// BusyError says that another job retrieves the workflow execution now.
type BusyError struct {
	// Until is when its lease ends, unless it ends earlier by itself.
	Until time.Time
}

// Error says until when to stay away.
func (e *BusyError) Error() string {
	return "retrieved by another job until " + e.Until.Format(time.RFC3339)
}

// Lease is one job's exclusive right to retrieve a workflow execution.
type Lease struct {
	Retrieval
	JobID int64
	// Attempt counts from 1 within the retrieval.
	Attempt int
}

// PartKey names an image part within a workflow execution.
type PartKey struct{ CredentialID, Classifier string }

// Claim is what a job learns when it gets the lease.
type Claim struct {
	Status       string
	AccountID    string
	WorkflowHref string
	AccountHref  string
	// ReceivedAt is when the callback that led to this retrieval came.
	ReceivedAt time.Time
	// Details is Jumio's answer where an earlier attempt of this retrieval
	// has stored it; nil otherwise.
	Details []byte
	// Parts are the image parts that this retrieval has fetched already.
	Parts map[PartKey]bool
}

// ClaimRetrieval gives the job the lease for the time that an attempt may take,
// and counts the attempt. ErrSuperseded: there is nothing left to do.
// *BusyError: another job holds the lease.
func (s *Store) ClaimRetrieval(ctx context.Context, l Lease, holdFor time.Duration) (*Claim, error) {
	var c Claim
	var credentials, classifiers []string
	var received *time.Time
	err := s.pool.QueryRow(ctx, `
		WITH claimed AS (
			UPDATE callbackd.workflow_executions
			SET lease_job_id = $3, lease_until = clock_timestamp() + $4::interval, retrieval_attempts = $5
			WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND retrieval_state = 'pending'
				AND (lease_until IS NULL OR lease_until < clock_timestamp() OR lease_job_id = $3)
			RETURNING *
		), stale AS (
			DELETE FROM callbackd.images AS i USING claimed AS c
			WHERE i.workflow_execution_id = c.workflow_execution_id AND NOT i.published AND i.generation <> $2
		)
		SELECT coalesce(c.status, ''), coalesce(c.account_id, ''), coalesce(c.workflow_href, ''), coalesce(c.account_href, ''),
			c.retrieval_received_at, d.body, i.credentials, i.classifiers
		FROM claimed AS c
		LEFT JOIN callbackd.workflow_details AS d ON d.workflow_execution_id = c.workflow_execution_id AND d.generation = $2
		LEFT JOIN LATERAL (
			SELECT array_agg(credential_id) AS credentials, array_agg(classifier) AS classifiers
			FROM callbackd.images WHERE workflow_execution_id = c.workflow_execution_id AND generation = $2
		) AS i ON true`,
		l.WorkflowExecutionID, l.Generation, l.JobID, holdFor, l.Attempt).
		Scan(&c.Status, &c.AccountID, &c.WorkflowHref, &c.AccountHref, &received, &c.Details, &credentials, &classifiers)
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

func (s *Store) whyNotClaimed(ctx context.Context, l Lease) error {
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

// ReleaseRetrieval gives the lease back without an outcome and takes the
// attempt back, as after a stop or when a newer retrieval waits for the lease. A
// lease that is gone is no error.
func (s *Store) ReleaseRetrieval(ctx context.Context, l Lease) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE callbackd.workflow_executions SET lease_job_id = NULL, lease_until = NULL,
			retrieval_attempts = CASE WHEN retrieval_generation = $2 THEN $4 ELSE retrieval_attempts END
		WHERE workflow_execution_id = $1 AND lease_job_id = $3`,
		l.WorkflowExecutionID, l.Generation, l.JobID, l.Attempt-1)
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
func (s *Store) StageImage(ctx context.Context, l Lease, key PartKey, img *Image) error {
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
		{"content_type", pgtype.TextOID, CleanText(img.ContentType)},
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
	// Images is how many image parts this retrieval has staged, in this attempt
	// and in earlier ones.
	Images int
	Events []Event
}

// errImagesLost: the database has crashed and forgotten staged images. The
// attempt must be made again.
var errImagesLost = fmt.Errorf("staged images are gone: %w", ErrUnavailable)

// FinishAttempt stores an attempt's outcome, publishes the images that are in,
// gives the lease back and writes the events, all in one transaction. complete,
// if not nil, runs within it, before the events. ErrSuperseded: a newer
// retrieval has taken over, and nothing was changed. ErrUnavailable also when
// images are missing that were staged.
func (s *Store) FinishAttempt(ctx context.Context, l Lease, o Outcome, complete func(context.Context, pgx.Tx) error) error {
	details := jsonbText(o.Details)
	err := s.finishAttempt(ctx, l, o, details, complete)
	if details != nil && badRow(err) {
		// Something jsonb cannot hold after all. The bytes are kept either way.
		err = s.finishAttempt(ctx, l, o, nil, complete)
	}
	return err
}

func (s *Store) finishAttempt(ctx context.Context, l Lease, o Outcome, details *string, complete func(context.Context, pgx.Tx) error) error {
	return s.inTx(ctx, "finish a retrieval attempt", func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		// The state first: it locks the row, and tells whether the lease still holds.
		batch.Queue(`
			UPDATE callbackd.workflow_executions SET retrieval_state = $4, retrieval_error = $5, status = coalesce($6, status),
				retrieval_attempts = $7, lease_job_id = NULL, lease_until = NULL,
				retrieved_at = CASE WHEN $4 IN ('retrieved', 'partial') THEN clock_timestamp() ELSE retrieved_at END
			WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND lease_job_id = $3 AND retrieval_state = 'pending'`,
			l.WorkflowExecutionID, l.Generation, l.JobID, string(o.State), nullText(o.Error), nullText(o.Status), l.Attempt).
			Exec(func(tag pgconn.CommandTag) error {
				if tag.RowsAffected() == 0 {
					return ErrSuperseded
				}
				return nil
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
		return appendEvents(ctx, tx, o.Events)
	})
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

// Refetch starts the retrieval of workflow executions anew, from attempt 1, and
// lets enqueue add the jobs in the same transaction. If any of them is unknown,
// nothing is done and the error, which wraps ErrNotFound, names it.
func (s *Store) Refetch(ctx context.Context, ids []string, enqueue func(context.Context, pgx.Tx, []Retrieval) error) error {
	return s.inTx(ctx, "queue the retrieval again", func(tx pgx.Tx) error {
		retrievals := make([]Retrieval, 0, len(ids))
		for _, id := range ids {
			r := Retrieval{WorkflowExecutionID: id}
			err := tx.QueryRow(ctx, `
				UPDATE callbackd.workflow_executions SET retrieval_state = 'pending', retrieval_generation = retrieval_generation + 1,
					retrieval_attempts = 0, retrieval_error = NULL, retrieval_received_at = now()
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
}
