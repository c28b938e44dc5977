// Package storetest gives tests a real, migrated database of their own: on the
// server that DATABASE_URL names, else on a private PostgreSQL cluster that
// ends with the test's process.
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
	"callbackd/migrations"
)

// owner is an ordinary role: no superuser, but it may make roles and databases.
const owner = "callbackd_test_owner"

// cluster is kept from the garbage collector: the cluster ends when the last
// reference to it does, at the latest with this process.
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
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return "", fmt.Errorf("connect to the private cluster: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	password := uuid.NewString()
	if _, err := conn.Exec(ctx, "CREATE ROLE "+owner+" LOGIN CREATEROLE CREATEDB PASSWORD '"+password+"'"); err != nil {
		return "", fmt.Errorf("create the owner's role: %w", err)
	}
	return withUser(s.DSN("postgres"), url.UserPassword(owner, password)), nil
})

// NewDatabase makes an empty database, dropped with the test, and gives its DSN.
func NewDatabase(tb testing.TB) string {
	tb.Helper()
	base, err := server()
	if err != nil {
		tb.Fatalf("a Postgres for the tests: %v", err)
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		tb.Fatalf("connect to the tests' Postgres: %v", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	name := "callbackd_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	if cluster == nil { // a private cluster takes its databases with it
		tb.Cleanup(func() { drop(tb, base, name) })
	}
	u, err := url.Parse(base)
	if err != nil {
		tb.Fatal("DATABASE_URL must be a URL for the tests")
	}
	u.Path = "/" + name
	return u.String()
}

func drop(tb testing.TB, base, name string) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		tb.Errorf("connect to drop database %s: %v", name, err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
		tb.Errorf("drop database %s: %v", name, err)
	}
}

// Migrations are the embedded files, to which a test may add others.
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

// NewMigrated makes a database with the current schema and gives its DSN.
func NewMigrated(tb testing.TB) string {
	tb.Helper()
	dsn := NewDatabase(tb)
	m, err := store.NewMigrator(context.Background(), store.MigratorOptions{DSN: dsn})
	if err != nil {
		tb.Fatalf("prepare the migrations: %v", err)
	}
	defer m.Close()
	if err := m.Up(context.Background()); err != nil {
		tb.Fatalf("migrate: %v", err)
	}
	return dsn
}

// Open opens a store on dsn, closed with the test; change is made to its
// options.
func Open(tb testing.TB, dsn string, change ...func(*store.Options)) *store.Store {
	tb.Helper()
	o := store.Options{
		DSN: dsn, StoreTimeout: 5 * time.Second, Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry()),
	}
	for _, f := range change {
		f(&o)
	}
	s, err := store.Open(context.Background(), o)
	if err != nil {
		tb.Fatalf("open the store: %v", err)
	}
	tb.Cleanup(s.Close)
	return s
}

// New opens a store on a migrated database of its own.
func New(tb testing.TB) *store.Store {
	tb.Helper()
	return Open(tb, NewMigrated(tb))
}

// AsMember gives the DSN of a login role that is a member of role and nothing
// else, as an operator would make it.
func AsMember(tb testing.TB, dsn, role string) string {
	tb.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	name, password := "callbackd_test_"+strings.ReplaceAll(uuid.NewString(), "-", ""), uuid.NewString()
	if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE %s", name, password, role)); err != nil {
		tb.Fatalf("create a login role: %v", err)
	}
	tb.Cleanup(func() {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close(ctx) }()
		_, _ = conn.Exec(ctx, "DROP ROLE "+name)
	})
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

// Eventually polls until the condition, which another goroutine or process brings
// about, holds, and ends the test when it does not within a minute.
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
