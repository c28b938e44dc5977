package results

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
	"callbackd/internal/tombstone"
)

// Left is what an erasure should have deleted, and is there.
type Left struct {
	// Where is a table without schema and partition.
	Where string
	// What names the rows: by which kind of id they were found, or what is wrong.
	What string
	Rows int64
}

// VerifiedOrder is what is known of an order that is done.
type VerifiedOrder struct {
	AtJumio bool
	// SubjectHash is that of what was ordered to be erased.
	SubjectHash []byte
	// WorkflowExecutions are the ids of those erased that have rows.
	WorkflowExecutions []string
}

// GetDone returns an order that is done. Any other is an error, an unknown one
// store.ErrNotFound.
func (s *Store) GetDone(ctx context.Context, order uuid.UUID) (*VerifiedOrder, error) {
	doing := "read order " + order.String()
	o, state := &VerifiedOrder{}, OrderState("")
	err := s.db.Pool().QueryRow(ctx, `
		SELECT state, at_jumio, coalesce(subject_hash, ''),
			ARRAY(SELECT workflow_execution_id FROM callbackd.workflow_executions WHERE erasure_order_id = $1)
		FROM callbackd.erasures WHERE order_id = $1`, order).Scan(&state, &o.AtJumio, &o.SubjectHash, &o.WorkflowExecutions)
	if err == nil && state != OrderDone {
		return nil, fmt.Errorf("order %s is %s, not done", order, state)
	}
	return o, store.Translate(doing, err)
}

// unscrubbed counts erased rows that say more than that they are erased. What is not
// compared is NULL, a default or of ours.
const unscrubbed = `
	SELECT count(*) FROM callbackd.workflow_executions AS w
	WHERE w.erasure_order_id = $1 AND (w.erased_at IS NULL OR (to_jsonb(w) - ARRAY['workflow_execution_id', 'erased_at', 'erasure_order_id', 'retrieval_state',
		'retrieval_generation', 'retrieval_attempts', 'callback_count', 'image_count']) @? '$.* ? (@.type() == "string" || @.type() == "array" && @.size() > 0)')`

// Verify looks again everywhere for what an order has erased: it hashes all ids in the
// tables, because only hashes are known. It changes nothing, and returns what is left,
// sorted, none if all is gone. A user reference counts only in what is older than the
// erasure: a new account may have come under it. The parameter referenceKey is that of
// signed user references.
func (s *Store) Verify(ctx context.Context, order uuid.UUID, referenceKey string, progress func(Progress)) ([]Left, error) {
	doing := "look for what is left of order " + order.String()
	barred, err := s.tombstonesOf(ctx, order)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	rows := map[Left]int64{}
	err = s.eachNaming(ctx, referenceKey, progress, func(n naming) error {
		for _, subject := range n.subjects {
			erased, found := barred[string(s.db.ErasureKey.Hash(subject))]
			if found && (subject.Kind != tombstone.UserReference || n.at.Before(erased)) {
				rows[Left{Where: n.table, What: string(subject.Kind)}]++
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	for _, check := range []struct{ where, what, sql string }{
		{"workflow_executions", "columns of what is erased", unscrubbed},
		{"erasure_subjects", "what the order covered", `SELECT count(*) FROM callbackd.erasure_subjects WHERE order_id = $1`},
		{"erasures", "the subject in clear", `SELECT count(*) FROM callbackd.erasures WHERE order_id = $1 AND subject IS NOT NULL`},
		{"object_deletions", "objects in the image store", `SELECT count(*) FROM callbackd.object_deletions WHERE order_id = $1`},
	} {
		var n int64
		if err := s.db.Pool().QueryRow(ctx, check.sql, order).Scan(&n); err != nil {
			return nil, store.Translate(doing, err)
		}
		if n > 0 {
			rows[Left{Where: check.where, What: check.what}] = n
		}
	}
	var left []Left
	for l, n := range rows {
		left = append(left, Left{l.Where, l.What, n})
	}
	slices.SortFunc(left, func(a, b Left) int { return cmp.Or(cmp.Compare(a.Where, b.Where), cmp.Compare(a.What, b.What)) })
	return left, nil
}

// tombstonesOf returns when each hash of an order was barred.
func (s *Store) tombstonesOf(ctx context.Context, order uuid.UUID) (map[string]time.Time, error) {
	rows, err := s.db.Pool().Query(ctx, `SELECT hash, erased_at FROM callbackd.tombstones WHERE order_id = $1`, order)
	if err != nil {
		return nil, err
	}
	barred := map[string]time.Time{}
	var hash []byte
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&hash, &at}, func() error {
		barred[string(hash)] = at
		return nil
	})
	return barred, err
}

// naming is what a row of a table names somebody by.
type naming struct {
	// table has no schema and no partition.
	table    string
	subjects []tombstone.Subject
	// at is when the row was received; far in the future for rows of which that is not
	// known.
	at time.Time
}

// namingTable is a table with the columns that name somebody.
type namingTable struct {
	name    string
	columns []string
	sql     string
	rows    int64 // as Postgres estimates
}

// kindsOf are the kinds of ids that a column of a name may hold, in any table.
var kindsOf = map[string][]tombstone.Kind{
	"account_id":              {tombstone.Account},
	"workflow_execution_id":   {tombstone.WorkflowExecution},
	"user_reference":          {tombstone.UserReference},
	"user_reference_unsigned": {tombstone.UserReference},
	"subject":                 {tombstone.Account, tombstone.UserReference},
}

// mayStay are the rows that may name what is erased, or that name it by design until an
// order is done.
var mayStay = map[string]string{
	"workflow_executions": "erased_at IS NOT NULL",
	"events":              "type = 'erased'",
	"erasures":            "true",
	"erasure_subjects":    "true",
}

// namingTables finds the tables in the catalog, so that none is forgotten.
func (s *Store) namingTables(ctx context.Context) ([]namingTable, error) {
	rows, err := s.db.Pool().Query(ctx, `
		SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum),
			EXISTS (SELECT FROM pg_attribute AS r WHERE r.attrelid = c.oid AND r.attname = 'received_at'),
			(SELECT coalesce(sum(greatest(p.reltuples, 0)), 0)::bigint FROM pg_class AS p
				WHERE p.oid = c.oid OR p.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid))
		FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'callbackd'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
			AND a.attname = ANY ($1) AND a.atttypid = 'text'::regtype AND NOT a.attisdropped
		GROUP BY c.oid, c.relname ORDER BY c.relname`, slices.Collect(maps.Keys(kindsOf)))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t namingTable, err error) {
		var received bool
		if err := row.Scan(&t.name, &t.columns, &received, &t.rows); err != nil {
			return t, err
		}
		at := "NULL::timestamptz"
		if received {
			at = "CASE WHEN isfinite(received_at) THEN received_at END"
		}
		t.sql = "SELECT " + at
		for _, column := range t.columns {
			t.sql += ", " + pgx.Identifier{column}.Sanitize()
		}
		t.sql += " FROM " + pgx.Identifier{"callbackd", t.name}.Sanitize()
		if stays, ok := mayStay[t.name]; ok {
			t.sql += " WHERE (" + stays + ") IS NOT TRUE"
		}
		return t, nil
	})
}

