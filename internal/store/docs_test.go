package store_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"callbackd/bench/questions"
	"callbackd/internal/doctest"
	"callbackd/internal/store/storetest"
)

// TestDocs: docs/database.md describes the views as their comments do.
func TestDocs(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), storetest.NewMigrated(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `
		SELECT c.relname AS view, coalesce(obj_description(c.oid, 'pg_class'), '') AS about, a.attname AS column,
			format_type(a.atttypid, a.atttypmod) AS type, i.data_class AS data, coalesce(i.retention_class, '') AS retention, i.description AS meaning
		FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
		JOIN jumio.data_inventory AS i ON i.view_name = c.relname AND i.column_name = a.attname
		WHERE c.relnamespace = 'jumio'::regnamespace
		ORDER BY c.oid, a.attnum`)
	if err != nil {
		t.Fatal(err)
	}
	type column struct{ View, About, Column, Type, Data, Retention, Meaning string }
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByName[column])
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	last := ""
	for _, c := range columns {
		if c.View != last {
			fmt.Fprintf(&b, "\n### jumio.%s\n\n%s\n\n| column | type | data | retention | meaning |\n|---|---|---|---|---|\n", c.View, c.About)
			last = c.View
		}
		kind := strings.Replace(c.Type, "timestamp with time zone", "timestamptz", 1)
		b.WriteString(doctest.Row("`"+c.Column+"`", kind, c.Data, c.Retention, c.Meaning))
	}
	doctest.Section(t, "../../docs/database.md", "views", b.String()+"\n")

	rows, err = conn.Query(t.Context(), `SELECT capability, label, meaning, CASE WHEN retry_helps THEN 'yes' ELSE 'no' END
		FROM jumio.labels ORDER BY array_position(ARRAY['usability', 'imageChecks', 'extraction', 'dataChecks', 'liveness', 'similarity', 'authentication'], capability), label`)
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.WriteString("\n| capability | label | meaning | retry helps |\n|---|---|---|---|\n")
	var capability, label, meaning, retry string
	if _, err := pgx.ForEachRow(rows, []any{&capability, &label, &meaning, &retry}, func() error {
		b.WriteString(doctest.Row(capability, "`"+label+"`", meaning, retry))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	doctest.Section(t, "../../docs/decisions.md", "labels", b.String()+"\n")
}

// TestQuestions: docs/database.md has the questions of docs/questions.sql, which the
// benchmark times and another test explains.
func TestQuestions(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/questions.sql")
	if err != nil {
		t.Fatal(err)
	}
	list, err := questions.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("\n```sql\n")
	for i, q := range list {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "-- %s ($1, ...: %s)\n%s\n", q.Text, strings.Join(q.Parameters, ", "), strings.TrimSpace(q.SQL))
	}
	b.WriteString("```\n\n")
	doctest.Section(t, "../../docs/database.md", "questions", b.String())
}
