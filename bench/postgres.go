package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"callbackd/internal/pgserver"
)

// template is the database that every run's is a copy of: callbackd's schema,
// and in the schema bench what the baselines need.
const template = "bench_template"

// baselineTables have the same columns and indexes as callbackd's, without its
// trigger, for the baselines that receive; and are as plain as possible for the
// one that retrieves. Images do not compress, so Postgres should not try.
const baselineTables = `
CREATE SCHEMA bench;
CREATE TABLE bench.callbacks (LIKE callbackd.callbacks INCLUDING ALL);
CREATE TABLE bench.details (workflow_execution_id text PRIMARY KEY, details jsonb NOT NULL);
CREATE TABLE bench.images (workflow_execution_id text, credential_id text, classifier text, content_type text NOT NULL,
    data bytea NOT NULL, PRIMARY KEY (workflow_execution_id, credential_id, classifier));
ALTER TABLE bench.images ALTER COLUMN data SET STORAGE EXTERNAL;`

// startPostgres starts the cluster, with Postgres's own defaults, and makes the
// template.
func (b *bench) startPostgres(ctx context.Context) (err error) {
	if b.postgres, err = pgserver.Start(ctx, pgserver.Options{}); err != nil {
		return err
	}
	if b.admin, err = pgx.Connect(ctx, b.postgres.DSN("postgres")); err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	if err := b.createDatabase(ctx, template, "template0"); err != nil {
		return err
	}
	dsn := b.postgres.DSN(template)
	migrate := exec.CommandContext(ctx, b.callbackd, "migrate", "up") //nolint:gosec // built before
	migrate.Env = []string{"DATABASE_URL=" + dsn}
	if err := runCommand(migrate); err != nil {
		return err
	}
	return makeBaselineTables(ctx, dsn)
}

// makeBaselineTables also makes River's own tables, with River's migrations.
func makeBaselineTables(ctx context.Context, dsn string) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to the template: %w", err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, baselineTables); err != nil {
		return fmt.Errorf("make the baselines' tables: %w", err)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: "bench"})
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		return fmt.Errorf("make River's tables: %w", err)
	}
	return nil
}

func (b *bench) createDatabase(ctx context.Context, name, from string) error {
	if _, err := b.admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+from); err != nil {
		return fmt.Errorf("make the database %s: %w", name, err)
	}
	return nil
}

// withDatabase gives f a fresh database, and drops it afterwards. A checkpoint
// before f makes every run begin in the same state.
func (b *bench) withDatabase(ctx context.Context, f func(dsn string) error) error {
	b.databases++
	name := fmt.Sprintf("bench_%d", b.databases)
	if err := b.createDatabase(ctx, name, template); err != nil {
		return err
	}
	_, err := b.admin.Exec(ctx, "CHECKPOINT")
	if err == nil {
		err = f(b.postgres.DSN(name))
	}
	if ctx.Err() != nil {
		return err // the whole cluster goes away
	}
	_, dropErr := b.admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
	return errors.Join(err, dropErr)
}

// query runs f on a connection of its own.
func query(ctx context.Context, dsn string, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	return errors.Join(f(conn), conn.Close(ctx))
}

// scan runs a query that returns one row, on a connection of its own.
func scan(ctx context.Context, dsn, sql string, arguments []any, into ...any) error {
	return query(ctx, dsn, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, sql, arguments...).Scan(into...)
	})
}

// fsyncs counts the flushes of the write-ahead log so far. A session reports
// its own at the latest when it ends: the count is right when the server that
// is measured has been stopped.
func (b *bench) fsyncs(ctx context.Context) (int64, error) {
	sql := `SELECT wal_sync FROM pg_stat_wal`
	var version int
	err := b.admin.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version)
	if version >= 180000 { // the column has moved
		sql = `SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'`
	}
	var n int64
	if err == nil {
		err = b.admin.QueryRow(ctx, sql).Scan(&n)
	}
	if err != nil {
		return 0, fmt.Errorf("count the fsyncs: %w", err)
	}
	return n, nil
}

// awaitSessionsEnd waits until nobody but us is connected.
func (b *bench) awaitSessionsEnd(ctx context.Context) error {
	return poll(ctx, 10*time.Second, 20*time.Millisecond, "the server's sessions in Postgres to end", func() (bool, error) {
		var n int
		err := b.admin.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&n)
		return n == 0, err
	})
}

// errPatience is the end of a poll without success.
var errPatience = errors.New("it has taken too long")

// poll asks until the answer is yes, or for as long as patience lasts; then its
// error is errPatience.
func poll(ctx context.Context, patience, every time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %s for %s: %w", patience, what, errPatience))
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
