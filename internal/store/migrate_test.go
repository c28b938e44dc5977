package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// next are the embedded migrations and one more.
func next(t *testing.T, up, down string) fs.FS {
	t.Helper()
	files := storetest.Migrations(t)
	files[fmt.Sprintf("%06d_next.up.sql", store.RequiredVersion+1)] = &fstest.MapFile{Data: []byte(up)}
	files[fmt.Sprintf("%06d_next.down.sql", store.RequiredVersion+1)] = &fstest.MapFile{Data: []byte(down)}
	return files
}

const (
	addColumn  = "-- On the table that every callback goes into.\nALTER TABLE callbackd.callbacks ADD COLUMN next text;\n"
	dropColumn = "ALTER TABLE callbackd.callbacks DROP COLUMN next;\n"
)

func migrator(t *testing.T, o store.MigratorOptions) *store.Migrator {
	t.Helper()
	m, err := store.NewMigrator(t.Context(), o)
	if err != nil {
		t.Fatalf("prepare the migrations: %v", err)
	}
	t.Cleanup(m.Close)
	return m
}

// longReader reads the callbacks as a backup does: in a transaction that stays
// open. It gives the transaction and its session's number.
func longReader(t *testing.T, dsn string) (pgx.Tx, uint32) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["application_name"] = "nightly backup"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT count(*) AS hidden_query FROM callbackd.callbacks`); err != nil {
		t.Fatal(err)
	}
	return tx, conn.PgConn().PID()
}

func wantVersion(t *testing.T, s *storetest.Store, want int) {
	t.Helper()
	if version, dirty, err := s.SchemaVersion(t.Context()); version != want || dirty || err != nil {
		t.Errorf("the schema's version is %d (dirty %t, %v), want %d", version, dirty, err, want)
	}
}

// TestMigrationGivesWay: while somebody reads a table for long, a migration
// that wants it neither fails nor holds callbacks up.
func TestMigrationGivesWay(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	reader, _ := longReader(t, dsn)
	waits := make(chan string, 100)
	m := migrator(t, store.MigratorOptions{DSN: dsn, Files: next(t, addColumn, dropColumn), OnWait: func(who string) { waits <- who }})
	done := make(chan error, 1)
	go func() { done <- m.Up(t.Context()) }()

	named := false // a busy server may answer too late who it is, then the next wait tells
	for inserted := 0; inserted < 10 || !named; inserted++ {
		storetest.Insert(t, s, storetest.Callback("w")) // within 5 s, the store's time-out
		select {
		case who := <-waits:
			named = named || strings.Contains(who, `"nightly backup" (pid `) && strings.Contains(who, ", since ")
		case err := <-done:
			t.Fatalf("the migration has not waited: %v", err)
		default:
		}
		wantVersion(t, s, store.RequiredVersion)
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("up: %v", err)
	}
	wantVersion(t, s, store.RequiredVersion+1)
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Errorf("a newer schema: %v", err)
	}
	storetest.Insert(t, s, storetest.Callback("w"))
}

// TestMigrationGivesUp: in the end the error says who holds the lock, and the
// schema is what it was.
func TestMigrationGivesUp(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	reader, pid := longReader(t, dsn)
	files := next(t, "CREATE TABLE callbackd.first ();\n"+addColumn, dropColumn)
	m := migrator(t, store.MigratorOptions{DSN: dsn, Files: files, MaxWait: time.Nanosecond})
	err := m.Up(t.Context())
	if !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("up: %v, want ErrUnavailable", err)
	}
	held := regexp.MustCompile(`"nightly backup" \(pid (\d+), since (\d+s)\)`).FindStringSubmatch(err.Error())
	if held == nil || held[1] != fmt.Sprint(pid) || strings.Contains(err.Error(), "hidden_query") {
		t.Errorf("the error does not say who holds the lock, pid %d: %v", pid, err)
	}
	wantVersion(t, s, store.RequiredVersion)
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM pg_class WHERE relname = 'first'`); n != 0 {
		t.Error("a part of the migration stays")
	}

	m.Close()

	ctx, interrupt := context.WithCancel(t.Context())
	m = migrator(t, store.MigratorOptions{DSN: dsn, Files: files, OnWait: func(string) { interrupt() }})
	if err := m.Up(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("up, interrupted while it waits: %v", err)
	}
	wantVersion(t, s, store.RequiredVersion)
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Up(t.Context()); err != nil {
		t.Errorf("up, with the table free: %v", err)
	}
	wantVersion(t, s, store.RequiredVersion+1)
}

