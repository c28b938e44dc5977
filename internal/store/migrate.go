package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"callbackd/migrations"
)

// RequiredVersion is the oldest schema version that this program's SQL works with.
const RequiredVersion = 38

// migrateLock is the advisory lock that a migration run holds.
const migrateLock = 4711202604711

// lockPoll is how often a migration run asks whether another one has ended.
const lockPoll = 100 * time.Millisecond

// cancelTimeout is how long a server may take to cancel a statement.
const cancelTimeout = 2 * time.Second

// ErrNoSchema means that no migration has run in this database.
var ErrNoSchema = errors.New("the schema callbackd does not exist")

// MigratorOptions are a Migrator's settings.
type MigratorOptions struct {
	// DSN is the Postgres connection string; never logged.
	DSN string
	// Files holds the migrations; nil for the embedded ones.
	Files fs.FS
	// MaxWait bounds how long a migration tries to get its locks; 0 means five
	// minutes.
	MaxWait time.Duration
	// OnWait, if set, is called each time a migration cannot get a lock, with those
	// who hold it.
	OnWait func(holders string)
	// OnStep, if set, is called after each migration that is applied or undone.
	OnStep func(version int, name string)
	// MoveDetails, if set, is called between the migrations before and after
	// MovedVersion: it moves the details that a version before stored into the typed
	// tables. It may be interrupted, and continues when it is called again.
	MoveDetails func(ctx context.Context) error
}

// MovedVersion is the first version of the schema whose views expect typed tables for
// all details.
const MovedVersion = 15

// Migrator applies migrations. It needs the rights of the database's owner and
// CREATEROLE, not a superuser's.
type Migrator struct {
	db      *sql.DB
	conn    *sql.Conn // holds migrateLock, and runs the migrations
	migrate *migrate.Migrate
	steps   *steps
	onStep  func(version int, name string)
	move    func(context.Context) error
	files   []*source.Migration // in order, up only
}

// NewMigrator connects and waits for other migration runs to end. Close it.
func NewMigrator(ctx context.Context, o MigratorOptions) (*Migrator, error) {
	cfg, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("parse DATABASE_URL: not a valid Postgres connection string")
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "callbackd migrate"
	}
	// Cancel a statement in the server: closing the connection would not end it.
	cfg.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTimeout}
	}
	m := &Migrator{db: stdlib.OpenDB(*cfg.ConnConfig), onStep: o.OnStep, move: o.MoveDetails}
	if err := m.open(ctx, o); err != nil {
		m.Close()
		return nil, Translate("prepare the migrations", driverError(err))
	}
	return m, nil
}

// driverError unwraps golang-migrate's error, which has no Unwrap.
func driverError(err error) error {
	var e *database.Error
	if errors.As(err, &e) {
		return e.OrigErr
	}
	return err
}

