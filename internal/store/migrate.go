package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"callbackd/migrations"
)

// RequiredVersion is the migration that this program's SQL needs at least.
const RequiredVersion = 4

// migrateLock is the advisory lock of one migration run: the others wait.
const migrateLock = 4711202604711

// ErrNoSchema says that no migration has run in this database.
var ErrNoSchema = errors.New("the schema callbackd is not there")

// Migrator applies the embedded migrations. It needs the rights of the
// database's owner and CREATEROLE, not a superuser's.
type Migrator struct {
	db      *sql.DB
	migrate *migrate.Migrate
	unlock  func()
}

// NewMigrator connects and waits until no other migration runs. Close it.
func NewMigrator(ctx context.Context, dsn string) (*Migrator, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("parse DATABASE_URL: not a valid Postgres connection string")
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	m := &Migrator{db: db}
	if err := m.open(ctx); err != nil {
		m.Close()
		return nil, translate("prepare the migrations", err)
	}
	return m, nil
}

func (m *Migrator) open(ctx context.Context) error {
	conn, err := m.db.Conn(ctx)
	if err != nil {
		return err
	}
	m.unlock = func() { _ = conn.Close() } // the lock goes with the session
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrateLock)); err != nil {
		return err
	}
	// golang-migrate keeps its table in the schema, which must be there first.
	if _, err := conn.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS callbackd`); err != nil {
		return err
	}
	driver, err := migratepgx.WithInstance(m.db, &migratepgx.Config{SchemaName: "callbackd"})
	if err != nil {
		return err
	}
	source, err := iofs.New(migrations.FS, ".")
	if err != nil {
		return err
	}
	m.migrate, err = migrate.NewWithInstance("embedded", source, "postgres", driver)
	return err
}

// Close ends the connections.
func (m *Migrator) Close() {
	if m.migrate != nil {
		_, _ = m.migrate.Close()
	}
	if m.unlock != nil {
		m.unlock()
	}
	_ = m.db.Close()
}

// Up applies every migration that is missing.
func (m *Migrator) Up() error { return m.done("migrate up", m.migrate.Up()) }

// Down takes the last n migrations back, with the data in their tables.
func (m *Migrator) Down(n int) error { return m.done("migrate down", m.migrate.Steps(-n)) }

// Force sets the version without running anything, after a failed migration
// was mended by hand.
func (m *Migrator) Force(version int) error {
	return m.done("force the version", m.migrate.Force(version))
}

func (m *Migrator) done(doing string, err error) error {
	if errors.Is(err, migrate.ErrNoChange) {
		return nil
	}
	var dirty migrate.ErrDirty
	var missing migrate.ErrShortLimit
	switch {
	case errors.As(err, &dirty):
		return fmt.Errorf("%s: version %d failed half-way; mend the schema by hand, then migrate force", doing, dirty.Version)
	case errors.As(err, &missing):
		return fmt.Errorf("%s: there are %d migrations less than that to take back", doing, missing.Short)
	case errors.Is(err, migrate.ErrNilVersion):
		return fmt.Errorf("%s: no migration has been applied", doing)
	case err != nil:
		// SQL of migrations holds no data of anybody's: its error may be shown.
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
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
// additive, so that code and schema can be deployed in either order.
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
