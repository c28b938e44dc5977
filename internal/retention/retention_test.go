package retention_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/config"
	"callbackd/internal/retention"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// start is when the partitions of the tests begin: until then there is only the first one.
var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// month returns a time in the middle of a month, counted from start's.
func month(n int) time.Time { return start.AddDate(0, n, 14) }

// newStore returns a database with partitions for each month from March 2030 to May 2031.
func newStore(t testing.TB) *storetest.Store {
	t.Helper()
	s := storetest.New(t)
	for _, now := range []time.Time{month(0), month(12)} {
		if err := s.EnsurePartitions(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func days(class string, n int) results.RetentionRule {
	return results.RetentionRule{Class: class, Days: n}
}

// all keeps everything for 90 days.
func all() (rules []results.RetentionRule) {
	for _, class := range config.RetentionClasses() {
		rules = append(rules, days(class, 90))
	}
	return rules
}

func newKeeper(t *testing.T, s *storetest.Store, log *zap.Logger, now time.Time, rules ...results.RetentionRule) (*retention.Keeper, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	return retention.New(retention.Options{
		DB: s.DB, Rules: rules, Classes: config.RetentionClasses(), Now: func() time.Time { return now }, Log: log, Registerer: reg,
	}), reg
}

// look has a worker that has just started look once.
func look(t *testing.T, s *storetest.Store, now time.Time, rules ...results.RetentionRule) {
	t.Helper()
	k, _ := newKeeper(t, s, zaptest.NewLogger(t), now, rules...)
	if err := k.Look(t.Context()); err != nil {
		t.Fatalf("look: %v", err)
	}
}

// seed stores count verifications of which all was done at a time: w0, w1 and so on, after
// prefix, each of an account of its own, with three images, of which one is a face.
func seed(t testing.TB, s *storetest.Store, prefix string, count int, at time.Time) {
	t.Helper()
	for _, sql := range []string{
		`INSERT INTO callbackd.workflow_executions (workflow_execution_id, account_id, definition_key, status, retrieval_state, retrieval_generation,
			callback_count, first_callback_at, last_callback_at, retrieved_at, details_retrieved_at, details_id, image_count, decision_type)
		SELECT $1 || n, 'a-' || $1 || n, '10', 'PROCESSED', 'retrieved', 1, 1, $2, $2, $2, $2, pg_temp.id_at($2, n), 3, 'PASSED' FROM generate_series(0, $3 - 1) AS n`,
		`INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body)
		SELECT pg_temp.id_at($2, n), $2, 'application/json', $1 || n, '{}' FROM generate_series(0, $3 - 1) AS n`,
		`DELETE FROM callbackd.inbox WHERE $1 <> '' AND $2::timestamptz IS NOT NULL AND $3 > 0`,
		`INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, reason, content_type, body, workflow_execution_id)
		SELECT pg_temp.id_at($2, n), $2, 'forbidden', 'application/json', '{}', $1 || n FROM generate_series(0, $3 - 1) AS n`,
		`INSERT INTO callbackd.events (event_id, occurred_at, type, workflow_execution_id)
		SELECT (extract(epoch FROM $2::timestamptz) * 1000000)::bigint + n, $2, 'retrieved', $1 || n FROM generate_series(0, $3 - 1) AS n`,
		`INSERT INTO callbackd.details (details_id, workflow_execution_id, generation, details, body)
		SELECT pg_temp.id_at($2, n), $1 || n, 1, '{}', '{}' FROM generate_series(0, $3 - 1) AS n`,
		`INSERT INTO callbackd.credentials (details_id, position, classifiers) SELECT pg_temp.id_at($2, n), 1, '{}' FROM generate_series(0, $3 - 1) AS n WHERE $1 <> ''`,
		`INSERT INTO callbackd.capabilities (details_id, capability, position, credential_ids, credential_categories)
		SELECT pg_temp.id_at($2, n), 'usability', 1, '{}', '{}' FROM generate_series(0, $3 - 1) AS n WHERE $1 <> ''`,
		`INSERT INTO callbackd.extracted_documents (details_id, workflow_execution_id, position, is_first, credential_ids, last_name)
		SELECT pg_temp.id_at($2, n), $1 || n, 1, true, '{}', 'Muster' FROM generate_series(0, $3 - 1) AS n`,
		`INSERT INTO callbackd.images (image_id, workflow_execution_id, credential_id, category, classifier, content_type, size_bytes, sha256, retrieved_at, generation, published, data)
		SELECT pg_temp.id_at($2, 3 * n + i), $1 || n, 'c', (ARRAY['ID', NULL, 'SELFIE'])[i + 1], 'P' || i, 'image/jpeg', 1, '\x00', $2, 1, true, '\x00'
		FROM generate_series(0, $3 - 1) AS n, generate_series(0, 2) AS i`,
	} {
		if err := s.InTx(t.Context(), "seed", func(tx *results.Tx) error {
			if _, err := tx.Exec(t.Context(), `CREATE OR REPLACE FUNCTION pg_temp.id_at(at timestamptz, n int) RETURNS uuid LANGUAGE sql AS
				$$ SELECT (left(jumio.id_at(at)::text, 14) || '7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$`); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), sql, prefix, at, count)
			return err
		}); err != nil {
			t.Fatalf("%v in %s", err, sql)
		}
	}
}

// left returns what is left, as rows of each table, and of the images by class.
func left(t *testing.T, s *storetest.Store) string {
	t.Helper()
	var list []string
	for _, count := range []string{
		"callbackd.callbacks", "callbackd.rejected_callbacks", "callbackd.events", "callbackd.details", "callbackd.credentials",
		"callbackd.capabilities", "callbackd.extracted_documents",
		"callbackd.images WHERE category IS DISTINCT FROM 'SELFIE'", "callbackd.images WHERE category = 'SELFIE'",
	} {
		list = append(list, fmt.Sprint(storetest.Scalar[int](t, s, "SELECT count(*) FROM "+count)))
	}
	return strings.Join(list, " ")
}

func wantLeft(t *testing.T, s *storetest.Store, step, want string) {
	t.Helper()
	if got := left(t, s); got != want {
		t.Errorf("%s: left are %s, want %s\n(callbacks, rejected, events, details, credentials, capabilities, documents, images, faces)", step, got, want)
	}
	wantCounts(t, s, step)
}

// wantCounts compares the views' numbers with what is there.
func wantCounts(t *testing.T, s *storetest.Store, step string) {
	t.Helper()
	if wrong := storetest.Query(t, s, `
		SELECT v.workflow_execution_id, v.image_count FROM jumio.verifications AS v
		WHERE v.image_count <> (SELECT count(*) FROM jumio.images AS i WHERE i.workflow_execution_id = v.workflow_execution_id)`); len(wrong) > 0 {
		t.Errorf("%s: image_count is wrong: %v", step, wrong)
	}
}

// partitions returns the names of a table's partitions, after the table's, in their order.
func partitions(t *testing.T, s *storetest.Store, table string) []string {
	t.Helper()
	return storetest.Scalar[[]string](t, s, `SELECT array_agg(substr(c.relname, length($1) + 2) ORDER BY c.relname COLLATE "C")
		FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = ('callbackd.' || $1)::regclass`, table)
}

// TestMonthsGo: months that are due go with their partitions, and the next one only when it
// is due, too. What was due in the first partition, which stays, is emptied.
func TestMonthsGo(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for m := range 6 { // in January, in the first partition, to June
		seed(t, s, fmt.Sprintf("m%d-", m), 20, month(m))
	}
	look(t, s, month(2), all()...) // of 90 days, nothing is due after 59
	wantLeft(t, s, "early", "120 120 120 120 120 120 120 240 120")

	logged, entries := observer.New(zap.InfoLevel)
	k, _ := newKeeper(t, s, zap.New(logged), month(6).AddDate(0, 0, 1), all()...) // April is due for a day
	if err := k.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, s, "July", "40 40 40 40 40 40 40 80 40")
	for _, table := range results.PartitionedTables() {
		got := partitions(t, s, table)
		if want := []string{"1", "203005", "203006"}; !slices.Equal(got[:3], want) || len(got) != 15 || got[14] != "later" {
			t.Errorf("partitions of %s: %v", table, got)
		}
	}
	var lines []string
	for _, e := range entries.FilterMessage("deleted what was kept for long enough").All() {
		f := e.ContextMap()
		if f["class"] == "biometrics" {
			lines = append(lines, fmt.Sprint(f["month"], " ", f["rows"], " ", f["whole_partition"]))
		}
	}
	if d := cmp.Diff([]string{"before 2030-03 40 true", "2030-03 20 true", "2030-04 20 true"}, lines); d != "" {
		t.Errorf("logged (-want +got):\n%s", d)
	}
	// Ids of the time that has gone still find a partition, and the rows of a workflow
	// execution stay.
	seed(t, s, "late-", 1, month(3))
	if got := storetest.Query(t, s, `SELECT stage, decision_type, last_name, image_count FROM jumio.verifications WHERE workflow_execution_id = 'm3-0'`); !cmp.Equal(got, [][]any{{"decided", "PASSED", nil, int32(0)}}) {
		t.Errorf("what is left of a verification: %v", got)
	}
}

