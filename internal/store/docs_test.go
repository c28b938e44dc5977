package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/doctest"
	"callbackd/internal/store/storetest"
)

// TestDocs: docs/database.md describes the views as their comments do, and every
// view and column has one.
func TestDocs(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), storetest.NewMigrated(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `
		SELECT c.relname AS view, coalesce(obj_description(c.oid, 'pg_class'), '') AS about, a.attname AS column,
			format_type(a.atttypid, a.atttypmod) AS type, coalesce(col_description(c.oid, a.attnum), '') AS meaning
		FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'jumio'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
		ORDER BY c.oid, a.attnum`)
	if err != nil {
		t.Fatal(err)
	}
	type column struct{ View, About, Column, Type, Meaning string }
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByName[column])
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	last := ""
	for _, c := range columns {
		if c.About == "" || c.Meaning == "" {
			t.Errorf("jumio.%s or its column %s has no comment", c.View, c.Column)
		}
		if c.View != last {
			fmt.Fprintf(&b, "\n### jumio.%s\n\n%s\n\n| column | type | meaning |\n|---|---|---|\n", c.View, c.About)
			last = c.View
		}
		kind := strings.Replace(c.Type, "timestamp with time zone", "timestamptz", 1)
		b.WriteString(doctest.Row("`"+c.Column+"`", kind, c.Meaning))
	}
	doctest.Section(t, "../../docs/database.md", "views", b.String()+"\n")
}