func (m *Migrator) open(ctx context.Context, o MigratorOptions) (err error) {
	if m.conn, err = m.db.Conn(ctx); err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	// golang-migrate keeps its table in the schema, which must exist first.
	if _, err := m.conn.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS callbackd`); err != nil {
		return err
	}
	driver, err := migratepgx.WithInstance(m.db, &migratepgx.Config{SchemaName: "callbackd"})
	if err != nil {
		return err
	}
	m.steps = &steps{Driver: driver, db: m.db, conn: m.conn, maxWait: o.MaxWait, onWait: o.OnWait}
	if m.steps.maxWait == 0 {
		m.steps.maxWait = 5 * time.Minute
	}
	if o.Files == nil {
		o.Files = migrations.FS
	}
	names, err := fs.Glob(o.Files, "*.up.sql")
	if err != nil {
		return err
	}
	for _, name := range names {
		file, err := source.DefaultParse(name)
		if err != nil {
			return fmt.Errorf("the name of migration %s: %w", name, err)
		}
		m.files = append(m.files, file)
	}
	files, err := iofs.New(o.Files, ".")
	if err != nil {
		return err
	}
	m.migrate, err = migrate.NewWithInstance("files", files, "postgres", m.steps)
	return err
}

// lock waits until no other migration runs. It asks again and again: a statement that
// waited would hold a snapshot, for which CREATE INDEX CONCURRENTLY waits in turn.
func (m *Migrator) lock(ctx context.Context) error {
	for {
		var locked bool
		err := m.conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, int64(migrateLock)).Scan(&locked)
		if err != nil || locked {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// MigrateUp applies every missing migration, after other migration runs have ended.
func MigrateUp(ctx context.Context, o MigratorOptions) error {
	m, err := NewMigrator(ctx, o)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Up(ctx)
}

// Close closes the connections.
func (m *Migrator) Close() {
	if m.migrate != nil {
		_, _ = m.migrate.Close()
	}
	if m.conn != nil {
		_ = m.conn.Close() // and so releases migrateLock
	}
	_ = m.db.Close()
}

// Up applies every missing migration. On a schema that is newer than the migrations it
// does nothing. When ctx ends, the running migration is rolled back, or the next Up
// repeats it.
func (m *Migrator) Up(ctx context.Context) error {
	const doing = "migrate up"
	applied, err := m.applied(doing)
	if err != nil || applied > len(m.files) {
		return err
	}
	return m.step(ctx, doing, 1, m.files[applied:])
}

// Down undoes the last n migrations and drops the data in their tables; if there are
// fewer, it does nothing. ctx ends it as it ends Up.
func (m *Migrator) Down(ctx context.Context, n int) error {
	const doing = "migrate down"
	applied, err := m.applied(doing)
	switch {
	case err != nil:
		return err
	case applied > len(m.files):
		return fmt.Errorf("%s: the schema is newer than this program: use the program that migrated it", doing)
	case applied < n:
		return fmt.Errorf("%s: only %d migrations can be undone", doing, applied)
	}
	last := slices.Clone(m.files[applied-n : applied])
	slices.Reverse(last)
	return m.step(ctx, doing, -1, last)
}

// step applies the files (direction 1) or undoes them (-1).
func (m *Migrator) step(ctx context.Context, doing string, direction int, files []*source.Migration) error {
	m.steps.ctx = ctx
	for _, f := range files {
		if direction > 0 && f.Version == MovedVersion && m.move != nil {
			if err := m.move(ctx); err != nil {
				return err
			}
		}
		if err := m.migrate.Steps(direction); err != nil {
			return m.done(doing, err)
		}
		if m.onStep != nil {
			m.onStep(int(f.Version), f.Identifier)
		}
	}
	return nil
}

// applied returns how many of the files are applied; len(m.files)+1 if the schema is
// newer than all of them.
func (m *Migrator) applied(doing string) (int, error) {
	version, dirty, err := m.steps.Version()
	switch {
	case err != nil:
		return 0, m.done(doing, err)
	case dirty:
		return 0, m.done(doing, migrate.ErrDirty{Version: version})
	case version < 0:
		return 0, nil
	case version > int(m.files[len(m.files)-1].Version):
		return len(m.files) + 1, nil
	}
	i := slices.IndexFunc(m.files, func(f *source.Migration) bool { return f.Version == uint(version) })
	if i < 0 {
		return 0, m.done(doing, fs.ErrNotExist)
	}
	return i + 1, nil
}

// Version returns the schema's version, 0 for none.
func (m *Migrator) Version() (int, error) {
	version, _, err := m.steps.Version()
	return max(version, 0), m.done("read the schema's version", err)
}

// Force sets the version without running anything, after a failed migration has
// been fixed by hand.
func (m *Migrator) Force(version int) error {
	m.steps.ctx = context.Background()
	return m.done("force the version", m.migrate.Force(version))
}

func (m *Migrator) done(doing string, err error) error {
	var dirty migrate.ErrDirty
	switch err = driverError(err); {
	case err == nil:
		return nil
	case errors.As(err, &dirty):
		return fmt.Errorf("%s: version %d failed half-way; fix the schema by hand, then migrate force", doing, dirty.Version)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: this program does not know the schema's version", doing)
	case errors.As(err, new(*migrationError)):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return Translate(doing, err)
}

// SchemaVersion returns the schema's version and whether its migration failed half-way;
// ErrNoSchema if there is no schema.
func (db *DB) SchemaVersion(ctx context.Context) (version int, dirty bool, err error) {
	err = db.pool.QueryRow(ctx, `SELECT version, dirty FROM callbackd.schema_migrations LIMIT 1`).Scan(&version, &dirty)
	err = Translate("read the schema's version", err)
	var sqlErr *SQLError
	if errors.Is(err, ErrNotFound) || errors.As(err, &sqlErr) && (sqlErr.Code == pgerrcode.UndefinedTable || sqlErr.Code == pgerrcode.InvalidSchemaName) {
		return 0, false, ErrNoSchema
	}
	return version, dirty, err
}

// CheckSchema returns an error that says what to do if the schema is older than
// RequiredVersion or its migration failed half-way. A newer schema is fine: migrations
// only add to what an older program uses.
func (db *DB) CheckSchema(ctx context.Context) error {
	version, dirty, err := db.SchemaVersion(ctx)
	switch {
	case err != nil && !errors.Is(err, ErrNoSchema):
		return err
	case dirty:
		return fmt.Errorf("migration %d failed half-way: fix the schema by hand, then run `callbackd migrate force`", version)
	case version < RequiredVersion:
		return fmt.Errorf("the schema's version is %d, but %d is needed: run `callbackd migrate up`, or set CALLBACKD_MIGRATE_ON_START=true", version, RequiredVersion)
	}
	return nil
}

// CheckWorker returns an error unless a worker may write its results and take its jobs;
// Forbidden reports whether it lacks the rights.
func (db *DB) CheckWorker(ctx context.Context) error {
	_, err := db.pool.Exec(ctx, `SELECT FROM callbackd.workflow_executions, callbackd.river_job WHERE false FOR UPDATE`)
	return Translate("check the worker's rights", err)
}