// TestRules: each class has its own time, and a definition's rule goes before the class's.
func TestRules(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 20, month(3))
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET definition_key = '2' WHERE workflow_execution_id ~ 'w1.' RETURNING 1`)
	rules := []results.RetentionRule{
		{Class: "images", Months: 1}, {Class: "images", DefinitionKey: "2", Months: 2}, {Class: "biometrics", DefinitionKey: "10", Duration: 12 * time.Hour},
	}
	look(t, s, month(3).Add(12*time.Hour-time.Second), rules...)
	wantLeft(t, s, "nothing is due", "20 20 20 20 20 20 20 40 20")
	look(t, s, month(3).Add(12*time.Hour), rules...)
	wantLeft(t, s, "faces of a definition", "20 20 20 20 20 20 20 40 10")
	look(t, s, month(4), rules...)
	wantLeft(t, s, "images of others", "20 20 20 20 20 20 20 20 10")
	look(t, s, month(5).Add(-time.Second), rules...)
	look(t, s, month(5), append(rules, days("results", 1), days("rejected", 1))...)
	wantLeft(t, s, "the rest", "20 0 20 0 0 0 0 0 10")
}

// TestSpared: what is held, retrieved, of a lasting relationship, or needed stays, and goes
// when that has ended.
func TestSpared(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 10, month(3))
	now := month(10)
	for _, sql := range []string{
		`INSERT INTO callbackd.holds (workflow_execution_id, reason) VALUES ('w0', 'a court') RETURNING 1`,
		`SELECT jumio.end_relationship('a-w1', NULL)`,
		`SELECT jumio.end_relationship('a-w2', '2030-10-01')`, // 45 days ago
		`SELECT jumio.end_relationship('a-w3', '2030-05-01')`,
		`UPDATE callbackd.workflow_executions SET retrieval_state = 'pending', result_state = 'retrieved' WHERE workflow_execution_id = 'w4' RETURNING 1`,
		`UPDATE callbackd.workflow_executions SET lease_until = clock_timestamp() + interval '1 minute' WHERE workflow_execution_id = 'w5' RETURNING 1`,
		`INSERT INTO callbackd.inbox SELECT callback_id FROM callbackd.callbacks WHERE workflow_execution_id = 'w6' RETURNING 1`,
		`INSERT INTO callbackd.consumers SELECT 'c', max(event_id) - 2, now() FROM callbackd.events RETURNING 1`, // needs those of w8 and w9
	} {
		storetest.Query(t, s, sql)
	}
	look(t, s, now, all()...)
	wantLeft(t, s, "spared", "6 5 7 5 5 5 5 10 5")
	if got := partitions(t, s, "images"); !slices.Contains(got, "203004") {
		t.Errorf("a partition with spared rows is gone: %v", got)
	}
	for _, sql := range []string{
		`DELETE FROM callbackd.holds RETURNING 1`,
		`SELECT jumio.end_relationship('a-w1', '2030-05-01')`,
		`UPDATE callbackd.workflow_executions SET retrieval_state = 'retrieved', lease_until = NULL RETURNING 1`,
		`DELETE FROM callbackd.inbox RETURNING 1`,
		`UPDATE callbackd.consumers SET last_event_id = last_event_id + 2 RETURNING 1`,
	} {
		storetest.Query(t, s, sql)
	}
	look(t, s, now, all()...)
	wantLeft(t, s, "until 30 December", "1 1 1 1 1 1 1 2 1")
	look(t, s, time.Date(2030, 12, 30, 0, 0, 0, 0, time.UTC), all()...)
	wantLeft(t, s, "at last", "0 0 0 0 0 0 0 0 0")
}

// TestUnpublished: staged images go by their own time, and what was never retrieved has
// callbacks only.
func TestUnpublished(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 2, month(3))
	for _, sql := range []string{
		`UPDATE callbackd.images SET published = false, retrieved_at = '2030-04-20' WHERE workflow_execution_id = 'w0' RETURNING 1`,
		`UPDATE callbackd.workflow_executions SET retrieval_state = 'failed', retrieved_at = NULL, details_retrieved_at = NULL, image_count = 0 WHERE workflow_execution_id = 'w0' RETURNING 1`,
		`SELECT callbackd.remove_details(ARRAY(SELECT details_id FROM callbackd.details WHERE workflow_execution_id = 'w0'))`,
	} {
		storetest.Query(t, s, sql)
	}
	look(t, s, time.Date(2030, 4, 20, 0, 0, 0, 0, time.UTC).AddDate(0, 0, 90).Add(-time.Second), all()...)
	wantLeft(t, s, "before", "0 0 0 0 0 0 0 2 1")
	look(t, s, time.Date(2030, 4, 20, 0, 0, 0, 0, time.UTC).AddDate(0, 0, 90), days("images", 90), days("biometrics", 90))
	wantLeft(t, s, "after", "0 0 0 0 0 0 0 0 0")
}

// TestObjects: the keys of images outside the database are queued for deletion, with rows
// and with a partition.
func TestObjects(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 4, month(3))
	storetest.Query(t, s, `UPDATE callbackd.images SET stored_in = 's3', object_key = 'k/' || workflow_execution_id || classifier, data = NULL
		WHERE workflow_execution_id <> 'w3' RETURNING 1`)
	look(t, s, month(8), days("images", 30))
	queued := `SELECT array_agg(object_key ORDER BY object_key) FROM callbackd.object_deletions WHERE stored_in = 's3'`
	if got := storetest.Scalar[[]string](t, s, queued); !slices.Equal(got, []string{"k/w0P0", "k/w0P1", "k/w1P0", "k/w1P1", "k/w2P0", "k/w2P1"}) {
		t.Errorf("queued: %v", got)
	}
	look(t, s, month(8), days("images", 30), days("biometrics", 30))
	if got := storetest.Scalar[[]string](t, s, queued); len(got) != 9 {
		t.Errorf("queued: %v", got)
	}
	if slices.Contains(partitions(t, s, "images"), "203004") {
		t.Error("the partition is still there")
	}
	wantCounts(t, s, "dropped")
}

// TestGivesWay: a partition that somebody reads is not dropped, callbacks do not wait for
// long, the metric tells how far behind that is, and the other tables are looked through.
func TestGivesWay(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 5, month(3))
	held := errors.New("rolled back")
	err := s.InTx(t.Context(), "read", func(tx *results.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE callbackd.callbacks IN ACCESS SHARE MODE`); err != nil {
			return err
		}
		began := time.Now()
		k, reg := newKeeper(t, s, zaptest.NewLogger(t), month(10), all()...)
		if err := k.Look(t.Context()); err == nil {
			t.Error("a partition that is read has been dropped")
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s to give up", took)
		}
		wantLeft(t, s, "while it is read", "5 0 0 0 0 0 0 0 0")
		ctx, cancel := context.WithCancel(t.Context())
		k.Start(ctx)
		defer k.Stop()
		defer cancel()
		want := month(10).Sub(month(3).AddDate(0, 0, 90)).Seconds()
		for range 1000 {
			if got := gauge(t, reg, "callbacks"); got == want {
				return held
			}
			if err := sleepless(t, s); err != nil {
				return err
			}
		}
		t.Errorf("behind by %v, want %v", gauge(t, reg, "callbacks"), want)
		return held
	})
	if err == nil {
		t.Fatal(err)
	}
	look(t, s, month(10), all()...)
	wantLeft(t, s, "afterwards", "0 0 0 0 0 0 0 0 0")
}

