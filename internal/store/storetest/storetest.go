// Package storetest gives each test a real, migrated database: on the server that
// DATABASE_URL names, else on a private PostgreSQL cluster that ends with the test
// process.
package storetest

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/pgserver"
	"callbackd/internal/store"
	"callbackd/internal/store/receiving"
	"callbackd/internal/store/results"
	"callbackd/internal/tombstone"
	"callbackd/migrations"
)

// owner is not a superuser, but may create roles and databases.
const owner = "callbackd_test_owner"

// cluster keeps the private cluster from the garbage collector, which would end it.
var cluster *pgserver.Server

var server = sync.OnceValues(func() (string, error) {
	if dsn := os.Getenv("DATABASE_URL"); dsn != "" {
		return dsn, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := pgserver.Start(ctx, pgserver.Options{NoSync: true, Settings: map[string]string{"max_connections": "300"}})
	if err != nil {
		return "", err
	}
	cluster = s
	password := uuid.NewString()
	if err := exec(s.DSN("postgres"), "CREATE ROLE "+owner+" LOGIN CREATEROLE CREATEDB PASSWORD '"+password+"'"); err != nil {
		return "", fmt.Errorf("create the owner's role: %w", err)
	}
	return withUser(s.DSN("postgres"), url.UserPassword(owner, password)), nil
})

// exec runs one statement on a connection of its own.
func exec(dsn, sql string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// NewDatabase creates an empty database, dropped after the test, and returns its DSN.
func NewDatabase(tb testing.TB) string {
	tb.Helper()
	return newDatabase(tb, "template1")
}

func newDatabase(tb testing.TB, template string) string {
	tb.Helper()
	base, err := server()
	if err != nil {
		tb.Fatalf("start a Postgres for the tests: %v", err)
	}
	name := "callbackd_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if err := exec(base, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	if cluster == nil { // a private cluster ends with its databases
		tb.Cleanup(func() {
			if err := exec(base, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
				tb.Errorf("drop database %s: %v", name, err)
			}
		})
	}
	u, err := url.Parse(base)
	if err != nil {
		tb.Fatal("DATABASE_URL must be a URL for the tests")
	}
	u.Path = "/" + name
	return u.String()
}

// Migrations returns the embedded files, to which a test may add.
func Migrations(tb testing.TB) fstest.MapFS {
	tb.Helper()
	entries, err := fs.ReadDir(migrations.FS, ".")
	if err != nil {
		tb.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, entry := range entries {
		text, err := fs.ReadFile(migrations.FS, entry.Name())
		if err != nil {
			tb.Fatal(err)
		}
		files[entry.Name()] = &fstest.MapFile{Data: text}
	}
	return files
}

// NewMigrated creates a database with the current schema and returns its DSN. On a private
// cluster it is a copy of one that has been migrated once, which takes a tenth of the time.
func NewMigrated(tb testing.TB) string {
	tb.Helper()
	if _, err := server(); err != nil {
		tb.Fatalf("start a Postgres for the tests: %v", err)
	}
	if cluster == nil {
		dsn := NewDatabase(tb)
		migrate(tb, dsn)
		return dsn
	}
	template.Do(func() {
		dsn := newDatabase(tb, "template1")
		migrate(tb, dsn)
		template.name = dsn[strings.LastIndex(dsn, "/")+1:]
		template.name, _, _ = strings.Cut(template.name, "?")
	})
	if template.name == "" {
		tb.Fatal("the template of the tests' databases could not be migrated")
	}
	return newDatabase(tb, template.name)
}

// template is a migrated database.
var template struct {
	sync.Once
	name string
}

func migrate(tb testing.TB, dsn string) {
	tb.Helper()
	if err := store.MigrateUp(context.Background(), store.MigratorOptions{DSN: dsn}); err != nil {
		tb.Fatalf("migrate: %v", err)
	}
}

// Store is the whole store: the database and both halves.
type Store struct {
	*store.DB
	*receivingHalf
	*resultsHalf
	// Registry holds its metrics.
	Registry *prometheus.Registry
}

type (
	receivingHalf = receiving.Store
	resultsHalf   = results.Store
)

// InTx is results.Store.InTx.
func (s *Store) InTx(ctx context.Context, doing string, f func(*results.Tx) error) error {
	return s.resultsHalf.InTx(ctx, doing, f)
}

// Ready is store.DB.Ready.
func (s *Store) Ready(ctx context.Context) error { return s.DB.Ready(ctx) }

// Close closes the store before the end of the test.
func (s *Store) Close() {
	s.receivingHalf.Close()
	s.DB.Close()
}

// Receiving returns the receivers' half.
func (s *Store) Receiving() *receiving.Store { return s.receivingHalf }

// Results returns the worker's half.
func (s *Store) Results() *results.Store { return s.resultsHalf }

// ErasureKey is that of the stores that are opened here.
var ErasureKey = tombstone.NewKey("the erasure key of the tests")

// Timeout bounds how long storing a callback takes.
const Timeout = 5 * time.Second

// Open opens a store on dsn and closes it after the test. It logs to log, if given.
func Open(tb testing.TB, dsn string, log ...*zap.Logger) *Store {
	tb.Helper()
	return OpenWithTimeout(tb, dsn, Timeout, log...)
}

// OpenWithTimeout is Open with another Timeout.
func OpenWithTimeout(tb testing.TB, dsn string, timeout time.Duration, log ...*zap.Logger) *Store {
	tb.Helper()
	reg := prometheus.NewRegistry()
	db, err := store.Open(context.Background(), store.Options{DSN: dsn, ErasureKey: ErasureKey, Log: append(log, zap.NewNop())[0], Metrics: store.NewMetrics(reg)})
	if err != nil {
		tb.Fatalf("open the store: %v", err)
	}
	s := &Store{db, receiving.New(db, timeout, reg), results.New(db), reg}
	tb.Cleanup(s.Close)
	return s
}

// New opens a store on a new, migrated database.
func New(tb testing.TB) *Store {
	tb.Helper()
	return Open(tb, NewMigrated(tb))
}

// AsMember returns the DSN of a login role that is a member of role only, as an
// operator would create it.
func AsMember(tb testing.TB, dsn, role string) string {
	tb.Helper()
	name, password := "callbackd_test_"+strings.ReplaceAll(uuid.NewString(), "-", ""), uuid.NewString()
	if err := exec(dsn, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE %s", name, password, role)); err != nil {
		tb.Fatalf("create a login role: %v", err)
	}
	tb.Cleanup(func() { _ = exec(dsn, "DROP ROLE "+name) })
	return withUser(dsn, url.UserPassword(name, password))
}

func withUser(dsn string, user *url.Userinfo) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic("pgserver gives no URL: " + err.Error())
	}
	u.User = user
	return u.String()
}

// Eventually polls a condition that another goroutine or process will bring about, and
// ends the test if it does not hold within a minute.
func Eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			tb.Fatalf("waited a minute for: %s", what)
		}
	}
}
