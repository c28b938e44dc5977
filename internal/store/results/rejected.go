package results

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/store"
)

// RejectedRow is a stored rejected callback.
type RejectedRow struct {
	callback.Rejected
	ReplayedAt time.Time `db:"replayed_at"` // zero if it has not been replayed
}

var rejectedRow = store.RowOf[RejectedRow]()

// selectRejected also reads rows that are older than the table's checks: Go cannot
// represent an infinite time, nor netip.Addr a network.
var selectRejected = `
	SELECT ` + rejectedRow.Columns("") + ` FROM (
		SELECT rejected_id, CASE WHEN isfinite(received_at) THEN received_at ELSE to_timestamp(0) END AS received_at,
			host(source_ip)::inet AS source_ip, reason, content_type, body,
			CASE WHEN isfinite(replayed_at) THEN replayed_at END AS replayed_at, workflow_execution_id, account_id, user_reference
		FROM callbackd.rejected_callbacks) AS r`

// ListRejected returns the newest rejected callbacks, newest first.
func (s *Store) ListRejected(ctx context.Context, limit int) ([]RejectedRow, error) {
	const doing = "list rejected callbacks"
	rows, err := s.db.Pool().Query(ctx, selectRejected+` ORDER BY rejected_id DESC LIMIT $1`, limit)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, rejectedRow.Scan)
	return list, store.Translate(doing, err)
}

// GetRejected returns one rejected callback, or store.ErrNotFound.
func (s *Store) GetRejected(ctx context.Context, id uuid.UUID) (RejectedRow, error) {
	doing := "read rejected callback " + id.String()
	rows, err := s.db.Pool().Query(ctx, selectRejected+` WHERE rejected_id = $1`, id)
	if err != nil {
		return RejectedRow{}, store.Translate(doing, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, rejectedRow.Scan)
	return r, store.Translate(doing, err)
}

var (
	callbackRow    = store.RowOf[callback.Callback]()
	insertCallback = callbackRow.Insert("callbackd.callbacks")
)

// Replay bounds and stores c, which was made from the rejected callback id, and marks
// that one as replayed. It stores nothing and returns store.ErrNotFound if the id is
// unknown or already replayed, and ErrErased if the callback is of what is erased.
func (s *Store) Replay(ctx context.Context, id uuid.UUID, c *callback.Callback) error {
	return s.InTx(ctx, "replay rejected callback "+id.String(), func(tx *Tx) error {
		if err := tx.NotErased(ctx, c.WorkflowExecutionID, c.AccountID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE callbackd.rejected_callbacks SET replayed_at = now()
			WHERE rejected_id = $1 AND replayed_at IS NULL`, id)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("unknown, or already replayed: %w", store.ErrNotFound)
		}
		c.Bound()
		tx.AfterCommit(func() { s.db.Wake(store.Inbox) })
		_, err = tx.Exec(ctx, insertCallback, callbackRow.Values(c)...)
		return err
	})
}

// ReplayDeadLetter returns the callback of a dead letter to the inbox and marks the dead
// letter as replayed. It returns store.ErrNotFound if the id is unknown or already
// replayed, or if the callback was never stored and so needs Replay.
func (s *Store) ReplayDeadLetter(ctx context.Context, id uuid.UUID) error {
	return s.InTx(ctx, "replay dead letter "+id.String(), func(tx *Tx) error {
		tx.AfterCommit(func() { s.db.Wake(store.Inbox) })
		named, err := tx.namedByCallback(ctx, id)
		if err != nil {
			return err
		}
		if err := tx.NotErased(ctx, named.WorkflowExecutionID, named.AccountID); err != nil {
			return err
		}
		var found bool
		err = tx.QueryRow(ctx, `
			WITH replayed AS (
				UPDATE callbackd.rejected_callbacks SET replayed_at = now()
				WHERE rejected_id = $1 AND replayed_at IS NULL AND reason LIKE $2
					AND EXISTS (SELECT FROM callbackd.callbacks WHERE callback_id = $1)
				RETURNING rejected_id
			), queued AS (
				INSERT INTO callbackd.inbox (callback_id) SELECT rejected_id FROM replayed ON CONFLICT DO NOTHING
			)
			SELECT EXISTS (SELECT FROM replayed)`, id, store.ReasonNotStorable+"%").Scan(&found)
		if err == nil && !found {
			return store.ErrNotFound
		}
		return err
	})
}
