package results_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// connect opens a connection as a member of a role.
func connect(t *testing.T, dsn, role string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), storetest.AsMember(t, dsn, role))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// sqlState returns the SQLSTATE of an error, "" for none.
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &pgErr):
		return pgErr.Code
	}
	return err.Error()
}

// addEvents adds n events and returns their ids.
func addEvents(t *testing.T, s *storetest.Store, n int) (ids []int64) {
	t.Helper()
	list := make([]workflow.Event, n)
	for i := range list {
		list[i] = workflow.Event{Type: workflow.EventExpired, WorkflowExecutionID: fmt.Sprint("w-", i)}
	}
	if err := s.InTx(t.Context(), "add events", func(tx *results.Tx) error { tx.AddEvents(list...); return nil }); err != nil {
		t.Fatal(err)
	}
	for _, row := range storetest.Query(t, s, `SELECT event_id FROM (SELECT event_id FROM jumio.events ORDER BY event_id DESC LIMIT $1) AS e ORDER BY 1`, n) {
		ids = append(ids, row[0].(int64))
	}
	return ids
}

const (
	handled       = `SELECT jumio.handled($1, $2)`
	privilege     = "42501"
	invalid       = "22023"
	lockNotThere  = "55P03"
	limitExceeded = "53400"
)

func TestHandled(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	consumer := connect(t, dsn, "jumio_consumer")
	ids := addEvents(t, s, 5)
	call := func(name any, id any) string {
		t.Helper()
		_, err := consumer.Exec(t.Context(), handled, name, id)
		return sqlState(err)
	}
	place := func(want int64, lag int64, oldest any) {
		t.Helper()
		wantRows(t, s, "place", `SELECT c.last_event_id, c.lag_events, e.event_id FROM jumio.consumers AS c
			LEFT JOIN jumio.events AS e ON e.occurred_at = c.oldest_unhandled_at AND e.event_id = (SELECT min(event_id) FROM jumio.events WHERE event_id > c.last_event_id)
			WHERE consumer = 'billing'`, []any{want, lag, oldest})
		got, err := s.ConsumerLag(t.Context(), 3)
		if err != nil || got["billing"] != min(lag, 3) {
			t.Errorf("lag %v, %v, want %d", got, err, min(lag, 3))
		}
	}
	if code := call("billing", 0); code != "" {
		t.Fatalf("create a consumer: %s", code)
	}
	place(0, 5, ids[0])
	if code := call("billing", ids[1]); code != "" {
		t.Errorf("move it on: %s", code)
	}
	place(ids[1], 3, ids[2])
	at := storetest.Scalar[time.Time](t, s, `SELECT handled_at FROM jumio.consumers`)
	for _, back := range []int64{ids[0], 0, ids[1]} {
		if code := call("billing", back); code != "" {
			t.Errorf("move it back: %s", code)
		}
	}
	place(ids[1], 3, ids[2])
	if now := storetest.Scalar[time.Time](t, s, `SELECT handled_at FROM jumio.consumers`); !now.Equal(at) {
		t.Error("handled_at has changed, the place has not")
	}
	if code := call("billing", ids[4]); code != "" {
		t.Errorf("move it to the last: %s", code)
	}
	place(ids[4], 0, nil)
	if now := storetest.Scalar[time.Time](t, s, `SELECT handled_at FROM jumio.consumers`); !now.After(at) {
		t.Error("handled_at has not changed, the place has")
	}

	for _, name := range []any{nil, "", " ", "a b", "é", "a\n", "x'--", strings.Repeat("x", 65), "a/b"} {
		if code := call(name, 0); code != invalid {
			t.Errorf("the name %q: %q, want %s", name, code, invalid)
		}
	}
	for _, id := range []any{nil, -1, ids[4] + 1, ids[4] + int64(time.Hour/time.Microsecond), int64(math.MaxInt64)} {
		if code := call("billing", id); code != invalid {
			t.Errorf("the event %v: %q, want %s", id, code, invalid)
		}
	}
	place(ids[4], 0, nil)

	for _, name := range []string{strings.Repeat("x", 64), "A-z_0.9"} {
		if code := call(name, 0); code != "" {
			t.Errorf("the name %q: %q", name, code)
		}
	}
	for i := 3; i < 100; i++ {
		if code := call(fmt.Sprint("c", i), 0); code != "" {
			t.Fatalf("consumer %d: %s", i+1, code)
		}
	}
	if code := call("c100", 0); code != limitExceeded {
		t.Errorf("consumer 101: %q, want %s", code, limitExceeded)
	}
	if code := call("billing", ids[4]); code != "" {
		t.Errorf("one that is there, among a hundred: %s", code)
	}
	storetest.Query(t, s, `DELETE FROM callbackd.consumers WHERE consumer = 'c50'`)
	if code := call("c100", 0); code != "" {
		t.Errorf("a new one in place of another: %s", code)
	}
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM jumio.consumers`); n != 100 {
		t.Errorf("%d consumers, want 100", n)
	}
	// Events of another partition count, too.
	ensure(t, s, time.Now())
	storetest.Query(t, s, `SELECT setval('callbackd.event_ids', $1)`, monthOf(time.Now(), 3).UnixMicro())
	more := addEvents(t, s, 2)
	place(ids[4], 2, more[0])
}

// Two instances of a consumer do not handle the same events: the second waits for the
// first one's transaction.
func TestHandledLocks(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	ids := addEvents(t, s, 3)
	one, two := connect(t, dsn, "jumio_consumer"), connect(t, dsn, "jumio_consumer")
	if _, err := two.Exec(t.Context(), `SET lock_timeout = '100ms'`); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"new", "known"} {
		tx, err := one.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), handled, "c", 0); err != nil {
			t.Fatal(err)
		}
		if _, err := two.Exec(t.Context(), handled, "c", 0); sqlState(err) != lockNotThere {
			t.Errorf("%s: the second has not waited: %v", step, err)
		}
		if _, err := two.Exec(t.Context(), handled, "other", 0); err != nil {
			t.Errorf("%s: another consumer: %v", step, err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := two.Exec(t.Context(), `SET lock_timeout = 0`); err != nil {
		t.Fatal(err)
	}
	tx, err := one.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), handled, "c", ids[2]); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := two.Exec(context.Background(), handled, "c", ids[0])
		done <- err
	}()
	storetest.Eventually(t, "the second waits", func() bool {
		return storetest.Scalar[int](t, s, `SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted`, two.PgConn().PID()) > 0
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the second: %v", err)
	}
	wantRows(t, s, "both", `SELECT last_event_id FROM jumio.consumers WHERE consumer = 'c'`, []any{ids[2]})

	// What is rolled back has not been handled.
	tx, err = one.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), handled, "rolled-back", ids[2]); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRows(t, s, "rolled back", `SELECT consumer FROM jumio.consumers WHERE consumer = 'rolled-back'`)
}

// A consumer may move on, a starter expect, a reader read, and each of them nothing else.
func TestRightsOfConsumersAndReaders(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	consumer, reader, receiver := connect(t, dsn, "jumio_consumer"), connect(t, dsn, "jumio_reader"), connect(t, dsn, "callbackd_receiver")
	starter := connect(t, dsn, "jumio_starter")
	try := func(conn *pgx.Conn, who, sql, want string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); sqlState(err) != want {
			t.Errorf("%s: %s: %q, want %q", who, sql, sqlState(err), want)
		}
	}
	views := 0
	for _, row := range storetest.Query(t, s, `SELECT n.nspname || '.' || c.relname, n.nspname = 'jumio' FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname IN ('jumio', 'callbackd') AND c.relkind IN ('r', 'p', 'v')`) {
		name, view := row[0].(string), row[1].(bool)
		try(consumer, "consumer", `SELECT FROM `+name+` LIMIT 0`, privilege)
		try(starter, "starter", `SELECT FROM `+name+` LIMIT 0`, privilege)
		want := privilege
		if view {
			views++
			want = ""
			try(receiver, "receiver", `SELECT FROM `+name+` LIMIT 0`, privilege)
		}
		try(reader, "reader", `SELECT FROM `+name+` LIMIT 0`, want)
		if storetest.Scalar[bool](t, s, `SELECT has_table_privilege('jumio_reader', $1, $2) OR has_table_privilege('jumio_consumer', $1, $2)
			OR has_table_privilege('jumio_starter', $1, $2)`, name, "INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER") {
			t.Errorf("a consumer, a reader or a starter may write %s", name)
		}
	}
	if views != 15 {
		t.Errorf("%d views, want 15", views)
	}
	for who, conn := range map[string]*pgx.Conn{"reader": reader, "receiver": receiver, "starter": starter} {
		try(conn, who, `SELECT jumio.handled('c', 0)`, privilege)
	}
	for who, conn := range map[string]*pgx.Conn{"reader": reader, "receiver": receiver, "consumer": consumer} {
		try(conn, who, `SELECT jumio.expect('w', 'a')`, privilege)
	}
	for _, sql := range []string{
		`SELECT callbackd.add_events('{expired}', '{w}')`, `SELECT callbackd.take_event_ids(1)`, `SELECT callbackd.remove_details('{}')`, `SELECT nextval('callbackd.event_ids')`,
		`INSERT INTO callbackd.consumers VALUES ('c', 0, now())`, `SELECT 1; LOCK TABLE callbackd.event_order IN ACCESS SHARE MODE`, `CREATE TABLE jumio.mine ()`,
	} {
		try(consumer, "consumer", sql, privilege)
		try(reader, "reader", sql, privilege)
		try(starter, "starter", sql, privilege)
	}
	try(starter, "starter", `SELECT jumio.expect('w', 'a')`, "")
	try(starter, "starter", `CREATE TEMP TABLE expectations (); CREATE TEMP TABLE workflow_executions (); SET search_path = pg_temp, public; SELECT jumio.expect('w2', 'a')`, "")
	try(consumer, "consumer", `SELECT jumio.handled('c', 0)`, "")
	try(reader, "reader", `SELECT jumio.id_at(now())`, "")
	// The function does what it does whatever the caller's search path finds first.
	try(consumer, "consumer", `CREATE TEMP TABLE consumers (consumer text, last_event_id bigint, handled_at timestamptz); SET search_path = pg_temp, public; SELECT jumio.handled('d', 0)`, "")
	wantRows(t, s, "consumers", `SELECT consumer FROM jumio.consumers ORDER BY 1`, []any{"c"}, []any{"d"})
}

func TestIDAt(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	for at, want := range map[string]string{
		"2026-11-30T07:00:00Z":        idAt(time.Date(2026, 11, 30, 7, 0, 0, 0, time.UTC), 0).String(),
		"2026-11-30T07:00:00.0009Z":   idAt(time.Date(2026, 11, 30, 7, 0, 0, 0, time.UTC), 0).String(), // ids round down
		"2026-11-30T07:00:00.001999Z": idAt(time.Date(2026, 11, 30, 7, 0, 0, 1e6, time.UTC), 0).String(),
		"2026-11-30T09:00:00.25+02":   idAt(time.Date(2026, 11, 30, 7, 0, 0, 25e7, time.UTC), 0).String(),
		"1970-01-01T00:00:00Z":        uuid.Nil.String(), "1950-01-01T00:00:00Z": uuid.Nil.String(), "-infinity": uuid.Nil.String(),
		"infinity": "ffffffff-ffff-0000-0000-000000000000", "200000-01-01T00:00:00Z": "ffffffff-ffff-0000-0000-000000000000",
	} {
		if got := storetest.Scalar[string](t, s, `SELECT jumio.id_at($1::text::timestamptz)::text`, at); got != want {
			t.Errorf("id_at(%s) is %s, want %s", at, got, want)
		}
	}
	if got := storetest.Scalar[*string](t, s, `SELECT jumio.id_at(NULL)::text`); got != nil {
		t.Errorf("id_at(NULL) is %s", *got)
	}
	// It finds callbacks by their time, and spares other months' partitions.
	ensure(t, s, time.Now())
	before := time.Now()
	storetest.Insert(t, s, storetest.Callback("w"))
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM jumio.callbacks WHERE callback_id >= jumio.id_at($1) AND callback_id < jumio.id_at($2)`, before, time.Now().Add(time.Second)); n != 1 {
		t.Errorf("%d callbacks since a moment ago, want 1", n)
	}
	plan := ""
	for _, row := range storetest.Query(t, s, `EXPLAIN SELECT FROM jumio.callbacks WHERE callback_id >= jumio.id_at('`+monthOf(time.Now(), 3).Format(time.RFC3339)+`')`) {
		plan += row[0].(string) + "\n"
	}
	if strings.Contains(plan, "callbacks_1") || !strings.Contains(plan, monthOf(time.Now(), 3).Format("callbacks_200601")) {
		t.Errorf("the plan reads every partition:\n%s", plan)
	}
}
