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
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"callbackd/migrations"
)

// RequiredVersion is the migration that this program's SQL needs at least.
const RequiredVersion = 7

// migrateLock is the advisory lock of one migration run: the others wait.
const migrateLock = 4711202604711

// ErrNoSchema says that no migration has run in this database.
var ErrNoSchema = errors.New("the schema callbackd is not there")

// MigratorOptions are a Migrator's settings.
type MigratorOptions struct {
	// DSN is the Postgres connection string; never logged.
	DSN string
	// Files holds the migrations; nil for the embedded ones.
	Files fs.FS
	// MaxWait bounds how long a migration tries to get its locks; 0 means five
	// minutes.
	MaxWait time.Duration
	// OnWait, if set, is told who holds the lock that a migration could not get,
	// at each attempt.
	OnWait func(holders string)
}

// Migrator applies migrations. It needs the rights of the database's owner and
// CREATEROLE, not a superuser's.
type Migrator struct {
	db      *sql.DB
	conn    *sql.Conn // holds migrateLock, and runs the migrations
	migrate *migrate.Migrate
	steps   *steps
	// versions are those of the files, ascending.
	versions []int
}

// NewMigrator connects and waits until no other migration runs. Close it.
func NewMigrator(ctx context.Context, o MigratorOptions) (*Migrator, error) {
	cfg, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("parse DATABASE_URL: not a valid Postgres connection string")
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "callbackd migrate"
	}
	m := &Migrator{db: stdlib.OpenDB(*cfg.ConnConfig)}
	if err := m.open(ctx, o); err != nil {
		m.Close()
		return nil, translate("prepare the migrations", driverError(err))
	}
	return m, nil
}

// driverError is what golang-migrate's error, which does not unwrap, wraps.
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
	if _, err := m.conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrateLock)); err != nil {
		return err
	}
	// golang-migrate keeps its table in the schema, which must be there first.
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
	files, err := iofs.New(o.Files, ".")
	if err != nil {
		return err
	}
	if m.versions, err = versionsOf(files); err != nil {
		return err
	}
	m.migrate, err = migrate.NewWithInstance("files", files, "postgres", m.steps)
	return err
}

func versionsOf(files source.Driver) (list []int, err error) {
	version, err := files.First()
	for err == nil {
		list = append(list, int(version))
		version, err = files.Next(version)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return list, nil
}

// Close ends the connections.
func (m *Migrator) Close() {
	if m.migrate != nil {
		_, _ = m.migrate.Close()
	}
	if m.conn != nil {
		_ = m.conn.Close() // the lock goes with the session
	}
	_ = m.db.Close()
}

// Up applies every migration that is missing. On a schema that is newer than
// the migrations there is nothing to do. The end of ctx ends the waiting for
// locks, not a migration that is running.
func (m *Migrator) Up(ctx context.Context) error {
	applied, err := m.applied("migrate up")
	if err != nil || applied > len(m.versions) {
		return err
	}
	m.steps.ctx = ctx
	return m.done("migrate up", m.migrate.Up())
}

// Down takes the last n migrations back, with the data in their tables, or none
// if there are fewer. The end of ctx is as for Up.
func (m *Migrator) Down(ctx context.Context, n int) error {
	const doing = "migrate down"
	applied, err := m.applied(doing)
	switch {
	case err != nil:
		return err
	case applied > len(m.versions):
		return fmt.Errorf("%s: the schema is newer than this program: use the program that brought it there", doing)
	case applied < n:
		return fmt.Errorf("%s: only %d migrations can be taken back", doing, applied)
	}
	m.steps.ctx = ctx
	return m.done(doing, m.migrate.Steps(-n))
}

// applied is how many of the migrations are in the schema; one more than there
// are where the schema is newer than all of them.
func (m *Migrator) applied(doing string) (int, error) {
	version, dirty, err := m.steps.Version()
	switch {
	case err != nil:
		return 0, m.done(doing, err)
	case dirty:
		return 0, m.done(doing, migrate.ErrDirty{Version: version})
	case version > m.versions[len(m.versions)-1]:
		return len(m.versions) + 1, nil
	}
	return slices.Index(m.versions, version) + 1, nil // none: -1
}

// Force sets the version without running anything, after a failed migration
// was mended by hand.
func (m *Migrator) Force(version int) error {
	m.steps.ctx = context.Background()
	return m.done("force the version", m.migrate.Force(version))
}

func (m *Migrator) done(doing string, err error) error {
	var dirty migrate.ErrDirty
	switch err = driverError(err); {
	case err == nil, errors.Is(err, migrate.ErrNoChange):
		return nil
	case errors.As(err, &dirty):
		return fmt.Errorf("%s: version %d failed half-way; mend the schema by hand, then migrate force", doing, dirty.Version)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: the schema's version is none of this program's", doing)
	case errors.As(err, new(*migrationError)):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return translate(doing, err)
}

// SchemaVersion gives the version of the schema, and whether its migration
// failed half-way. ErrNoSchema: there is none.
func (s *Store) SchemaVersion(ctx context.Context) (version int, dirty bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT version, dirty FROM callbackd.schema_migrations LIMIT 1`).Scan(&version, &dirty)
	err = translate("read the schema's version", err)
	var sqlErr *SQLError
	if errors.Is(err, ErrNotFound) || errors.As(err, &sqlErr) && (sqlErr.Code == pgerrcode.UndefinedTable || sqlErr.Code == pgerrcode.InvalidSchemaName) {
		return 0, false, ErrNoSchema
	}
	return version, dirty, err
}

// CheckSchema returns an error that says what to do unless the schema is at
// least as new as this program needs. A newer one is fine: migrations are
// additive, so that older programs go on with it.
func (s *Store) CheckSchema(ctx context.Context) error {
	version, dirty, err := s.SchemaVersion(ctx)
	switch {
	case err != nil && !errors.Is(err, ErrNoSchema):
		return err
	case dirty:
		return fmt.Errorf("migration %d failed half-way: mend the schema by hand, then run `callbackd migrate force`", version)
	case version < RequiredVersion:
		return fmt.Errorf("the schema's version is %d, but %d is needed: run `callbackd migrate up`, or set CALLBACKD_MIGRATE_ON_START=true", version, RequiredVersion)
	}
	return nil
}