// sleepless waits for an answer of the database.
func sleepless(t *testing.T, s *storetest.Store) error {
	t.Helper()
	_, err := s.Pool().Exec(t.Context(), `SELECT pg_sleep(0.01)`)
	return err
}

func gauge(t *testing.T, reg *prometheus.Registry, class string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "callbackd_retention_behind_seconds" && m.GetLabel()[0].GetValue() == class {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// TestMetric: every class has a value from the start, also without a rule.
func TestMetric(t *testing.T) {
	t.Parallel()
	_, reg := newKeeper(t, storetest.New(t), zap.NewNop(), start)
	if n, err := testutil.GatherAndCount(reg, "callbackd_retention_behind_seconds"); err != nil || n != 6 {
		t.Errorf("%d values, %v", n, err)
	}
}

// TestOneWorkerAtATime: the lease keeps a second worker away, is given back at the end, and
// a worker that has looked waits.
func TestOneWorkerAtATime(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 1, month(3))
	lease, err := s.ClaimRetention(t.Context(), 0)
	if err != nil || lease == nil {
		t.Fatal(lease, err)
	}
	k, _ := newKeeper(t, s, zaptest.NewLogger(t), month(10), all()...)
	if err := k.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, s, "by another worker", "1 1 1 1 1 1 1 2 1")
	// Its worker has died.
	storetest.Query(t, s, `UPDATE callbackd.retention SET lease_until = clock_timestamp() RETURNING 1`)
	if err := k.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, s, "taken over", "0 0 0 0 0 0 0 0 0")
	if err := s.RenewRetention(t.Context(), lease, nil); !errors.Is(err, results.ErrLeaseLost) {
		t.Errorf("the dead worker's lease: %v", err)
	}
	seed(t, s, "x", 1, month(3))
	if err := k.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, s, "too early", "1 1 1 1 1 1 1 2 1")
	storetest.Query(t, s, `UPDATE callbackd.retention SET looked_at = looked_at - interval '4 minutes' RETURNING 1`)
	if err := k.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, s, "four minutes later", "0 0 0 0 0 0 0 0 0")
}

