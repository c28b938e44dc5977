package results_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"callbackd/internal/callback"
	"callbackd/internal/details"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// refetch begins a retrieval that returns to the earlier result if it gets nothing, and
// takes its lease.
func refetch(t *testing.T, s *storetest.Store, id string) *results.Lease {
	t.Helper()
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET result_state = retrieval_state
		WHERE workflow_execution_id = $1 AND retrieval_state IN ('retrieved', 'partial')`, id)
	return storetest.Claim(t, s, id)
}

// again claims the next attempt of a retrieval.
func again(t *testing.T, s *storetest.Store, l *results.Lease) *results.Claim {
	t.Helper()
	l.Token = uuid.New()
	c, err := s.ClaimRetrieval(t.Context(), l, time.Minute)
	if err != nil {
		t.Fatalf("claim again: %v", err)
	}
	return c
}

// ended is the outcome of an attempt that ends a retrieval in state.
func ended(state workflow.RetrievalState, details string) results.Outcome {
	o := storetest.Outcome(state, details)
	if state != workflow.Pending {
		o.Event = workflow.EventRetrieved
	}
	return o
}

// newEvents returns the events since the last call, each as its type, state, decision and
// whether anything changed.
func newEvents(t *testing.T, s *storetest.Store, last *int64) []string {
	t.Helper()
	list := []string{}
	for _, row := range storetest.Query(t, s, `SELECT event_id, concat_ws(' ', type, retrieval_state, coalesce(decision_type, '-'), changed::text)
		FROM jumio.events WHERE event_id > $1 ORDER BY event_id`, *last) {
		*last = row[0].(int64)
		list = append(list, row[1].(string))
	}
	return list
}

func wantRows(t *testing.T, s *storetest.Store, step, sql string, want ...[]any) {
	t.Helper()
	if want == nil {
		want = [][]any{}
	}
	got := storetest.Query(t, s, sql)
	if len(got) == 0 {
		got = [][]any{}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: %s (-want +got):\n%s", step, sql, d)
	}
}

const (
	firstDetails = `{"workflow":{"customerInternalReference":"order-1","userReference":"jane","definitionKey":"10013"},"account":{"id":"acc-1"},
		"createdAt":"2021-03-12T15:47:17Z","decision":{"type":"REJECTED","details":{"label":"FRAUD"},"risk":{"score":72.50}},
		"credentials":[{"id":"c1","category":"ID","parts":[{"classifier":"FRONT"},{"classifier":"BACK"}]},{"id":"c2","category":"SELFIE"}],
		"capabilities":{"usability":[{"id":"u1","credentials":[{"id":"c1","category":"ID"}],"decision":{"type":"REJECTED","details":{"label":"BAD_QUALITY"}}}],
			"extraction":[{"credentials":[{"id":"c1"}],"data":{"type":"ID_CARD","firstName":"JANE","dateOfBirth":"1990-01-01","documentNumber":"A1","dlCategories":["A","B \"x\""]}},
				{"data":{"documentNumber":"A2"}}],
			"similarity":[{"data":{"similarity":"NO_MATCH"},"decision":{"type":"NOT_EXECUTED"}}]}}`
	secondDetails = `{"workflow":{"userReference":"jane"},"account":{"id":"acc-1"},
		"capabilities":{"liveness":[{"data":{"type":"JUMIO_STANDARD"},"decision":{"type":"PASSED","details":{"label":"OK"}},"validFaceMapForAuthentication":"https://x/y"}],
			"extraction":[{"data":{"documentNumber":"B1"}}]}}`
	verification = `SELECT stage, decision_type, decision_source, decision_label, risk_score::text, reason_capability, reason_label, document_type, first_name,
		document_number, customer_internal_reference, created_at::date::text, image_count FROM jumio.verifications`
)

func TestTypedTablesFollowTheDetails(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	check := func(step string, rows map[string][][]any) {
		t.Helper()
		for sql, want := range rows {
			wantRows(t, s, step, sql, want...)
		}
	}
	const (
		capabilities = `SELECT capability, position, capability_id, decision_type, array_to_string(credential_ids, ','), array_to_string(credential_categories, ','),
			similarity, liveness_type, valid_face_map_for_authentication, data IS NOT NULL FROM jumio.capabilities ORDER BY 1, 2`
		documents   = `SELECT position, document_number, date_of_birth::text, array_to_string(credential_ids, ','), array_to_string(dl_categories, '|') FROM jumio.extracted_documents ORDER BY 1`
		credentials = `SELECT position, credential_id, category, array_to_string(classifiers, ',') FROM jumio.credentials ORDER BY 1`
		// How many rows of details, how many of the typed tables are of the current ones.
		current = `SELECT (SELECT count(*) FROM callbackd.details), count(d), (SELECT count(*) FROM callbackd.credentials) + (SELECT count(*) FROM callbackd.capabilities)
			+ (SELECT count(*) FROM callbackd.extracted_documents),
			(SELECT count(*) FROM callbackd.credentials AS t WHERE t.details_id = w.details_id) + (SELECT count(*) FROM callbackd.capabilities AS t WHERE t.details_id = w.details_id)
			+ (SELECT count(*) FROM callbackd.extracted_documents AS t WHERE t.details_id = w.details_id)
			FROM callbackd.workflow_executions AS w LEFT JOIN callbackd.details AS d USING (details_id) GROUP BY w.details_id`
	)
	first := map[string][][]any{
		verification: {{"decided", "REJECTED", "jumio", "FRAUD", "72.50", "usability", "BAD_QUALITY", "ID_CARD", "JANE", "A1", "order-1", "2021-03-12", int32(1)}},
		capabilities: {
			{"extraction", int32(1), nil, nil, "c1", "", nil, nil, nil, true},
			{"extraction", int32(2), nil, nil, "", "", nil, nil, nil, true},
			{"similarity", int32(1), nil, "NOT_EXECUTED", "", "", "NO_MATCH", nil, nil, true},
			{"usability", int32(1), "u1", "REJECTED", "c1", "ID", nil, nil, nil, true},
		},
		documents:   {{int32(1), "A1", "1990-01-01", "c1", `A|B "x"`}, {int32(2), "A2", nil, "", nil}},
		credentials: {{int32(1), "c1", "ID", "FRONT,BACK"}, {int32(2), "c2", "SELFIE", ""}},
		current:     {{int64(1), int64(1), int64(8), int64(8)}},
	}
	var last int64
	events := func(step string, want ...string) {
		t.Helper()
		if d := cmp.Diff(want, newEvents(t, s, &last)); d != "" {
			t.Errorf("%s: events (-want +got):\n%s", step, d)
		}
	}

	// The details are there, an image is missing.
	l := storetest.Claim(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "front")
	storetest.Finish(t, s, l, ended(workflow.Pending, firstDetails))
	check("details only", first)
	events("details only", "details_retrieved pending REJECTED true")
	if c := again(t, s, l); string(c.Details) != firstDetails || c.DecisionType != "REJECTED" {
		t.Errorf("the next attempt is told %q, %q", c.Details, c.DecisionType)
	}
	o := ended(workflow.Partial, "")
	o.Identity = storetest.Reading(firstDetails).Identity()
	storetest.Finish(t, s, l, o)
	check("partial", first)
	events("partial", "retrieved partial REJECTED true")
	id := storetest.Scalar[uuid.UUID](t, s, `SELECT details_id FROM callbackd.workflow_executions`)

	l = refetch(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "front")
	storetest.Stage(t, s, l, "BACK", "back")
	storetest.Finish(t, s, l, ended(workflow.Retrieved, secondDetails))
	check("other details", map[string][][]any{
		verification: {{"decided", "PASSED", "capabilities", nil, nil, nil, nil, nil, nil, "B1", nil, nil, int32(2)}},
		capabilities: {
			{"extraction", int32(1), nil, nil, "", "", nil, nil, nil, true},
			{"liveness", int32(1), nil, "PASSED", "", "", nil, "JUMIO_STANDARD", "https://x/y", true},
		},
		documents:   {{int32(1), "B1", nil, "", nil}},
		credentials: nil,
		current:     {{int64(1), int64(1), int64(3), int64(3)}},
	})
	events("other details", "details_retrieved retrieved PASSED true", "retrieved retrieved PASSED true")
	if other := storetest.Scalar[uuid.UUID](t, s, `SELECT details_id FROM callbackd.workflow_executions`); other == id {
		t.Error("the other details have the same id")
	}

	// A retrieval that gets nothing takes nothing away.
	l = refetch(t, s, "w")
	o = failed()
	o.State = workflow.Retrieved
	storetest.Finish(t, s, l, o)
	events("failed", "retrieval_failed retrieved PASSED")
	check("failed", map[string][][]any{current: {{int64(1), int64(1), int64(3), int64(3)}}, documents: {{int32(1), "B1", nil, "", nil}}})
}

// The event is there with the details and what was read, or nothing is.
func TestDetailsEventIsInTheTransaction(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	err := s.FinishAttempt(t.Context(), l, ended(workflow.Retrieved, firstDetails), func(tx *results.Tx) error {
		var n int
		if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM callbackd.extracted_documents`).Scan(&n); err != nil || n != 2 {
			t.Errorf("%d documents in the transaction, %v", n, err)
		}
		return errors.New("no completion")
	})
	if err == nil {
		t.Error("no error without completion")
	}
	wantRows(t, s, "rolled back", `SELECT (SELECT count(*) FROM callbackd.details) + (SELECT count(*) FROM callbackd.capabilities) + (SELECT count(*) FROM callbackd.events)`, []any{int64(0)})
}