// TestMigrationDeadlock: a migration that takes two tables the other way round
// than somebody else is tried again.
func TestMigrationDeadlock(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	other, _ := longReader(t, dsn)
	m := migrator(t, store.MigratorOptions{DSN: dsn, Files: next(t, "ALTER TABLE callbackd.inbox ADD COLUMN next text;\n"+addColumn, dropColumn)})
	done := make(chan error, 1)
	go func() { done <- m.Up(t.Context()) }()
	storetest.Eventually(t, "the migration waits for the table", func() bool {
		wantVersion(t, s, store.RequiredVersion)
		return storetest.Scalar[int](t, s, `SELECT count(*) FROM pg_locks WHERE relation = 'callbackd.callbacks'::regclass AND NOT granted`) > 0
	})
	// Either of the two may be the one that Postgres or the time-out ends.
	_, _ = other.Exec(t.Context(), `LOCK TABLE callbackd.inbox IN ACCESS SHARE MODE`)
	_ = other.Rollback(t.Context())
	if err := <-done; err != nil {
		t.Errorf("up: %v", err)
	}
	wantVersion(t, s, store.RequiredVersion+1)
}

// TestMigrationFails: one that Postgres does not take leaves nothing behind,
// and its error quotes no row.
func TestMigrationFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ up, want, never string }{
		"a row that does not fit": {
			"CREATE TABLE callbackd.first ();\nCREATE UNIQUE INDEX ON callbackd.callbacks_1 (workflow_execution_id);",
			fmt.Sprintf("the migration to version %d failed: SQLSTATE 23505", store.RequiredVersion+1), "secret-workflow",
		},
		"a mistake": {"CREATE TABLE callbackd.first ();\nALTER TABLE callbackd.nowhere ADD COLUMN x int;", `SQLSTATE 42P01: relation "callbackd.nowhere" does not exist`, "ALTER"},
		"no SQL":    {"CREATE TABLE callbackd.first ();\nALTER TABEL x;", "SQLSTATE 42601 in line 2: syntax error", "CREATE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := storetest.NewMigrated(t)
			s := storetest.Open(t, dsn)
			storetest.Insert(t, s, storetest.Callback("secret-workflow"), storetest.Callback("secret-workflow"))
			err := migrator(t, store.MigratorOptions{DSN: dsn, Files: next(t, c.up, "")}).Up(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.never) {
				t.Errorf("up: %v\nwant in it %q, and not %q", err, c.want, c.never)
			}
			wantVersion(t, s, store.RequiredVersion)
			if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM pg_class WHERE relname = 'first'`); n != 0 {
				t.Error("a part of the migration stays")
			}
		})
	}
}

// TestMigrationOutsideTransaction: an index is built beside a transaction that
// writes; when it cannot be built, the version stays and the next try repairs it.
func TestMigrationOutsideTransaction(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	storetest.Insert(t, s, storetest.Callback("w"), storetest.Callback("w"))
	down := "DROP INDEX CONCURRENTLY IF EXISTS callbackd.next_idx;"
	files := next(t, "-- Built beside the load.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS next_idx ON callbackd.callbacks_1 (received_at);", down)
	m := migrator(t, store.MigratorOptions{DSN: dsn, Files: files})
	for _, step := range []struct {
		do   func() error
		want int
	}{
		{func() error { return m.Up(t.Context()) }, store.RequiredVersion + 1},
		{func() error { return m.Down(t.Context(), 1) }, store.RequiredVersion},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		wantVersion(t, s, step.want)
	}
	m.Close()

	files = next(t, "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS next_idx ON callbackd.callbacks_1 (workflow_execution_id);", down)
	m = migrator(t, store.MigratorOptions{DSN: dsn, Files: files})
	for range 2 {
		if err := m.Up(t.Context()); err == nil || !strings.Contains(err.Error(), "SQLSTATE 23505") {
			t.Errorf("up, with duplicates: %v", err)
		}
		wantVersion(t, s, store.RequiredVersion)
	}
	storetest.Scalar[int](t, s, `WITH gone AS (DELETE FROM callbackd.callbacks RETURNING 1) SELECT count(*) FROM gone`)
	if err := m.Up(t.Context()); err != nil {
		t.Errorf("up, without duplicates: %v", err)
	}
	wantVersion(t, s, store.RequiredVersion+1)
}

// TestMigrationInterrupted: a stop does not wait for an index that is being built,
// and the next try repairs what the interrupted one left.
func TestMigrationInterrupted(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	files := next(t, "CREATE INDEX CONCURRENTLY IF NOT EXISTS next_idx ON callbackd.callbacks_1 (received_at);",
		"DROP INDEX CONCURRENTLY IF EXISTS callbackd.next_idx;")
	m := migrator(t, store.MigratorOptions{DSN: dsn, Files: files})
	// The build waits for older transactions that write to the table.
	writer, _ := longReader(t, dsn)
	if _, err := writer.Exec(t.Context(), `LOCK TABLE callbackd.callbacks IN ROW EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Up(ctx) }()
	const invalid = `SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('callbackd.next_idx') AND NOT indisvalid`
	for storetest.Scalar[int](t, s, invalid) == 0 {
		wantVersion(t, s, store.RequiredVersion)
		select {
		case err := <-done:
			t.Fatalf("up has not waited: %v", err)
		default:
		}
	}
	interrupt()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("up, interrupted: %v", err)
	}
	wantVersion(t, s, store.RequiredVersion)
	if storetest.Scalar[int](t, s, invalid) != 1 {
		t.Error("nothing is left to repair")
	}
	if err := writer.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Up(t.Context()); err != nil {
		t.Errorf("up again: %v", err)
	}
	wantVersion(t, s, store.RequiredVersion+1)
	if storetest.Scalar[int](t, s, `SELECT count(*) FROM pg_index WHERE indexrelid = 'callbackd.next_idx'::regclass AND indisvalid`) != 1 {
		t.Error("the index is not valid")
	}
}

