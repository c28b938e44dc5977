package results

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/store"
	"callbackd/internal/workflow"
)

// Take says which callbacks to take from the inbox, the oldest first: at most Limit,
// only those in Only unless it is nil, and none of Except.
type Take struct {
	Limit        int
	Only, Except []uuid.UUID
}

const selectInbox = `
	SELECT callback_id FROM callbackd.inbox
	WHERE ($2::uuid[] IS NULL OR callback_id = ANY ($2)) AND callback_id <> ALL (coalesce($3::uuid[], '{}'))
	ORDER BY callback_id LIMIT $1`

// Inbox returns the ids of the callbacks that TakeInbox would take.
func (s *Store) Inbox(ctx context.Context, t Take) ([]uuid.UUID, error) {
	const doing = "read the inbox"
	rows, err := s.db.Pool().Query(ctx, selectInbox, t.Limit, t.Only, t.Except)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return ids, store.Translate(doing, err)
}

var deliveryRow = store.RowOf[workflow.Delivery]()

// takeInbox bounds what it reads, since a row may be older than the table's checks: Go
// cannot represent an infinite time, and a few thousand long texts do not fit into
// memory. Callback.Bound does the rest.
//
// Arrays instead of joins make the planner use the primary keys, whatever the statistics
// say about tables that grow this fast. The bounds spare the partitions of other months.
var takeInbox = `
	WITH taken AS (
		DELETE FROM callbackd.inbox WHERE callback_id = ANY (ARRAY(` + selectInbox + ` FOR UPDATE SKIP LOCKED))
		RETURNING callback_id
	)
	SELECT ` + deliveryColumns() + `
	FROM callbackd.callbacks AS c WHERE c.callback_id = ANY (ARRAY(SELECT callback_id FROM taken))
		AND c.callback_id >= (SELECT callback_id FROM taken ORDER BY callback_id LIMIT 1)
		AND c.callback_id <= (SELECT callback_id FROM taken ORDER BY callback_id DESC LIMIT 1)
	ORDER BY received_at, c.callback_id`

func deliveryColumns() string {
	bounded := map[string]string{
		"received_at": `CASE WHEN c.received_at BETWEEN '1970-01-01T00:00:00Z' AND clock_timestamp() + interval '10 minutes'
			THEN c.received_at ELSE clock_timestamp() END AS received_at`,
		"callback_sent_at": `CASE WHEN isfinite(c.callback_sent_at) THEN c.callback_sent_at END`,
		"source_ip":        `NULL::inet`,
		"body":             `NULL::bytea`,
		"body_digest": `CASE WHEN c.callback_sent_at <= c.received_at THEN NULL
			WHEN octet_length(c.body) <= 65536 THEN sha256(c.body)
			ELSE sha256(substring(c.body FROM 1 FOR 65536) || int8send(octet_length(c.body))) END`,
		"callback_id": `c.callback_id`,
	}
	names := strings.Split(deliveryRow.Columns(""), ", ")
	for i, name := range names {
		names[i] = bounded[name]
		if names[i] == "" {
			names[i] = "left(c." + name + ", 1000)"
		}
	}
	return strings.Join(names, ", ")
}

// TakeInbox takes callbacks out of the inbox, except those that another promoter holds,
// and returns them in the order of their arrival. They are bounded as by Callback.Bound,
// whoever wrote the rows, but a workflow execution's id may be invalid; then the
// callback cannot be promoted.
//
// It does not return callbacks of what is erased, but their ids, for DropCallbacks.
//
// From then on, the transaction waits no longer than promotionLockTimeout for a lock.
func (tx *Tx) TakeInbox(ctx context.Context, t Take) (list []workflow.Delivery, barred []uuid.UUID, err error) {
	var erased bool
	batch := &pgx.Batch{}
	batch.Queue(`SELECT set_config('lock_timeout', $1, true)`, promotionLockTimeout)
	batch.Queue(takeInbox, t.Limit, t.Only, t.Except).Query(func(rows pgx.Rows) error {
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (workflow.Delivery, error) {
			d, err := deliveryRow.Scan(row)
			d.Bound()
			return d, err
		})
		return err
	})
	// While there is nothing, there will be nothing until the transaction ends: this
	// locks the tombstones (ACCESS SHARE).
	batch.Queue(`SELECT EXISTS (SELECT FROM callbackd.tombstones)`).QueryRow(func(row pgx.Row) error { return row.Scan(&erased) })
	if err := tx.SendBatch(ctx, batch).Close(); err != nil || !erased || len(list) == 0 {
		return list, nil, err
	}
	return tx.dropBarred(ctx, list)
}

// promotionLockTimeout bounds how long one workflow execution that is locked delays others.
const promotionLockTimeout = "2s"

// DeadLetter makes a callback whose values keep it from being promoted a dead letter: it
// leaves the inbox, stays in callbacks, and becomes a rejected callback with the same
// id, and the SQLSTATE of cause in the reason. ReplayDeadLetter tries it again. The
// reason is empty if the callback was no longer in the inbox, or is of what is erased; then
// it is deleted.
func (s *Store) DeadLetter(ctx context.Context, id uuid.UUID, cause error) (reason string, err error) {
	err = s.InTx(ctx, "make a callback a dead letter", func(tx *Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM callbackd.inbox WHERE callback_id = $1`, id)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		named, err := tx.namedByCallback(ctx, id)
		if err != nil {
			return err
		}
		if err := tx.notBarred(ctx, subjectsOf(named)...); errors.Is(err, ErrErased) {
			return tx.DropCallbacks(ctx, []uuid.UUID{id})
		} else if err != nil {
			return err
		}
		reason = store.DeadLetterReason(cause)
		_, err = tx.Exec(ctx, `
			INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, source_ip, reason, content_type, body, workflow_execution_id, account_id, user_reference)
			SELECT callback_id,
				CASE WHEN received_at BETWEEN '1970-01-01T00:00:00Z' AND '2199-12-31T00:00:00Z' THEN received_at ELSE now() END,
				source_ip, $2, left(content_type, 256), substring(body FROM 1 FOR $3),
				left(workflow_execution_id, 64), left(account_id, 64), left(user_reference, 256)
			FROM callbackd.callbacks WHERE callback_id = $1
			ON CONFLICT (rejected_id) DO UPDATE SET reason = excluded.reason, replayed_at = NULL`, id, reason, callback.RejectedBodyLimit)
		return err
	})
	if err != nil {
		return "", err
	}
	if reason != "" {
		s.db.Metrics.DeadLetters.Inc()
	}
	return reason, nil
}