// A consumer need not look again at what a retrieval has not changed.
func TestChanged(t *testing.T) {
	t.Parallel()
	const body = `{"a":1,"b":{"c":[1,2],"d":null},"account":{"id":"acc"}}`
	const reordered = ` { "account" : {"id":"acc"}, "b":{"d":null, "c":[ 1,2]},"a":1 }`
	other := func(s string) string { return strings.Replace(s, "[1,2]", "[2,1]", 1) }
	for name, tc := range map[string]struct {
		refetch func(*testing.T, *storetest.Store, *results.Lease)
		want    []string
	}{
		"nothing": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Stage(t, s, l, "FRONT", "front")
			storetest.Finish(t, s, l, ended(workflow.Retrieved, body))
		}, []string{"details_retrieved retrieved - false", "retrieved retrieved - false"}},
		"nothing but the order of members": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Stage(t, s, l, "FRONT", "front")
			storetest.Finish(t, s, l, ended(workflow.Retrieved, reordered))
		}, []string{"details_retrieved retrieved - false", "retrieved retrieved - false"}},
		"the details": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Stage(t, s, l, "FRONT", "front")
			storetest.Finish(t, s, l, ended(workflow.Retrieved, other(body)))
		}, []string{"details_retrieved retrieved - true", "retrieved retrieved - true"}},
		"an image": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Stage(t, s, l, "FRONT", "another")
			storetest.Finish(t, s, l, ended(workflow.Retrieved, body))
		}, []string{"details_retrieved retrieved - false", "retrieved retrieved - true"}},
		"one more image": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Stage(t, s, l, "BACK", "back")
			storetest.Finish(t, s, l, ended(workflow.Retrieved, body))
		}, []string{"details_retrieved retrieved - false", "retrieved retrieved - true"}},
		"the state": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Finish(t, s, l, ended(workflow.Partial, body))
		}, []string{"details_retrieved partial - false", "retrieved partial - true"}},
		"nothing, in two attempts": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Finish(t, s, l, ended(workflow.Pending, body))
			again(t, s, l)
			storetest.Stage(t, s, l, "FRONT", "front")
			storetest.Finish(t, s, l, ended(workflow.Retrieved, ""))
		}, []string{"details_retrieved pending - false", "retrieved retrieved - false"}},
		"the details, in an earlier attempt": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Finish(t, s, l, ended(workflow.Pending, other(body)))
			again(t, s, l)
			storetest.Finish(t, s, l, ended(workflow.Pending, ""))
			again(t, s, l)
			storetest.Finish(t, s, l, ended(workflow.Retrieved, ""))
		}, []string{"details_retrieved pending - true", "retrieved retrieved - true"}},
		"an image, in an earlier attempt": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Stage(t, s, l, "FRONT", "another")
			storetest.Finish(t, s, l, ended(workflow.Pending, body))
			again(t, s, l)
			storetest.Finish(t, s, l, ended(workflow.Retrieved, ""))
		}, []string{"details_retrieved pending - false", "retrieved retrieved - true"}},
		"the details, in a run that was released": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			r := storetest.Reading(other(body))
			if err := s.ReleaseRetrieval(t.Context(), l, r, r.Identity()); err != nil {
				t.Fatal(err)
			}
			if c := again(t, s, l); c.RetrievalAttempts != 1 || string(c.Details) != other(body) {
				t.Errorf("the next run is attempt %d, with the details %s", c.RetrievalAttempts, c.Details)
			}
			storetest.Finish(t, s, l, ended(workflow.Retrieved, ""))
		}, []string{"details_retrieved pending - true", "retrieved retrieved - true"}},
		"nothing, in a run that was released": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			r := storetest.Reading(reordered)
			if err := s.ReleaseRetrieval(t.Context(), l, r, r.Identity()); err != nil {
				t.Fatal(err)
			}
			again(t, s, l)
			storetest.Finish(t, s, l, ended(workflow.Retrieved, ""))
		}, []string{"details_retrieved pending - false", "retrieved retrieved - false"}},
		"something, in an earlier refetch": {func(t *testing.T, s *storetest.Store, l *results.Lease) {
			storetest.Finish(t, s, l, ended(workflow.Pending, other(body)))
			l = refetch(t, s, "w")
			storetest.Finish(t, s, l, ended(workflow.Retrieved, other(body)))
		}, []string{"details_retrieved pending - true", "details_retrieved retrieved - false", "retrieved retrieved - false"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.New(t)
			l := storetest.Claim(t, s, "w")
			storetest.Stage(t, s, l, "FRONT", "front")
			storetest.Finish(t, s, l, ended(workflow.Retrieved, body))
			var last int64
			if d := cmp.Diff([]string{"details_retrieved retrieved - true", "retrieved retrieved - true"}, newEvents(t, s, &last)); d != "" {
				t.Errorf("first (-want +got):\n%s", d)
			}
			tc.refetch(t, s, refetch(t, s, "w"))
			if d := cmp.Diff(tc.want, newEvents(t, s, &last)); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
		})
	}
}