// TestDirtySchema: what another program has left half done is fixed by hand.
func TestDirtySchema(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	storetest.Scalar[bool](t, s, `UPDATE callbackd.schema_migrations SET dirty = true RETURNING dirty`)
	m := migrator(t, store.MigratorOptions{DSN: dsn})
	if err := m.Up(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d failed half-way", store.RequiredVersion)) {
		t.Errorf("up: %v", err)
	}
	if err := s.CheckSchema(t.Context()); err == nil || !strings.Contains(err.Error(), "callbackd migrate force") {
		t.Errorf("check: %v", err)
	}
	if err := m.Force(store.RequiredVersion); err != nil {
		t.Errorf("force: %v", err)
	}
	wantVersion(t, s, store.RequiredVersion)
}

// TestOlderProgram: a program that is older than the schema leaves it alone.
func TestOlderProgram(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	newer := migrator(t, store.MigratorOptions{DSN: dsn, Files: next(t, addColumn, dropColumn)})
	if err := newer.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	newer.Close()
	older := migrator(t, store.MigratorOptions{DSN: dsn})
	if err := older.Up(t.Context()); err != nil {
		t.Errorf("up: %v", err)
	}
	if err := older.Down(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "newer than this program") {
		t.Errorf("down: %v", err)
	}
	wantVersion(t, s, store.RequiredVersion+1)
}

// TestMigrationsLeaveTransactionsAlone: each file is run as one transaction,
// which it must not end.
func TestMigrationsLeaveTransactionsAlone(t *testing.T) {
	ends := regexp.MustCompile(`(?im)^\s*(BEGIN|START TRANSACTION|COMMIT|ROLLBACK|END)\s*(WORK|TRANSACTION)?\s*;`)
	for name, file := range storetest.Migrations(t) {
		// What is between dollar signs is a function's body.
		outside := regexp.MustCompile(`(?s)\$(body)?\$.*?\$(body)?\$`).ReplaceAll(file.Data, nil)
		if found := ends.Find(outside); found != nil {
			t.Errorf("%s has %q", name, found)
		}
	}
}
