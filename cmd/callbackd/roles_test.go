package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store/storetest"
)

// TestWrongRole: with the rights of a receive-only instance, whatever needs more
// says so, as whom DATABASE_URL connects, and which role it takes.
func TestWrongRole(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("receiver_"+strings.ReplaceAll(uuid.NewString(), "-", ""), "x")
	name := u.User.Username()
	if _, err := conn.Exec(t.Context(), "CREATE ROLE "+name+" LOGIN PASSWORD 'x' IN ROLE callbackd_receiver"); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = conn.Exec(t.Context(), "DROP ROLE "+name) }()
	environ := []string{
		"DATABASE_URL=" + u.String(), "CALLBACKD_LISTEN=127.0.0.1:0", "CALLBACKD_ADMIN_LISTEN=127.0.0.1:0", "CALLBACKD_JUMIO_HOSTS=none",
		"CALLBACKD_LOG_LEVEL=error", "CALLBACKD_SHUTDOWN_TIMEOUT=1s", "JUMIO_CLIENT_ID=i", "JUMIO_CLIENT_SECRET=s", "JUMIO_USER_AGENT=A/v1",
	}
	id := uuid.NewString()
	for _, args := range [][]string{
		{"refetch", "w"},
		{"reproject"},
		{"reproject", "w"},
		{"verification", "create", "--data-center", "amer-1", "--key", "2", "--customer-internal-reference", "r"},
		{"rejected", "list"},
		{"rejected", "show", id},
		{"rejected", "replay", id},
		{"migrate", "up"},
		{"migrate", "down", "1"},
		{"migrate", "force", "1"},
		{"serve"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			got := callbackd(t, environ, args...)
			want := "SQLSTATE 42501: DATABASE_URL connects as " + name + ", which may not do this; use the owner of the schema callbackd"
			if got.Code != 1 || !strings.Contains(got.Stderr, want) || strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("got %+v, want exit code 1 and one line with %q", got, want)
			}
		})
	}
}
