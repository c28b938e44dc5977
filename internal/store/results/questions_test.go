package results_test

import (
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"callbackd/bench/questions"
	"callbackd/internal/store/storetest"
)

// TestQuestions: the documented questions find something as jumio_reader, and no plan reads
// a table that grows from one end to the other, however cheap that is made.
func TestQuestions(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	owner, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	// On fewer rows, reading all of a table is what costs least.
	now := time.Date(2026, time.November, 15, 0, 0, 0, 0, time.UTC) // so that plans do not depend on the day of the month
	population := questions.Population{Executions: 40_000, Months: 3, Now: now}
	if err := population.MakePartitions(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if err := population.Load(t.Context(), owner, 1, population.Executions); err != nil {
		t.Fatal(err)
	}
	keys, err := population.Keys(t.Context(), owner, 20, 1)
	if err != nil {
		t.Fatal(err)
	}

	text, err := os.ReadFile("../../../docs/questions.sql")
	if err != nil {
		t.Fatal(err)
	}
	list, err := questions.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys[0].Check(list); err != nil {
		t.Fatal(err)
	}
	reader, err := pgx.Connect(t.Context(), storetest.AsMember(t, dsn, "jumio_reader"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close(t.Context())
	const makeReadingAllCheap = `
		SELECT set_config('jit', 'off', false), set_config('enable_seqscan', 'on', false);
		SELECT set_config(name, '0', false) FROM pg_settings
		WHERE name IN ('parallel_setup_cost', 'parallel_tuple_cost', 'min_parallel_table_scan_size', 'min_parallel_index_scan_size')`
	if _, err := reader.Exec(t.Context(), makeReadingAllCheap); err != nil {
		t.Fatal(err)
	}
	// Autovacuum analyses partitions, but not the tables that they are of.
	for _, analyse := range []string{questions.AnalysePartitions, "ANALYZE"} {
		if _, err := owner.Exec(t.Context(), analyse); err != nil {
			t.Fatal(err)
		}
		growing, err := questions.Growing(t.Context(), reader)
		if err != nil || len(growing) < 9 {
			t.Fatalf("growing tables: %v, %v", growing, err)
		}
		for _, q := range list {
			ask(t, reader, q, keys, growing)
		}
	}
}

// ask fails the test unless a question finds something, by plans without a scan of a
// growing table.
func ask(t *testing.T, reader *pgx.Conn, q questions.Question, keys []questions.Keys, growing []string) {
	t.Helper()
	found := false
	for _, k := range keys {
		args, ok := k.Args(q)
		if !ok {
			continue
		}
		if !checkPlan(t, reader, q, args, growing, false) {
			return
		}
		if found {
			continue
		}
		if !checkPlan(t, reader, q, args, growing, true) { // the same for all keys
			return
		}
		tag, err := reader.Exec(t.Context(), q.SQL, args...)
		if err != nil {
			t.Errorf("%s: %v", q.Name, err)
		}
		found = tag.RowsAffected() > 0
	}
	if !found {
		t.Errorf("%s: nothing was found", q.Name)
	}
}

func checkPlan(t *testing.T, reader *pgx.Conn, q questions.Question, args []any, growing []string, generic bool) (ok bool) {
	t.Helper()
	plan, err := questions.Explain(t.Context(), reader, q, args, generic)
	if err == nil {
		err = plan.Check(growing)
	}
	if err != nil {
		t.Errorf("%s (generic plan: %v): %v", q.Name, generic, err)
	}
	return err == nil
}
