package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
)

// DeadLetter takes a callback that could not be promoted for its own values out
// of the inbox, and keeps it as rejected under its own id, with the cause in the
// reason: Replay tries it again. The callback itself stays where it is. It
// returns the reason, which is empty when somebody else has taken the callback
// meanwhile.
func (s *Store) DeadLetter(ctx context.Context, id uuid.UUID, cause error) (reason string, err error) {
	err = s.inTx(ctx, "set a callback aside", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM callbackd.inbox WHERE callback_id = $1`, id)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		reason = notStorable(cause)
		_, err = tx.Exec(ctx, `
			INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, source_ip, reason, content_type, body)
			SELECT callback_id,
				CASE WHEN received_at BETWEEN '1970-01-01T00:00:00Z' AND '2199-12-31T00:00:00Z' THEN received_at ELSE now() END,
				source_ip, $2, left(content_type, 256), substring(body FROM 1 FOR $3)
			FROM callbackd.callbacks WHERE callback_id = $1
			ON CONFLICT (rejected_id) DO UPDATE SET reason = excluded.reason, replayed_at = NULL`, id, reason, callback.RejectedBodyLimit)
		return err
	})
	if err != nil {
		return "", err
	}
	if reason != "" {
		s.metrics.deadLetters.Inc()
	}
	return reason, nil
}
