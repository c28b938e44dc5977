package results

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/details"
	"callbackd/internal/store"
)

// Progress is how far Reproject or MoveDetails has come.
type Progress struct {
	// Done counts the workflow executions that have been read; Total estimates all.
	Done, Total int64
	// Failed counts the details that could not be stored as they were read.
	Failed int64
	// Unreadable counts the fields that could not be read, by name.
	Unreadable map[string]int64
}

const (
	// readBatch is how many workflow executions one transaction reads at most.
	readBatch = 200
	// readBytes bounds, with one body more, the bodies of those in memory.
	readBytes = 32 << 20
)

// MoveDetails moves the details that the previous version has stored into the typed
// tables, in batches, while others use the database. It is idempotent, and continues where
// an earlier run ended. The key is that of signed user references; report, unless nil, is
// called after each batch.
//
// Details that cannot be moved, which should not happen, stay where they are. The views
// read them there.
func (s *Store) MoveDetails(ctx context.Context, key string, report func(Progress)) error {
	r := reader{Store: s, doing: "move details", sql: selectUnread, key: key, report: report, Progress: Progress{Unreadable: map[string]int64{}}}
	if err := s.db.Pool().QueryRow(ctx, `SELECT count(*) FROM callbackd.workflow_details`).Scan(&r.Total); err != nil {
		return store.Translate("count the details to move", err)
	}
	// The second pass finds what the previous version has stored during the first.
	for moved := int64(-1); moved != r.Done; {
		moved = r.Done
		if err := r.all(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Reproject reads the details of workflow executions anew: those whose ids are given, or
// if there are none, all whose details were first stored since a time. It replaces what
// was read, and changes nothing else. The key and report are those of MoveDetails. It
// returns store.ErrNotFound if there are no details of an id.
func (s *Store) Reproject(ctx context.Context, ids []string, since time.Time, key string, report func(Progress)) error {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	r := reader{Store: s, doing: "read details anew", sql: selectRead, args: []any{ids, since}, key: key, report: report, Progress: Progress{Unreadable: map[string]int64{}}}
	err := s.db.Pool().QueryRow(ctx, `SELECT count(*) FROM callbackd.workflow_executions AS w
		WHERE EXISTS (SELECT FROM callbackd.details AS d WHERE d.details_id = w.details_id) AND `+whichRead, "", 0, ids, since).
		Scan(&r.Total)
	if err == nil && ids != nil && r.Total < int64(len(ids)) {
		err = fmt.Errorf("there are details of %d of the %d: %w", r.Total, len(ids), store.ErrNotFound)
	}
	if err != nil {
		return store.Translate("count the details to read", err)
	}
	return r.all(ctx)
}

// The statements lock workflow executions, like FinishAttempt.
const (
	selectUnread = `
		SELECT w.workflow_execution_id, w.details_id, true, o.body,
			-- A time of arrival from before there were checks may be any.
			least(greatest(coalesce(w.retrieved_at, w.details_retrieved_at, w.last_callback_at, now()), to_timestamp(0)), now())
		FROM callbackd.workflow_details AS o JOIN callbackd.workflow_executions AS w USING (workflow_execution_id)
		WHERE o.workflow_execution_id > $1
		ORDER BY o.workflow_execution_id LIMIT $2 FOR UPDATE OF w`
	selectRead = `
		SELECT w.workflow_execution_id, w.details_id, false, d.body, now()
		FROM callbackd.workflow_executions AS w JOIN callbackd.details AS d ON d.details_id = w.details_id
		WHERE ` + whichRead + `
		ORDER BY w.workflow_execution_id LIMIT $2 FOR UPDATE OF w`
	whichRead = `w.workflow_execution_id > $1 AND $2::int IS NOT NULL
		AND CASE WHEN $3::text[] IS NULL THEN w.details_retrieved_at >= $4 ELSE w.workflow_execution_id = ANY ($3) END`

	moveDetails = `
		WITH o AS (DELETE FROM callbackd.workflow_details WHERE workflow_execution_id = $2 RETURNING *)
		INSERT INTO callbackd.details (details_id, workflow_execution_id, generation, details, body)
		SELECT $1, o.workflow_execution_id, o.generation, o.details, o.body FROM o`
)

// reader reads stored details anew.
type reader struct {
	*Store
	Progress
	doing, sql, key string
	args            []any
	report          func(Progress)
}

// all reads what the statement selects. If a batch fails, each of its details is read
// alone, and what fails then is passed over.
func (r *reader) all(ctx context.Context) error {
	after, limit := "", readBatch
	for single := 0; ; single-- {
		if single <= 0 {
			limit = readBatch
		}
		n, last, err := r.batch(ctx, after, limit)
		switch {
		case store.OfBatch(err) && limit > 1:
			limit, single = 1, readBatch
			continue
		case store.OfBatch(err) && last != "":
			r.db.Log.Error("could not read details; they stay as they are", zap.String("workflow_execution_id", last), zap.Error(err))
			r.Failed++
		case err != nil || n == 0:
			return err
		}
		after = last
		if r.report != nil {
			r.report(r.Progress)
		}
	}
}

// toRead are details that are to be read.
type toRead struct {
	id       string
	earlier  stored
	body     []byte
	storedAt time.Time
}

// batch reads at most limit details, and returns how many they were, and the last one's
// workflow execution.
func (r *reader) batch(ctx context.Context, after string, limit int) (n int, last string, err error) {
	unreadable := map[string]int64{}
	err = r.InTx(ctx, r.doing, func(tx *Tx) error {
		// What a crash of the database loses is read again.
		if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = off`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, r.sql, append([]any{after, limit}, r.args...)...)
		if err != nil {
			return err
		}
		list, err := collectToRead(rows)
		if err != nil {
			return err
		}
		batch := &pgx.Batch{}
		for i := range list {
			last = list[i].id
			read := NewReading(list[i].body, details.Parse(list[i].body), r.key)
			for _, name := range read.Parsed.Unreadable {
				unreadable[name]++
			}
			if err := list[i].queue(batch, read); err != nil {
				return err
			}
		}
		n = len(list)
		return tx.SendBatch(ctx, batch).Close()
	})
	if err == nil {
		r.Done += int64(n)
		for name, count := range unreadable {
			r.Unreadable[name] += count
		}
	}
	return n, last, err
}

// collectToRead collects details until their bodies have readBytes together.
func collectToRead(rows pgx.Rows) (list []toRead, err error) {
	defer rows.Close()
	for size := 0; size < readBytes && rows.Next(); {
		var t toRead
		into := append([]any{&t.id}, storedRow.Into(&t.earlier)...)
		if err := rows.Scan(append(into, &t.body, &t.storedAt)...); err != nil {
			return nil, err
		}
		size += len(t.body)
		list = append(list, t)
	}
	rows.Close()
	return list, rows.Err()
}

// queue queues the statements that store what was read.
func (t *toRead) queue(batch *pgx.Batch, r *Reading) error {
	id := t.earlier.ID
	if t.earlier.Unread {
		var err error
		if id, err = newDetailsID(t.storedAt); err != nil {
			return err
		}
		queueRemove(batch, t.earlier.ID)
		batch.Queue(moveDetails, id, t.id)
	} else {
		batch.Queue(`DELETE FROM callbackd.credentials WHERE details_id = $1`, id)
		batch.Queue(`DELETE FROM callbackd.capabilities WHERE details_id = $1`, id)
		batch.Queue(`DELETE FROM callbackd.extracted_documents WHERE details_id = $1 AND workflow_execution_id = $2`, id, t.id)
	}
	queueRead(batch, id, t.id, r)
	queueShow(batch, id, t.id, r, r.Identity())
	return nil
}

// FillReferences gives workflow executions the userReference without our signature, which
// the previous version does not know.
func (s *Store) FillReferences(ctx context.Context, key string) error {
	for after := ""; ; {
		var ids, references []string
		err := s.InTx(ctx, "read user references", func(tx *Tx) error {
			rows, err := tx.Query(ctx, `
				SELECT workflow_execution_id, user_reference FROM callbackd.workflow_executions
				WHERE workflow_execution_id > $1 AND user_reference IS NOT NULL AND user_reference_unsigned IS NULL
				ORDER BY workflow_execution_id LIMIT 1000 FOR UPDATE`, after)
			if err != nil {
				return err
			}
			var id, reference string
			if _, err := pgx.ForEachRow(rows, []any{&id, &reference}, func() error {
				ids, references = append(ids, id), append(references, callback.UnsignedReference(key, reference))
				return nil
			}); err != nil {
				return err
			}
			return tx.setUnsignedReferences(ctx, ids, references)
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		after = ids[len(ids)-1]
	}
}

func (tx *Tx) setUnsignedReferences(ctx context.Context, ids, references []string) error {
	_, err := tx.Exec(ctx, `
		UPDATE callbackd.workflow_executions AS w SET user_reference_unsigned = n.reference
		FROM unnest($1::text[], $2::text[]) AS n (id, reference) WHERE w.workflow_execution_id = n.id`, ids, references)
	return err
}

// Mover returns what store.MigratorOptions.MoveDetails is to call. The key and report are
// those of MoveDetails.
func Mover(dsn, key string, log *zap.Logger, report func(Progress)) func(context.Context) error {
	return func(ctx context.Context) error {
		db, err := store.Open(ctx, store.Options{DSN: dsn, Log: log, Metrics: store.NewMetrics(prometheus.NewRegistry())})
		if err != nil {
			return err
		}
		defer db.Close()
		s := New(db)
		if err := s.MoveDetails(ctx, key, report); err != nil {
			return err
		}
		return s.FillReferences(ctx, key)
	}
}
