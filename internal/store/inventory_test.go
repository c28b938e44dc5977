package store_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// inventoried is a row of jumio.data_inventory.
type inventoried struct {
	View, Column, Data, Retention, Description string
}

func (i inventoried) String() string { return "jumio." + i.View + "." + i.Column }

// readableBy says which of the roles with column grants may read it.
func (i inventoried) readableBy(role string) bool {
	if role == "jumio_summary" {
		return i.Data == "technical" || i.Data == "reference"
	}
	return !slices.Contains([]string{"body", "details", "data"}, i.Column)
}

func inventory(t *testing.T, conn *pgx.Conn) []inventoried {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT view_name, column_name, coalesce(data_class, ''), coalesce(retention_class, 'none'), coalesce(description, '')
		FROM jumio.data_inventory ORDER BY 1, 2`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[inventoried])
	if err != nil || len(list) == 0 {
		t.Fatalf("the inventory: %v, %v", list, err)
	}
	return list
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// TestInventory: every column of every view has its two classes, and the two roles may
// read exactly what follows from them.
func TestInventory(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	owner := connect(t, dsn)
	rows, _ := owner.Query(t.Context(), `SELECT 'jumio.' || table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'jumio' ORDER BY table_name, column_name`)
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]*pgx.Conn{}
	for _, role := range []string{"jumio_results", "jumio_summary"} {
		members[role] = connect(t, storetest.AsMember(t, dsn, role))
	}
	var got []string
	for _, c := range inventory(t, owner) {
		got = append(got, c.String())
		if !slices.Contains([]string{"identity", "document", "biometric", "reference", "technical"}, c.Data) ||
			!slices.Contains([]string{"images", "biometrics", "results", "callbacks", "rejected", "events", "none"}, c.Retention) || c.Description == "" {
			t.Errorf("%s has no comment that ends with its data class and retention class, such as [technical, none]", c)
		}
	}
	for role, conn := range members {
		readable := map[string][]string{}
		for _, c := range inventory(t, owner) {
			var granted bool
			err := owner.QueryRow(t.Context(), `SELECT has_column_privilege($1, 'jumio.' || $2, $3, 'SELECT')`, role, c.View, c.Column).Scan(&granted)
			if want := c.readableBy(role); err != nil || granted != want {
				t.Errorf("%s may read %s (%s): %t, %v, want %t; a migration that adds a column calls callbackd.grant_columns()", role, c, c.Data, granted, err, want)
			}
			if granted {
				readable[c.View] = append(readable[c.View], pgx.Identifier{c.Column}.Sanitize())
			}
		}
		// The views' functions, too.
		for view, columns := range readable {
			if _, err := conn.Exec(t.Context(), `SELECT `+strings.Join(columns, ", ")+` FROM jumio.`+view); err != nil {
				t.Errorf("%s reads jumio.%s: %v", role, view, err)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("columns (-of the views +of the inventory):\n%s", d)
	}
	for role, conn := range members {
		for _, sql := range []string{`SELECT FROM callbackd.callbacks`, `DELETE FROM jumio.images`, `SELECT * FROM jumio.images`, `SELECT jumio.handled('c', 0)`, `SELECT callbackd.grant_columns()`} {
			if _, err := conn.Exec(t.Context(), sql); sqlState(err) != "42501" {
				t.Errorf("%s: %s: %v, want a lack of rights", role, sql, err)
			}
		}
	}
}

// TestDataProtectionQueries: those of docs/data-protection.md for what is known of a person
// work, and ask every view that has something of a workflow execution.
func TestDataProtectionQueries(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/data-protection.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\\set account")
	_, rest, _ = strings.Cut(rest, "\n")
	block, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the page has no queries with an account")
	}
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	c := storetest.Callback("w")
	c.AccountID = "a"
	storetest.Insert(t, s, c)
	storetest.SeedDetails(t, s, "w", `{"account":{"id":"a"},"workflow":{"id":"w"}}`)
	reader := connect(t, storetest.AsMember(t, dsn, "jumio_reader"))
	for query := range strings.Lines(block) {
		query = strings.Replace(query, ":'account'", "'a'", 1)
		tag, err := reader.Exec(t.Context(), query)
		if err != nil || strings.Contains(query, "jumio.verifications WHERE") && tag.RowsAffected() != 1 {
			t.Errorf("%s: %v, %v", query, tag, err)
		}
	}
	for _, i := range inventory(t, reader) {
		if i.Column == "workflow_execution_id" && !strings.Contains(block, "jumio."+i.View+" ") {
			t.Errorf("no query asks jumio.%s", i.View)
		}
	}
}

func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestInventoryDownAndUp: down takes the classes and the rights away, and leaves the
// roles; up makes the same inventory again.
func TestInventoryDownAndUp(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	conn := connect(t, dsn)
	before := inventory(t, conn)
	m := migrator(t, store.MigratorOptions{DSN: dsn})
	const version = 38
	if err := m.Down(t.Context(), store.RequiredVersion-version+1); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]int{
		`SELECT count(*) FROM pg_description WHERE description ~ ' \[[a-z]+, [a-z]+\]$'`:                                                    0,
		`SELECT count(*) FROM pg_roles WHERE rolname IN ('jumio_results', 'jumio_summary')`:                                                 2,
		`SELECT count(*) FROM pg_roles WHERE rolname IN ('jumio_results', 'jumio_summary') AND has_schema_privilege(oid, 'jumio', 'USAGE')`: 0,
		`SELECT count(*) FROM pg_class, pg_roles AS r WHERE relnamespace = 'jumio'::regnamespace AND relkind = 'v'
			AND rolname IN ('jumio_results', 'jumio_summary') AND has_any_column_privilege(r.oid, pg_class.oid, 'SELECT')`: 0,
	} {
		var got int
		if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", sql, got, err, want)
		}
	}
	if err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, inventory(t, conn)); d != "" {
		t.Errorf("the inventory (-before +after):\n%s", d)
	}
}