// TestRetrievedAgain: what a refetch brings is new, and counts from then.
func TestRetrievedAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 2, month(3))
	look(t, s, month(10), all()...)
	l := storetest.Claim(t, s, "w0")
	storetest.Stage(t, s, l, "P0", "new")
	look(t, s, month(10), all()...) // beside the attempt
	o := storetest.Outcome(workflow.Retrieved, `{"workflow":{"id":"w0"}}`)
	o.Images = 1
	storetest.Finish(t, s, l, o)
	if got := storetest.Query(t, s, `SELECT stage, image_count FROM jumio.verifications WHERE workflow_execution_id = 'w0'`); !cmp.Equal(got, [][]any{{"decided", int32(1)}}) {
		t.Errorf("after a refetch: %v", got)
	}
	if err := s.Reproject(t.Context(), []string{"w0"}, time.Time{}, "", nil); err != nil {
		t.Errorf("reproject what there is: %v", err)
	}
	if err := s.Reproject(t.Context(), []string{"w1"}, time.Time{}, "", nil); err == nil {
		t.Error("details that are gone were read")
	}
}

// TestHoldInTheMiddle: what is held while a worker looks stays from then on, in a batch and
// in a partition that is about to be dropped.
func TestHoldInTheMiddle(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 2, month(3))
	r := results.Retention{Rules: all(), Now: month(10)}
	list, err := s.RetainedPartitions(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	due := map[*results.RetainedPartition][]string{}
	for _, p := range list {
		found, err := s.FindDue(t.Context(), r, p, results.Scan{})
		if err != nil {
			t.Fatal(err)
		}
		due[p] = found.IDs
	}
	storetest.Query(t, s, `INSERT INTO callbackd.holds (workflow_execution_id, reason) VALUES ('w0', 'a court') RETURNING 1`)
	for _, p := range list {
		if dropped, err := s.DropDue(t.Context(), r, p, func() error { return nil }); err != nil || dropped != nil && len(due[p]) > 0 {
			t.Errorf("%s: dropped %v, %v", p.Name, dropped, err)
		}
		if len(due[p]) == 0 {
			continue
		}
		if _, err := s.TakeDue(t.Context(), r, p, due[p]); err != nil {
			t.Error(err)
		}
	}
	wantLeft(t, s, "held", "1 1 1 1 1 1 1 2 1")
}