// eachNaming calls f for every row that names somebody: by a column, in the body of a
// rejected callback, in the arguments of a job, or as what is to be looked through.
func (s *Store) eachNaming(ctx context.Context, referenceKey string, progress func(Progress), f func(naming) error) error {
	tables, err := s.namingTables(ctx)
	if err != nil {
		return err
	}
	p := Progress{}
	for _, t := range tables {
		p.Total += t.rows
	}
	const interval = 10_000
	step := func() {
		if p.Done++; p.Done%interval == 0 {
			progress(p)
		}
	}
	for _, t := range tables {
		if err := s.eachInColumns(ctx, t, referenceKey, func(n naming) error { step(); return f(n) }); err != nil {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
	}
	if err := s.eachInBodies(ctx, f); err != nil {
		return fmt.Errorf("read the bodies of rejected callbacks: %w", err)
	}
	for table, sql := range map[string]string{
		"river_job":  `SELECT a.value FROM callbackd.river_job AS j, jsonb_each_text(j.args) AS a`,
		"unscreened": `SELECT id FROM callbackd.unscreened WHERE source = 'expectations'`,
	} {
		if err := s.eachID(ctx, table, sql, f); err != nil {
			return fmt.Errorf("read %s: %w", table, err)
		}
	}
	p.Total = p.Done
	progress(p)
	return nil
}

// unknownTime is the time of rows of which it is not known: after every erasure.
var unknownTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *Store) eachInColumns(ctx context.Context, t namingTable, referenceKey string, f func(naming) error) error {
	rows, err := s.db.Pool().Query(ctx, t.sql)
	if err != nil {
		return err
	}
	var at *time.Time
	values := make([]*string, len(t.columns))
	into := []any{&at}
	for i := range values {
		into = append(into, &values[i])
	}
	_, err = pgx.ForEachRow(rows, into, func() error {
		n := naming{table: t.name, at: unknownTime}
		if at != nil {
			n.at = *at
		}
		for i, column := range t.columns {
			if values[i] == nil {
				continue
			}
			for _, kind := range kindsOf[column] {
				id := *values[i]
				if kind == tombstone.UserReference {
					id = referenceForms(referenceKey, id)[0]
				}
				n.subjects = append(n.subjects, tombstone.Subject{Kind: kind, ID: id})
			}
		}
		return f(n)
	})
	return err
}

// eachInBodies reads whatever may be an id in the bodies of rejected callbacks.
func (s *Store) eachInBodies(ctx context.Context, f func(naming) error) error {
	rows, err := s.db.Pool().Query(ctx, `SELECT body FROM callbackd.rejected_callbacks`)
	if err != nil {
		return err
	}
	var body []byte
	_, err = pgx.ForEachRow(rows, []any{&body}, func() error {
		n := naming{table: "rejected_callbacks", at: unknownTime}
		for id := range ids(body) {
			n.subjects = append(n.subjects, tombstone.Subject{Kind: tombstone.Account, ID: id}, tombstone.Subject{Kind: tombstone.WorkflowExecution, ID: id})
		}
		return f(n)
	})
	return err
}

func (s *Store) eachID(ctx context.Context, table, sql string, f func(naming) error) error {
	rows, err := s.db.Pool().Query(ctx, sql)
	if err != nil {
		return err
	}
	var id *string
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		if id == nil {
			return nil
		}
		return f(naming{table: table, at: unknownTime, subjects: []tombstone.Subject{{Kind: tombstone.Account, ID: *id}, {Kind: tombstone.WorkflowExecution, ID: *id}}})
	})
	return err
}
