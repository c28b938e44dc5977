package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
)

const insertRejected = `
	INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, source_ip, reason, content_type, body)
	VALUES ($1, $2, $3, $4, $5, $6)`

// rejectedArguments bounds r and gives the parameters of insertRejected.
func rejectedArguments(r *callback.Rejected) []any {
	r.Bound()
	return []any{r.ID, r.ReceivedAt, nullAddr(r.SourceIP), callback.CleanText(r.Reason), callback.CleanText(r.ContentType), notNil(r.Body)}
}

// InsertRejected keeps a rejected request. It takes at most
// Options.StoreTimeout.
func (s *Store) InsertRejected(ctx context.Context, r *callback.Rejected) error {
	ctx, cancel := context.WithTimeout(ctx, s.ingest.timeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, insertRejected, rejectedArguments(r)...)
	return translate("keep a rejected callback", err)
}

// RejectedRow is a rejected callback as it is kept; ReplayedAt is zero while it
// has not been replayed.
type RejectedRow struct {
	callback.Rejected
	ReplayedAt time.Time
}

// selectRejected reads rows from before the table's constraints, too: an infinite
// time and a network have no Go form.
const selectRejected = `
	SELECT rejected_id, CASE WHEN isfinite(received_at) THEN received_at ELSE to_timestamp(0) END, host(source_ip)::inet,
		reason, content_type, body, CASE WHEN isfinite(replayed_at) THEN replayed_at END
	FROM callbackd.rejected_callbacks`

func scanRejected(row pgx.CollectableRow) (RejectedRow, error) {
	var r RejectedRow
	var ip *netip.Addr
	var replayed *time.Time
	err := row.Scan(&r.ID, &r.ReceivedAt, &ip, &r.Reason, &r.ContentType, &r.Body, &replayed)
	if ip != nil {
		r.SourceIP = *ip
	}
	if replayed != nil {
		r.ReplayedAt = *replayed
	}
	return r, err
}

// ListRejected gives the newest rejected callbacks, newest first.
func (s *Store) ListRejected(ctx context.Context, limit int) ([]RejectedRow, error) {
	rows, err := s.pool.Query(ctx, selectRejected+` ORDER BY rejected_id DESC LIMIT $1`, limit)
	if err != nil {
		return nil, translate("list rejected callbacks", err)
	}
	list, err := pgx.CollectRows(rows, scanRejected)
	return list, translate("list rejected callbacks", err)
}

// GetRejected gives one rejected callback, or ErrNotFound.
func (s *Store) GetRejected(ctx context.Context, id uuid.UUID) (RejectedRow, error) {
	rows, err := s.pool.Query(ctx, selectRejected+` WHERE rejected_id = $1`, id)
	if err != nil {
		return RejectedRow{}, translate("read a rejected callback", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRejected)
	return r, translate("read rejected callback "+id.String(), err)
}

// Replay stores c, made from the rejected callback id, as if it had been
// accepted, and marks the rejected one as replayed. A second replay of the same
// one is an error and stores nothing.
func (s *Store) Replay(ctx context.Context, id uuid.UUID, c *callback.Callback) error {
	err := s.inTx(ctx, "replay rejected callback "+id.String(), func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE callbackd.rejected_callbacks SET replayed_at = now()
			WHERE rejected_id = $1 AND replayed_at IS NULL`, id)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("no such callback that has not been replayed: %w", ErrNotFound)
		}
		c.Bound()
		_, err = tx.Exec(ctx, insertCallback, insertArguments(c)...)
		return err
	})
	if err == nil {
		s.waker.wake()
	}
	return err
}

// ReplayDeadLetter has a dead letter whose callback is stored promoted once more,
// and marks it as replayed. ErrNotFound: there is no such dead letter that has not
// been replayed, or its callback was never stored, and Replay is for it.
func (s *Store) ReplayDeadLetter(ctx context.Context, id uuid.UUID) error {
	err := s.inTx(ctx, "replay dead letter "+id.String(), func(tx pgx.Tx) error {
		var found bool
		err := tx.QueryRow(ctx, `
			WITH replayed AS (
				UPDATE callbackd.rejected_callbacks SET replayed_at = now()
				WHERE rejected_id = $1 AND replayed_at IS NULL AND reason LIKE $2
					AND EXISTS (SELECT FROM callbackd.callbacks WHERE callback_id = $1)
				RETURNING rejected_id
			), queued AS (
				INSERT INTO callbackd.inbox (callback_id) SELECT rejected_id FROM replayed ON CONFLICT DO NOTHING
			)
			SELECT EXISTS (SELECT FROM replayed)`, id, ReasonNotStorable+"%").Scan(&found)
		if err == nil && !found {
			return ErrNotFound
		}
		return err
	})
	if err == nil {
		s.waker.wake()
	}
	return err
}