// TestRetrievalInTheMiddle: a retrieval that ends between the look at a partition and its
// drop keeps it.
func TestRetrievalInTheMiddle(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 2, month(3))
	r := results.Retention{Rules: []results.RetentionRule{days("images", 30), days("biometrics", 30)}, Now: month(10)}
	list, err := s.RetainedPartitions(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(p *results.RetainedPartition) bool { return p.Month() == "2030-04" })
	dropped, err := s.DropDue(t.Context(), r, list[i], func() error { // after its preparation
		storetest.SeedDetails(t, s, "w0", `{"workflow":{"id":"w0"}}`)
		// Its clock is the database's, long before the test's.
		storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET retrieved_at = '2030-11-01' WHERE workflow_execution_id = 'w0' RETURNING 1`)
		return nil
	})
	if err != nil || dropped != nil {
		t.Errorf("dropped %v, %v", dropped, err)
	}
	if n, err := s.TakeDue(t.Context(), r, list[i], storetest.Scalar[[]string](t, s, `SELECT array_agg(image_id::text) FROM callbackd.images`)); err != nil || n["images"] != 2 || n["biometrics"] != 1 {
		t.Errorf("taken %v, %v", n, err)
	}
	wantCounts(t, s, "taken")
	look(t, s, month(10), r.Rules...) // stores the number that was taken back
	wantCounts(t, s, "counted")
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM callbackd.workflow_executions WHERE image_count IS NULL`); n != 0 {
		t.Errorf("%d numbers of images are not stored", n)
	}
}

