package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store/storetest"
)

// Every column of every view reads the same in a parallel plan, which Postgres
// chooses by itself once the tables are large.
func TestViewsInParallelPlans(t *testing.T) {
	s := storetest.New(t)
	for i, day := range []string{"1990-01-01", "2023-02-31", "2024-02-29", "today", "0000-01-01", "1990-13-01", "1990-00-10"} {
		id := fmt.Sprintf("w%d", i)
		storetest.Insert(t, s, storetest.Callback(id))
		storetest.SeedDetails(t, s, id, `{"createdAt": "`+day+`T15:47:17.234Z", "startedAt": "2021-03-12T24:47:17Z", "completedAt": "2021-03-12T15:47:60+16:00",
			"capabilities": {"extraction": [{"data": {"dateOfBirth": "`+day+`", "expiryDate": "`+day+`", "issuingDate": "`+day+`"}}]}}`)
	}
	conn, err := s.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()

	type column struct{ View, Name string }
	rows, _ := conn.Query(t.Context(), `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'jumio' ORDER BY 1, 2`)
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil || len(columns) == 0 {
		t.Fatalf("columns of the views: %v, %v", columns, err)
	}
	statement := func(c column) string { return fmt.Sprintf(`SELECT %s::text FROM jumio.%s ORDER BY 1`, c.Name, c.View) }
	serial := make(map[column][]*string)
	for _, c := range columns {
		serial[c] = texts(t, conn.Conn(), statement(c))
	}
	forceParallel(t, conn.Conn())
	for _, c := range columns {
		plan := ""
		for _, line := range texts(t, conn.Conn(), "EXPLAIN "+statement(c)) {
			plan += *line + "\n"
		}
		// What looks something up for each row is never read in parallel.
		if !strings.Contains(plan, "Gather") && !strings.Contains(plan, "SubPlan") {
			t.Errorf("jumio.%s.%s is not read in parallel:\n%s", c.View, c.Name, plan)
		}
		if d := cmp.Diff(serial[c], texts(t, conn.Conn(), statement(c))); d != "" {
			t.Errorf("jumio.%s.%s (-serial +parallel):\n%s", c.View, c.Name, d)
		}
	}
}

// forceParallel makes the session's plans parallel wherever that is allowed.
func forceParallel(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	_, err := conn.Exec(t.Context(), `
		SELECT set_config('jit', 'off', false);
		SELECT set_config(name, CASE vartype WHEN 'enum' THEN 'on' ELSE '0' END, false) FROM pg_settings
		WHERE name IN ('force_parallel_mode', 'debug_parallel_query', 'parallel_setup_cost', 'parallel_tuple_cost',
			'min_parallel_table_scan_size', 'min_parallel_index_scan_size')`)
	if err != nil {
		t.Fatalf("force parallel plans: %v", err)
	}
}

func texts(t *testing.T, conn *pgx.Conn, sql string) []*string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, pgx.QueryExecModeExec) // not a plan from before
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[*string])
	if err != nil {
		t.Errorf("%s: %v", sql, err)
	}
	return list
}

// What the views make of Jumio's dates: nothing that is no date fails.
func TestDatesOfTheViews(t *testing.T) {
	s := storetest.New(t)
	const at = "2021-03-12 15:47:17+00"
	for text, want := range map[string][2]any{ // date, time
		"1990-01-01": {"1990-01-01", nil}, "2024-02-29": {"2024-02-29", nil}, "9999-12-31": {"9999-12-31", nil}, "0001-01-01": {"0001-01-01", nil},
		"2023-02-29": {}, "1900-02-29": {}, "2023-04-31": {}, "0000-01-01": {}, "2023-00-01": {}, "2023-01-00": {}, "2023-13-01": {}, "2023-01-32": {},
		"today": {}, "infinity": {}, "01/02/03": {}, "1990-1-1": {}, " 1990-01-01": {}, "1990-01-01\n": {}, "": {}, "N/A": {},
		"2021-03-12T15:47:17Z": {nil, at}, "2021-03-12T17:47:17+02:00": {nil, at}, "2021-03-12T17:47:17+0200": {nil, at},
		"2021-03-12T15:46:77Z": {}, "2021-03-12T23:59:60.5Z": {}, "2021-03-12T23:59:60.0Z": {nil, "2021-03-13 00:00:00+00"}, "2021-03-12T15:46:60Z": {nil, "2021-03-12 15:47:00+00"}, "2021-03-12T15:47Z": {nil, "2021-03-12 15:47:00+00"},
		"2021-03-12T15:47:17.234567891Z": {nil, "2021-03-12 15:47:17.234568+00"}, "2021-03-12T15:47:17." + strings.Repeat("0", 300) + "Z": {},
		"2021-02-29T15:47:17Z": {}, "0000-01-01T00:00:00Z": {}, "0001-01-01T00:00:00+15:59": {nil, "0001-12-31 08:01:00+00 BC"}, "9999-12-31T23:59:60-15:59": {nil, "10000-01-01 15:59:00+00"},
		"2021-03-12T24:00:00Z": {}, "2021-03-12T15:60:00Z": {}, "2021-03-12T15:47:17+16:00": {}, "2021-03-12T15:47:17+01:60": {},
		"2021-03-12T15:47:17": {}, "2021-03-12 15:47:17Z": {}, "2021-03-12T15:47:17 UTC": {},
	} {
		got := storetest.Query(t, s, fmt.Sprintf(`SELECT callbackd.to_date_or_null(v)::text, callbackd.to_timestamptz_or_null(v)::text FROM to_jsonb($t$%s$t$::text) AS v`, text))
		if d := cmp.Diff([][]any{want[:]}, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
	}
	if got := storetest.Query(t, s, `SELECT count(*) FROM (VALUES ('null'::jsonb), ('5'), ('true'), ('{}'), ('[1]'), (NULL)) AS n (v)
		WHERE callbackd.to_date_or_null(v) IS NULL AND callbackd.to_timestamptz_or_null(v) IS NULL`)[0][0]; got != int64(6) {
		t.Errorf("%v of 6 odd types are NULL", got)
	}
}
