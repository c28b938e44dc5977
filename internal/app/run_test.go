package app

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap/zaptest"

	"callbackd/internal/config"
	"callbackd/internal/store/storetest"
)

const shutdownTimeout = 2 * time.Second

// start makes a receive-only instance and runs it. stop is SIGTERM; ended tells
// how Run ended.
func start(t *testing.T, settings ...string) (i *Instance, stop func(), ended <-chan error) {
	t.Helper()
	cfg, err := config.Load(append([]string{
		"CALLBACKD_WORKERS=0", "CALLBACKD_LISTEN=127.0.0.1:0", "CALLBACKD_ADMIN_LISTEN=127.0.0.1:0",
		"CALLBACKD_JUMIO_HOSTS=none", "CALLBACKD_ALLOWED_CIDRS=127.0.0.1", "CALLBACKD_SHUTDOWN_TIMEOUT=" + shutdownTimeout.String(),
	}, settings...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	i, err = New(ctx, cfg, Build{}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	return i, stop, done
}

// mustEnd wants an end without error soon after the shutdown timeout.
func mustEnd(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("stop: %v", err)
		}
	case <-time.After(shutdownTimeout + 10*time.Second):
		t.Fatal("the stop does not end")
	}
}

// TestRun: from bound listeners to an orderly end.
func TestRun(t *testing.T) {
	t.Parallel()
	i, stop, ended := start(t, "DATABASE_URL="+storetest.NewMigrated(t))
	response, err := http.Post("http://"+i.CallbackListener().Addr().String()+"/jumio/callback", "application/json",
		strings.NewReader(`{"workflowExecution":{"id":"w","status":"PROCESSED"}}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("a callback gets %s", response.Status)
	}
	if err := CheckReady(t.Context(), i.AdminListener().Addr().String()); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	stop()
	mustEnd(t, ended)
	if err := CheckReady(t.Context(), i.AdminListener().Addr().String()); err == nil {
		t.Error("ready after the end")
	}
}

// TestListenerFails: the instance ends with the error of a listener that fails.
func TestListenerFails(t *testing.T) {
	t.Parallel()
	i, _, ended := start(t, "DATABASE_URL="+storetest.NewMigrated(t))
	_ = i.CallbackListener().Close()
	if err := <-ended; err == nil || !strings.HasPrefix(err.Error(), "serve on the callback listener: ") {
		t.Errorf("ended with %v", err)
	}
}

// TestStopDuringMigration: a database that lets the instance in late is migrated, but
// the instance stops without waiting for the migration.
func TestStopDuringMigration(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dsn := storetest.NewDatabase(t)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	// Another migration is running, so the instance's waits for its turn.
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(4711202604711)"); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	late := "late_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	u.User = url.UserPassword(late, "x")
	_, stop, ended := start(t, "DATABASE_URL="+u.String(), "CALLBACKD_MIGRATE_ON_START=true", "CALLBACKD_SPOOL_DIR="+t.TempDir())
	if _, err := conn.Exec(ctx, "CREATE ROLE "+late+" LOGIN PASSWORD 'x'"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Exec(context.Background(), "DROP ROLE "+late) })
	for waiting := false; !waiting; {
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = $1
			AND application_name = 'callbackd migrate')`, late).Scan(&waiting); err != nil {
			t.Fatalf("no migration waits: %v", err)
		}
	}
	stop()
	mustEnd(t, ended)
}