// TestCutShort: whenever a look is cut short, nothing lies, and the next one ends it.
func TestCutShort(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 30, month(3))
	seed(t, s, "x", 30, month(4))
	storetest.Query(t, s, `INSERT INTO callbackd.holds (workflow_execution_id, reason) VALUES ('x3', 'a court') RETURNING 1`)
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		k, _ := newKeeper(t, s, zap.NewNop(), month(10), all()...)
		var cutting sync.WaitGroup
		cutting.Go(func() {
			_, _ = s.Pool().Exec(ctx, `SELECT pg_sleep($1)`, float64(n)*0.02)
			cancel()
		})
		err := k.Look(ctx)
		cancel()
		cutting.Wait()
		wantCounts(t, s, fmt.Sprintf("cut short after %d", n))
		storetest.Query(t, s, `UPDATE callbackd.retention SET lease_until = NULL RETURNING 1`)
		if err == nil {
			break
		}
	}
	wantLeft(t, s, "at last", "1 1 1 1 1 1 1 2 1")
}

// TestPlan: the plan counts what a look takes, and says when.
func TestPlan(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed(t, s, "w", 4, month(3))
	seed(t, s, "x", 2, time.Date(2030, 8, 31, 22, 0, 0, 0, time.UTC))
	storetest.Query(t, s, `INSERT INTO callbackd.holds (workflow_execution_id, reason) VALUES ('w0', 'a court') RETURNING 1`)
	storetest.Query(t, s, `SELECT jumio.end_relationship('a-w1', NULL)`)
	storetest.Query(t, s, `SELECT jumio.end_relationship('a-w2', '2030-06-30T12:00:00Z')`)
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET definition_key = '2' WHERE workflow_execution_id = 'x1' RETURNING 1`)
	plan, err := s.PlanRetention(t.Context(), results.Retention{Now: month(9), Rules: []results.RetentionRule{
		{Class: "images", Months: 6}, {Class: "images", DefinitionKey: "2", Days: 1}, {Class: "results", DefinitionKey: "10", Months: 12},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range plan {
		got = append(got, fmt.Sprint(p.Class, " ", *p.DefinitionKey, " ", p.Month, " ", p.Rows, " ", p.DueFrom.Format(time.RFC3339), " ", p.DueUntil.Format(time.RFC3339)))
	}
	want := []string{
		"images 10 2030-04 2 2030-10-15T00:00:00Z 2030-10-15T00:00:00Z",
		"images 10 2030-06 2 2030-12-30T12:00:00Z 2030-12-30T12:00:00Z",
		"images 10 2030-08 2 2031-02-28T22:00:00Z 2031-02-28T22:00:00Z",
		"images 2 2030-08 2 2030-09-01T22:00:00Z 2030-09-01T22:00:00Z",
		"results 10 2030-04 1 2031-04-15T00:00:00Z 2031-04-15T00:00:00Z",
		"results 10 2030-06 1 2031-06-30T12:00:00Z 2031-06-30T12:00:00Z",
		"results 10 2030-08 1 2031-08-31T22:00:00Z 2031-08-31T22:00:00Z",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("plan (-want +got):\n%s", d)
	}
	wantLeft(t, s, "planned", "6 6 6 6 6 6 6 12 6")
}
