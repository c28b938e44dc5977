package pgserver

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestStandby: what a primary has committed with its standby is there after the
// primary's crash, and the promoted standby takes writes.
func TestStandby(t *testing.T) {
	primary := startServer(t, Options{NoSync: true})
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(); err != nil {
			t.Error(err)
		}
	})
	if got := query(t, standby.DSN("postgres"), "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("a standby in recovery: %s", got)
	}
	conn, err := pgx.Connect(t.Context(), primary.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) // the connection is broken on purpose
	for _, sql := range []string{
		"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()",
		"CREATE TABLE kept AS SELECT 'here' AS it",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	eventually(t, "a synchronous standby", func() bool {
		return query(t, primary.DSN("postgres"), "SELECT count(*)::text FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
	})
	if _, err := conn.Exec(t.Context(), "INSERT INTO kept VALUES ('too')"); err != nil {
		t.Fatal(err)
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, standby.DSN("postgres"), "INSERT INTO kept VALUES ('new') RETURNING (SELECT count(*)::text FROM kept)"); got != "2" {
		t.Errorf("%s rows are there after the failover, want 2", got)
	}
}