func TestUnsignedReference(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	signed, err := callback.SignUserReference("key", "jane")
	if err != nil {
		t.Fatal(err)
	}
	for id, reference := range map[string]string{"signed": signed, "unsigned": "joe", "forged": signed + "x"} {
		body := `{"workflow":{"userReference":"` + reference + `"}}`
		o := storetest.Outcome(workflow.Retrieved, "")
		o.Read = results.NewReading([]byte(body), details.Parse([]byte(body)), "key")
		o.Identity = o.Read.Identity()
		storetest.Finish(t, s, storetest.Claim(t, s, id), o)
	}
	want := [][]any{{"forged", signed + "x", signed + "x"}, {"signed", signed, "jane"}, {"unsigned", "joe", "joe"}}
	const sql = `SELECT workflow_execution_id, user_reference, user_reference_unsigned FROM jumio.verifications ORDER BY 1`
	wantRows(t, s, "retrieved", sql, want...)
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET user_reference_unsigned = NULL`)
	if err := s.FillReferences(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	wantRows(t, s, "filled", sql, want...)
}

// Two runs stage the same part, one in the last moment of a month.
func TestPartStagedInTwoPartitions(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	now := time.Now()
	ensure(t, s, now)
	l := storetest.Claim(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "first")
	storetest.Stage(t, s, l, "BACK", "back")
	storetest.Query(t, s, `UPDATE callbackd.images SET image_id = $1 WHERE classifier = 'FRONT'`, idAt(monthOf(now, 3).Add(-time.Millisecond), 1))
	storetest.Stage(t, s, l, "FRONT", "second")
	storetest.Query(t, s, `UPDATE callbackd.images SET image_id = $1 WHERE classifier = 'FRONT' AND data = 'second'`, idAt(monthOf(now, 3), 1))
	o := ended(workflow.Retrieved, firstDetails)
	o.Images = 2
	storetest.Finish(t, s, l, o)
	wantRows(t, s, "published", `SELECT classifier, convert_from(data, 'UTF8') FROM jumio.images ORDER BY 1`, []any{"BACK", "back"}, []any{"FRONT", "first"})
	wantRows(t, s, "stored", `SELECT count(*), (SELECT image_count FROM jumio.verifications) FROM callbackd.images`, []any{int64(2), int32(2)})

	// The same beside what is published.
	l = refetch(t, s, "w")
	for i, content := range []string{"third", "fourth"} {
		storetest.Stage(t, s, l, "FRONT", content)
		storetest.Query(t, s, `UPDATE callbackd.images SET image_id = $1 WHERE NOT published AND data = $2`, idAt(monthOf(now, 3+i), 9), []byte(content))
	}
	storetest.Finish(t, s, l, ended(workflow.Retrieved, firstDetails))
	wantRows(t, s, "published again", `SELECT classifier, convert_from(data, 'UTF8') IN ('third', 'fourth'), sha256 = sha256(data) FROM jumio.images ORDER BY 1`,
		[]any{"BACK", false, true}, []any{"FRONT", true, true})
	wantRows(t, s, "stored again", `SELECT count(*), (SELECT image_count FROM jumio.verifications) FROM callbackd.images`, []any{int64(2), int32(2)})
}

// everything counts the rows that there are of workflow executions in each table of results.
const everything = `SELECT (SELECT count(*) FROM callbackd.details), (SELECT count(*) FROM callbackd.workflow_details), (SELECT count(*) FROM callbackd.credentials),
	(SELECT count(*) FROM callbackd.capabilities), (SELECT count(*) FROM callbackd.extracted_documents), (SELECT count(*) FROM callbackd.images)`

func TestDeletedWorkflowExecutionLeavesNothing(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	for _, id := range []string{"w1", "w2", "w3"} {
		l := storetest.Claim(t, s, id)
		storetest.Stage(t, s, l, "FRONT", "front")
		storetest.Finish(t, s, l, ended(workflow.Retrieved, firstDetails))
		l = refetch(t, s, id)
		storetest.Stage(t, s, l, "BACK", "staged")
	}
	storetest.Query(t, s, previousDetails, "w3", 9, `{}`, []byte(`{}`))
	wantRows(t, s, "stored", everything, []any{int64(2), int64(1), int64(4), int64(8), int64(4), int64(6)})
	storetest.Query(t, s, `DELETE FROM callbackd.workflow_executions WHERE workflow_execution_id <> 'w2'`)
	wantRows(t, s, "two deleted", everything, []any{int64(1), int64(0), int64(2), int64(4), int64(2), int64(2)})
	storetest.Query(t, s, `DELETE FROM callbackd.workflow_executions`)
	wantRows(t, s, "all deleted", everything, []any{int64(0), int64(0), int64(0), int64(0), int64(0), int64(0)})
}

func TestReproject(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	const n = 450 // several batches
	for i := range n {
		storetest.SeedDetails(t, s, fmt.Sprintf("w-%03d", i), firstDetails)
	}
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET details_retrieved_at = '2020-01-01T00:00:00Z' WHERE workflow_execution_id < 'w-300'`)
	tables := []string{"details", "credentials", "capabilities", "extracted_documents", "workflow_executions", "events", "images"}
	state := func() map[string]string {
		m := map[string]string{}
		for _, table := range tables {
			m[table] = storetest.Scalar[string](t, s, `SELECT count(*) || ' ' || coalesce(md5(string_agg(r::text, E'\n' ORDER BY r::text)), '') FROM callbackd.`+table+` AS r`)
		}
		return m
	}
	want := state()
	damage := func() {
		t.Helper()
		storetest.Query(t, s, `DELETE FROM callbackd.extracted_documents`)
		storetest.Query(t, s, `DELETE FROM callbackd.credentials WHERE position = 1`)
		storetest.Query(t, s, `UPDATE callbackd.capabilities SET decision_type = 'WRONG'`)
		storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET decision_type = NULL, created_at = NULL, risk_score = 1`)
	}
	repaired := func() int64 {
		t.Helper()
		return storetest.Scalar[int64](t, s, `SELECT count(*) FROM jumio.verifications WHERE decision_type = 'REJECTED' AND document_number = 'A1'`)
	}
	run := func(ctx context.Context, ids []string, since time.Time, report func(results.Progress)) (last results.Progress, err error) {
		err = s.Reproject(ctx, ids, since, "", func(p results.Progress) {
			last = p
			if report != nil {
				report(p)
			}
		})
		return last, err
	}
	wantRun := func(step string, ids []string, since time.Time, total int64) {
		t.Helper()
		last, err := run(t.Context(), ids, since, nil)
		if err != nil || last.Total != total || last.Done != total || last.Failed != 0 {
			t.Errorf("%s: %+v, %v, want %d", step, last, err, total)
		}
	}

	wantRun("nothing to repair", nil, time.Unix(0, 0), n)
	if d := cmp.Diff(want, state()); d != "" {
		t.Errorf("nothing to repair (-want +got):\n%s", d)
	}
	damage()
	wantRun("ids, one of them twice", []string{"w-400", "w-001", "w-400"}, time.Unix(0, 0), 2)
	if got := repaired(); got != 2 {
		t.Errorf("%d are repaired, want 2", got)
	}
	if _, err := run(t.Context(), []string{"w-002", "unknown"}, time.Unix(0, 0), nil); !errors.Is(err, store.ErrNotFound) || strings.Contains(err.Error(), "unknown") {
		t.Errorf("an unknown id: %v, want ErrNotFound", err)
	}
	if got := repaired(); got != 2 {
		t.Errorf("%d are repaired, want 2", got)
	}
	wantRun("since", nil, time.Date(2020, 1, 1, 0, 0, 1, 0, time.UTC), 150)
	if got := repaired(); got != 151 {
		t.Errorf("%d are repaired, want 151", got)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	last, err := run(ctx, nil, time.Unix(0, 0), func(results.Progress) { interrupt() })
	if !errors.Is(err, context.Canceled) || last.Done == 0 || last.Done == n {
		t.Errorf("interrupted: %+v, %v", last, err)
	}
	if got := repaired(); got <= 151 || got >= n {
		t.Errorf("%d are repaired after an interruption", got)
	}
	for range 2 {
		wantRun("all", nil, time.Unix(0, 0), n)
		if d := cmp.Diff(want, state()); d != "" {
			t.Errorf("all (-want +got):\n%s", d)
		}
	}
	for _, table := range []string{"credentials", "capabilities", "extracted_documents"} {
		storetest.Query(t, s, `TRUNCATE callbackd.`+table)
		wantRun(table, nil, time.Unix(0, 0), n)
		if d := cmp.Diff(want, state()); d != "" {
			t.Errorf("%s was emptied (-want +got):\n%s", table, d)
		}
	}
}

// Whatever the details say, they are stored, and so are the typed tables.
func TestHostileDetailsNeverFail(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("9", 100<<10)
	list := func(n int, element string) string { return strings.TrimSuffix(strings.Repeat(element+",", n), ",") }
	odd := `\u0000\ud800\udc00\udfff\ud83d"` // in every text
	named := make([]string, 10_000)
	for i := range named {
		named[i] = fmt.Sprintf(`"c%d":[{"decision":{"type":"PASSED"}}]`, i)
	}
	for name, body := range map[string]string{
		"odd characters": `{"workflow":{"userReference":"` + odd + `,"customerInternalReference":"` + odd + `,"definitionKey":"` + odd + `},"account":{"id":"` + odd + `},
			"decision":{"type":"` + odd + `,"details":{"label":"` + odd + `}},"credentials":[{"id":"` + odd + `,"category":"` + odd + `,"parts":[{"classifier":"` + odd + `}]}],
			"capabilities":{"` + odd + `:[{"id":"` + odd + `,"credentials":[{"id":"` + odd + `,"category":"` + odd + `}],"decision":{"type":"` + odd + `}}],
			"extraction":[{"data":{"firstName":"` + odd + `,"documentNumber":"` + odd + `,"dlCategories":["` + odd + `,"{","\\","\"","NULL",""],"address":{"line1":"` + odd + `}}}]}}`,
		"invalid UTF-8":       "{\"workflow\":{\"userReference\":\"\xff\"},\"capabilities\":{\"\xfe\":[{}],\"extraction\":[{\"data\":{\"lastName\":\"\xc3\"}}]}}",
		"10,000 results":      `{"capabilities":{"usability":[` + list(10_000, `{"credentials":[{"id":"c"}],"decision":{"type":"PASSED"}}`) + `]}}`,
		"10,000 capabilities": `{"capabilities":{` + strings.Join(named, ",") + `}}`,
		"10,000 documents":    `{"capabilities":{"extraction":[` + list(10_000, `{"data":{"documentNumber":"1"}}`) + `]}}`,
		"10,000 credentials":  `{"credentials":[` + list(10_000, `{"id":"c","parts":[{"classifier":"FRONT"}]}`) + `]}`,
		"10,000 ids":          `{"capabilities":{"usability":{"credentials":[` + list(10_000, `{"id":"c"}`) + `]}}}`,
		"long texts": `{"workflow":{"userReference":"` + long + `","customerInternalReference":"` + long + `","definitionKey":"` + long + `"},"account":{"id":"` + long + `"},
			"decision":{"type":"` + long + `","details":{"label":"` + long + `"},"risk":{"score":` + long + `}},"createdAt":"` + long + `",
			"capabilities":{"` + long + `":[{}],"usability":[{"id":"` + long + `","decision":{"type":"` + long + `"},"validFaceMapForAuthentication":"` + long + `"}],
			"extraction":[{"data":{"documentNumber":"` + long + `","issuingCountry":"` + long + `","dateOfBirth":"` + long + `","firstName":"` + long + `"}}]}}`,
		"as long as it may be": `{"workflow":{"userReference":"` + strings.Repeat("\U0001F600", 256) + `","customerInternalReference":"` + strings.Repeat("\U0001F600", 256) + `"},
			"decision":{"type":"` + strings.Repeat("\U0001F600", 256) + `"},"capabilities":{"` + strings.Repeat("\U0001F600", 256) + `":[{}],
			"extraction":[{"data":{"documentNumber":"` + strings.Repeat("\U0001F600", 256) + `","issuingCountry":"` + strings.Repeat("\U0001F600", 256) + `"}}]}}`,
		"scores":       `{"decision":{"risk":{"score":1e-1000}}}`,
		"large score":  `{"decision":{"risk":{"score":1e999999}}}`,
		"edge of time": `{"createdAt":"0001-01-01T00:00:00+15:59","completedAt":"9999-12-31T23:59:60-15:59","capabilities":{"extraction":[{"data":{"dateOfBirth":"0001-01-01","expiryDate":"9999-12-31"}}]}}`,
		"not JSON":     "{",
		"nothing":      "",
		"too deep":     `{"capabilities":{"extraction":[{"data":{"documentNumber":"1","x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.New(t)
			for range 2 { // the second compares them with the first
				l := refetch(t, s, "w")
				o := ended(workflow.Retrieved, "")
				o.Read = storetest.Reading(body)
				o.Identity = o.Read.Identity()
				storetest.Finish(t, s, l, o)
			}
			wantRows(t, s, "finished", `SELECT stage FROM jumio.verifications`, []any{"decided"})
			if got := storetest.Scalar[[]byte](t, s, `SELECT body FROM callbackd.details`); string(got) != body {
				t.Error("the original bytes are not kept")
			}
			if changed := storetest.Scalar[bool](t, s, `SELECT changed FROM jumio.events ORDER BY event_id DESC LIMIT 1`); changed {
				t.Error("the second time, something has changed")
			}
			l := refetch(t, s, "w")
			r := storetest.Reading(body)
			if err := s.ReleaseRetrieval(t.Context(), l, r, r.Identity()); err != nil {
				t.Errorf("release: %v", err)
			}
			if err := s.Reproject(t.Context(), nil, time.Unix(0, 0), "", func(p results.Progress) {
				if p.Failed != 0 {
					t.Errorf("reading them again: %+v", p)
				}
			}); err != nil {
				t.Errorf("read them again: %v", err)
			}
			for _, view := range []string{"capabilities", "extracted_documents", "credentials", "workflow_executions", "verifications"} {
				storetest.Query(t, s, `SELECT * FROM jumio.`+view)
			}
		})
	}
}
