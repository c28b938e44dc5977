package results

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/store"
)

const (
	// uploadPatience is how long an upload that has failed may still make its object appear.
	uploadPatience = 5 * time.Minute
	// staleUpload is how old an upload is that a crash must have left behind: an attempt
	// and the commands' uploads take minutes.
	staleUpload = time.Hour
	// retryDeletion is the pause after an object could not be deleted; each time twice as
	// long, up to longestRetry.
	retryDeletion, longestRetry = 10 * time.Second, 10 * time.Minute
)

// holdsLease selects a row, and locks it, if a run holds its lease: parameters 1 to 3.
const holdsLease = `SELECT FROM callbackd.workflow_executions AS w
	WHERE w.workflow_execution_id = $1 AND w.retrieval_generation = $2 AND w.lease_token = $3 AND w.lease_job_id IS NULL
		AND w.retrieval_state = 'pending' FOR SHARE`

// BeginUpload notes, durably, that an object is about to be uploaded for an image that is
// retrieved. It returns ErrBusy or ErrSuperseded if the lease is no longer held.
func (s *Store) BeginUpload(ctx context.Context, l *Lease, p ImagePlace) error {
	const doing = "note an upload"
	tag, err := s.db.Pool().Exec(ctx, `
		WITH held AS (`+holdsLease+`)
		INSERT INTO callbackd.image_uploads (object_key, stored_in, workflow_execution_id) SELECT $4, $5, $1 FROM held`,
		l.WorkflowExecutionID, l.Generation, l.Token, p.ObjectKey, p.StoredIn)
	if err == nil && tag.RowsAffected() == 0 {
		err = whyNotHeld(ctx, s.db.Pool().QueryRow, l)
	}
	return store.Translate(doing, err)
}

// AbandonUpload has the object of an upload deleted that will not get its row. If it
// fails, the object is deleted an hour later.
func (s *Store) AbandonUpload(ctx context.Context, objectKey string) error {
	_, err := s.db.Pool().Exec(ctx, `
		WITH gone AS (DELETE FROM callbackd.image_uploads WHERE object_key = $1 RETURNING object_key, stored_in)
		INSERT INTO callbackd.object_deletions (object_key, stored_in, not_before)
		SELECT object_key, stored_in, clock_timestamp() + $2::interval FROM gone
		ON CONFLICT DO NOTHING`, objectKey, uploadPatience)
	return store.Translate("abandon an upload", err)
}

// AbandonStaleUploads has the objects of uploads deleted that crashes have left behind. An
// object that got its row is none of them.
func (s *Store) AbandonStaleUploads(ctx context.Context) error {
	_, err := s.db.Pool().Exec(ctx, `
		WITH gone AS (
			DELETE FROM callbackd.image_uploads WHERE started_at < clock_timestamp() - $1::interval RETURNING object_key, stored_in
		)
		INSERT INTO callbackd.object_deletions (object_key, stored_in) SELECT object_key, stored_in FROM gone
		ON CONFLICT DO NOTHING`, staleUpload)
	return store.Translate("abandon uploads that crashes have left", err)
}

// TakeDeletions returns the keys of at most limit objects in a kind of store that are to
// be deleted now. Those that DeletionsDone is not told of come back after a while.
func (s *Store) TakeDeletions(ctx context.Context, storedIn string, limit int) ([]string, error) {
	const doing = "look for objects to delete"
	rows, err := s.db.Pool().Query(ctx, `
		UPDATE callbackd.object_deletions AS d SET attempts = d.attempts + 1,
			not_before = clock_timestamp() + least($3::interval * power(2, least(d.attempts, 20)), $4::interval)
		WHERE d.object_key IN (
			SELECT q.object_key FROM callbackd.object_deletions AS q
			WHERE q.not_before <= clock_timestamp() AND q.stored_in = $1
			ORDER BY q.not_before LIMIT $2 FOR UPDATE SKIP LOCKED)
		RETURNING d.object_key`, storedIn, limit, retryDeletion, longestRetry)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return keys, store.Translate(doing, err)
}

// DeletionsDone notes that objects are gone.
func (s *Store) DeletionsDone(ctx context.Context, keys []string) error {
	_, err := s.db.Pool().Exec(ctx, `DELETE FROM callbackd.object_deletions WHERE object_key = ANY($1)`, keys)
	return store.Translate("note that objects are deleted", err)
}

// DeletionsWaiting returns how many objects are to be deleted, and when the deletion was
// queued that has waited longest; zero for none.
func (s *Store) DeletionsWaiting(ctx context.Context) (waiting int64, oldest time.Time, err error) {
	err = s.db.Pool().QueryRow(ctx, `SELECT count(*), min(queued_at) FROM callbackd.object_deletions`).
		Scan(&waiting, (*zeronull.Timestamptz)(&oldest))
	return waiting, oldest, store.Translate("count the objects to delete", err)
}
