package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/riverqueue/river"
	"go.uber.org/zap/zaptest"

	"callbackd/internal/callback"
	"callbackd/internal/jumio"
	"callbackd/internal/promoter"
	"callbackd/internal/queue"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// rig is a Reconciler with a real Postgres and a Jumio that says what it is told.
type rig struct {
	*testing.T
	store *storetest.Store
	url   *url.URL
	queue *queue.Queue

	mu      sync.Mutex
	answers map[string]answer // by workflow execution; none is a 404
	asked   map[string][]time.Time
	refuses int // so many tokens
}

type answer struct {
	code int
	body string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, store: storetest.New(t), answers: map[string]answer{}, asked: map[string][]time.Time{}}
	server := httptest.NewServer(http.HandlerFunc(r.jumio))
	t.Cleanup(server.Close)
	r.url, _ = url.Parse(server.URL)
	r.queue = r.newQueue()
	return r
}

// retrievals is the worker of jobs that only wait here.
type retrievals struct {
	river.WorkerDefaults[queue.Retrieval]
}

func (retrievals) Work(context.Context, *river.Job[queue.Retrieval]) error { return nil }

func (r *rig) newQueue() *queue.Queue {
	r.Helper()
	q, err := queue.New(r.store.DB, queue.Options{Schedule: workflow.Schedule{0}, Workers: 1, Log: zaptest.NewLogger(r)})
	if err != nil {
		r.Fatal(err)
	}
	queue.AddWorker(q, retrievals{})
	return q
}

func (r *rig) jumio(w http.ResponseWriter, req *http.Request) {
	if strings.HasSuffix(req.URL.Path, "/oauth2/token") {
		_, _ = w.Write([]byte(`{"access_token":"token","expires_in":3600,"token_type":"Bearer"}`))
		return
	}
	id := strings.Split(strings.TrimSuffix(req.URL.Path, "/status"), "/workflow-executions/")[1]
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[id] = append(r.asked[id], time.Now())
	a, ok := r.answers[id]
	switch {
	case r.refuses > 0:
		r.refuses--
		a = answer{code: http.StatusUnauthorized}
	case !ok:
		a = answer{code: http.StatusNotFound}
	}
	w.WriteHeader(a.code)
	_, _ = w.Write([]byte(a.body))
}

func (r *rig) says(id, status string) {
	body, _ := json.Marshal(map[string]any{
		"account": map[string]string{"id": "a"}, "workflowExecution": map[string]string{"id": id, "status": status, "definitionKey": "10"},
	})
	r.answer(id, answer{http.StatusOK, string(body)})
}

func (r *rig) answer(id string, a answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[id] = a
}

func (r *rig) refuse(tokens int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuses = tokens
}

func (r *rig) askedFor(id string) int { return len(r.timesAsked(id)) }

func (r *rig) timesAsked(id string) []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked[id])
}

func (r *rig) client(budget jumio.Budget) *jumio.Client {
	r.Helper()
	client, err := jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: "c", ClientSecret: "s"}, UserAgent: "Test Worker/v1", TokenURL: r.url, RetrievalURL: r.url,
		Budget: budget, MaxImageBytes: 1 << 20, ProgressTimeout: 10 * time.Second,
	}, zaptest.NewLogger(r), jumio.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(client.Close)
	return client
}

// reconciler returns one whose job does not run: the test looks itself.
func (r *rig) reconciler(delays workflow.Delays) *Reconciler {
	r.Helper()
	log := zaptest.NewLogger(r)
	rec := New(Options{
		DB: r.store.DB, Queue: r.newQueue(), Jumio: r.client(jumio.NewLocalBudget(10_000)), Delays: delays, SessionTimeout: 15 * time.Minute, Grace: 5 * time.Minute,
		CallbacksDown: func() []string { return nil }, Holds: func(string) bool { return false }, Log: log, Registerer: prometheus.NewRegistry(),
	})
	rec.storeSettings(r.Context())
	return rec
}

func (r *rig) look(rec *Reconciler) {
	r.Helper()
	if err := rec.look(r.Context()); err != nil {
		r.Fatalf("look: %v", err)
	}
}

// lease takes the only question.
func (r *rig) lease(rec *Reconciler) results.Ask {
	r.Helper()
	asks, err := rec.results.LeaseAsks(r.Context(), results.Asking{Limit: batchSize, HoldFor: holdFor})
	if err != nil || len(asks) != 1 {
		r.Fatalf("got %d questions, %v", len(asks), err)
	}
	return asks[0]
}

func (r *rig) expect(id string) {
	r.Helper()
	r.exec(`SELECT jumio.expect($1, 'a')`, id)
}

// due lets the time pass until Jumio is to be asked.
func (r *rig) due(id string) {
	r.Helper()
	r.exec(`UPDATE callbackd.expectations SET next_ask_at = now() WHERE workflow_execution_id = $1 AND next_ask_at IS NOT NULL`, id)
}

func (r *rig) exec(sql string, args ...any) {
	r.Helper()
	if _, err := r.store.Pool().Exec(r.Context(), sql, args...); err != nil {
		r.Fatal(err)
	}
}

// callback stores a callback and promotes it.
func (r *rig) callback(id, status string, sentAt time.Time) {
	r.Helper()
	storetest.Insert(r, r.store, &callback.Callback{
		ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), CallbackSentAt: sentAt, Body: fmt.Appendf(nil, "%s %s", status, sentAt),
		WorkflowExecutionID: id, WorkflowStatus: status, AccountID: "a",
	})
	reg := prometheus.NewRegistry()
	p := promoter.New(promoter.Options{
		DB: r.store.DB, Queue: r.queue, Log: zaptest.NewLogger(r), Metrics: promoter.NewMetrics(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: "c"})),
	})
	p.Start(context.Background())
	storetest.Eventually(r, "the callback is promoted", func() bool {
		return storetest.Scalar[int64](r, r.store, `SELECT count(*) FROM callbackd.inbox`) == 0
	})
	p.Stop()
}

func (r *rig) want(what, sql string, want ...[]any) {
	r.Helper()
	if d := cmp.Diff(want, storetest.Query(r, r.store, sql)); d != "" {
		r.Errorf("%s (-want +got):\n%s", what, d)
	}
}

const (
	states = `SELECT v.workflow_execution_id, v.stage, v.retrieval_state, e.state, e.asked_count, e.next_ask_at IS NULL, e.answered_at IS NULL
		FROM jumio.verifications AS v LEFT JOIN jumio.expectations AS e USING (workflow_execution_id) ORDER BY 1`
	events = `SELECT type FROM jumio.events ORDER BY event_id`
)

func row(values ...any) []any { return values }

func TestExpect(t *testing.T) {
	r := newRig(t)
	r.expect("w")
	r.want("expected", states, row("w", "created", "awaiting", "expected", int32(0), false, true))
	before := storetest.Query(t, r.store, `SELECT * FROM callbackd.expectations`)
	r.exec(`SELECT jumio.expect('w', 'other', 'emea-1', 'u', '3', '1 hour')`)
	after := storetest.Query(t, r.store, `SELECT * FROM callbackd.expectations`)
	if before[0][6] != after[0][6] || before[0][8] != after[0][8] {
		t.Errorf("a repetition changed\n%v\ninto\n%v", before, after)
	}
	r.want("a repetition", `SELECT account_id, data_center, user_reference, deadline_at - expected_at = interval '50 minutes' FROM jumio.expectations`,
		row("a", "emea-1", "u", true))
	r.callback("ended", "PROCESSED", time.Now())
	r.expect("ended")
	r.want("one that has ended", `SELECT state, next_ask_at, answered_at IS NOT NULL FROM jumio.expectations WHERE workflow_execution_id = 'ended'`, row("answered", nil, true))
	for _, wrong := range []string{
		`'', 'a'`, `NULL, 'a'`, `'w w', 'a'`, `E'w\n', 'a'`, `repeat('w', 65), 'a'`, `'ö', 'a'`, `'w', 'a/b'`, `'w', ''`, `'w', NULL`, `'w', repeat('a', 65)`,
		`'w', 'a', 'moon-1'`, `'w', 'a', ''`, `'w', 'a', token_lifetime => '0'`, `'w', 'a', token_lifetime => '-1 second'`, `'w', 'a', token_lifetime => NULL`,
	} {
		if _, err := r.store.Pool().Exec(t.Context(), `SELECT jumio.expect(`+wrong+`)`); err == nil {
			t.Errorf("expect(%s): no error", wrong)
		}
	}
}

// TestExpectAgain: in no state does a repetition change state, deadline, counts or times.
func TestExpectAgain(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0, time.Hour})
	const all = `SELECT * FROM jumio.expectations ORDER BY workflow_execution_id`
	for _, id := range []string{"answered", "asked", "new", "overdue", "pending", "recovered"} {
		r.exec(`SELECT jumio.expect($1, 'a', 'emea-1', 'u', '3')`, id)
	}
	r.callback("answered", "PROCESSED", time.Now())
	r.says("recovered", "PROCESSED")
	for _, ids := range [][]string{{"recovered", "asked", "overdue", "pending"}, {"overdue", "pending"}} {
		for _, id := range ids {
			r.due(id)
		}
		r.look(rec)
	}
	r.exec(`UPDATE callbackd.workflow_executions SET retrieval_state = 'pending' WHERE workflow_execution_id = 'pending'`) // a refetch
	r.want("states", `SELECT workflow_execution_id, state FROM jumio.expectations ORDER BY 1`, row("answered", "answered"), row("asked", "expected"),
		row("new", "expected"), row("overdue", "overdue"), row("pending", "overdue"), row("recovered", "recovered"))
	before := storetest.Query(t, r.store, all)
	r.exec(`SELECT jumio.expect(workflow_execution_id, 'b', 'apac-1', 'v', '4', '1 day') FROM jumio.expectations`)
	r.want("a repetition", all, before...)
}

// TestExpectOfOverdue: one that nobody had announced stays overdue.
func TestExpectOfOverdue(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0})
	r.callback("w", "INITIATED", time.Now())
	r.exec(`UPDATE callbackd.workflow_executions SET last_callback_at = now() - interval '1 hour'`)
	r.look(rec)
	r.want("overdue", `SELECT stage, (SELECT count(*) FROM jumio.expectations) FROM jumio.verifications`, row("overdue", int64(0)))
	r.expect("w")
	r.want("expected", states, row("w", "overdue", "awaiting", "overdue", int32(1), true, true))
	r.callback("w", "PROCESSED", time.Now())
	r.want("answered", states, row("w", "in_review", "pending", "answered", int32(1), true, false))
}

// TestDeadlines follow the workers' settings, also those of what is expected already.
func TestDeadlines(t *testing.T) {
	r := newRig(t)
	const minutes = `SELECT workflow_execution_id, (extract(epoch FROM deadline_at - expected_at) / 60)::int, (extract(epoch FROM next_ask_at - deadline_at) / 60)::int FROM jumio.expectations ORDER BY 1`
	r.exec(`SELECT jumio.expect('before', 'a', token_lifetime => '10 minutes')`)
	r.want("before a worker has run", minutes, row("before", int32(30), int32(0)))
	rec := r.reconciler(workflow.Delays{time.Minute})
	rec.SessionTimeout, rec.Grace = time.Hour, 7*time.Minute
	rec.storeSettings(t.Context())
	r.exec(`SELECT jumio.expect('now', 'a', token_lifetime => '10 minutes')`)
	r.want("after it", minutes, row("before", int32(77), int32(1)), row("now", int32(77), int32(1)))
}

func TestMissedCallbackIsRecovered(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0, time.Minute})
	r.expect("w")
	r.look(rec)
	if n := r.askedFor("w"); n != 0 {
		t.Errorf("asked %d times before the deadline", n)
	}
	r.says("w", "PROCESSED")
	r.due("w")
	r.look(rec)
	r.want("recovered", states, row("w", "in_review", "pending", "recovered", int32(1), true, false))
	r.want("events", events, row("missed_callback_recovered"))
	r.want("no callback", `SELECT callback_count, first_callback_at, (SELECT count(*) FROM callbackd.river_job WHERE kind = 'retrieval') FROM jumio.workflow_executions`,
		row(int64(0), nil, int64(1)))
	if n := testutil.ToFloat64(rec.metrics.recovered); n != 1 {
		t.Errorf("callbackd_missed_callbacks_recovered_total is %g, want 1", n)
	}

	storetest.Finish(t, r.store, claim(r, "w"), storetest.Outcome(workflow.Retrieved, `{"workflow":{"id":"w"}}`))
	r.want("retrieved", `SELECT callback_count, first_callback_at, retrieval_state FROM jumio.workflow_executions`, row(int64(0), nil, "retrieved"))
	r.want("no row", `SELECT count(*) FROM jumio.callbacks`, row(int64(0)))
}

// TestCallbackAfterRecovery: the callback that should have brought the final status
// retrieves nothing, whenever it was sent; a newer one does.
func TestCallbackAfterRecovery(t *testing.T) {
	for name, sent := range map[string]time.Duration{"long before": -time.Hour, "just after": time.Minute, "unknown when": 0} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			rec := r.reconciler(workflow.Delays{0})
			for _, state := range []string{"pending", "retrieved"} {
				r.expect(state)
				r.says(state, "PROCESSED")
				r.due(state)
			}
			r.look(rec)
			storetest.Finish(t, r.store, claim(r, "retrieved"), storetest.Outcome(workflow.Retrieved, `{"workflow":{"id":"retrieved"}}`))
			var sentAt time.Time
			if sent != 0 {
				sentAt = time.Now().Add(sent)
			}
			const executions = `SELECT retrieval_state, retrieval_generation, callback_count, first_callback_at IS NOT NULL FROM callbackd.workflow_executions ORDER BY 1`
			r.callback("pending", "PROCESSED", sentAt)
			for range 2 { // it is repeated
				r.callback("retrieved", "PROCESSED", sentAt)
			}
			r.want("the late callbacks", executions, row("pending", int32(1), int64(1), true), row("retrieved", int32(1), int64(2), true))
			r.want("the expectations", `SELECT DISTINCT state FROM jumio.expectations`, row("recovered"))
			r.callback("retrieved", "PROCESSED", time.Now().Add(2*time.Minute))
			r.want("a newer callback", executions, row("pending", int32(1), int64(1), true), row("pending", int32(2), int64(3), true))
		})
	}
}

// TestCallbackAfterRecoveryThatFailed: it is tried again, and the callback after it counts
// as any other.
func TestCallbackAfterRecoveryThatFailed(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0})
	r.expect("w")
	r.says("w", "PROCESSED")
	r.due("w")
	r.look(rec)
	storetest.Finish(t, r.store, claim(r, "w"), results.Outcome{Conclusion: workflow.Conclusion{Outcome: workflow.Failed, State: workflow.Failed, Error: "not_found: details"}})
	r.callback("w", "PROCESSED", time.Now())
	r.want("tried again", `SELECT retrieval_state FROM jumio.workflow_executions`, row("pending"))
	storetest.Finish(t, r.store, claim(r, "w"), storetest.Outcome(workflow.Retrieved, `{"workflow":{"id":"w"}}`))
	r.callback("w", "PROCESSED", time.Now().Add(time.Minute))
	r.want("a newer callback", `SELECT retrieval_state FROM jumio.workflow_executions`, row("pending"))
}

// TestExpectedAgain: a callback that says that it has ended is contradicted by Jumio.
func TestExpectedAgain(t *testing.T) {
	r := newRig(t)
	r.expect("w")
	r.callback("w", "SESSION_EXPIRED", time.Now())
	r.want("answered", states, row("w", "expired", "not_required", "answered", int32(0), true, false))
	r.callback("w", "ACQUISITION_STARTED", time.Now().Add(time.Second))
	storetest.Finish(t, r.store, claim(r, "w"), results.Outcome{Conclusion: workflow.Conclusion{Outcome: workflow.Awaiting, State: workflow.Awaiting, Status: "ACQUISITION_STARTED"}})
	r.want("expected again", states, row("w", "started", "awaiting", "expected", int32(0), false, true))
	r.want("the deadline", `SELECT e.deadline_at - w.last_callback_at = interval '20 minutes', e.next_ask_at = e.deadline_at
		FROM jumio.expectations AS e JOIN jumio.workflow_executions AS w USING (workflow_execution_id)`, row(true, true))
}

// claim takes the lease of the retrieval that is pending.
func claim(r *rig, id string) (l *results.Lease) {
	r.Helper()
	l = &results.Lease{
		Retrieval: workflow.Retrieval{WorkflowExecutionID: id, Generation: int(storetest.Scalar[int32](r, r.store,
			`SELECT retrieval_generation FROM callbackd.workflow_executions WHERE workflow_execution_id = $1`, id))},
		Token: uuid.New(),
	}
	if _, err := r.store.ClaimRetrieval(r.Context(), l, time.Minute); err != nil {
		r.Fatalf("claim: %v", err)
	}
	return l
}

func TestExpiredVerificationIsRecovered(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0})
	r.expect("w")
	r.says("w", "TOKEN_EXPIRED")
	r.due("w")
	r.look(rec)
	r.want("recovered", states, row("w", "expired", "not_required", "recovered", int32(1), true, false))
	r.want("events", events, row("missed_callback_recovered"), row("expired"))
}

func TestOverdue(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0, time.Hour, time.Hour})
	r.expect("w")
	for n, status := range []string{"", "INITIATED", "NEW_STATUS"} { // "" is a 404
		if status != "" {
			r.says("w", status)
		}
		r.due("w")
		r.look(rec)
		if got := r.askedFor("w"); got != n+1 {
			t.Fatalf("asked %d times, want %d", got, n+1)
		}
	}
	r.want("overdue", states, row("w", "overdue", "awaiting", "overdue", int32(3), true, true))
	r.want("events", events, row("overdue"))
	states2, oldest, err := r.store.Results().Expectations(t.Context())
	if err != nil || states2["overdue"] != 1 || states2["expected"] != 0 || oldest.IsZero() {
		t.Errorf("counted %v since %v, %v", states2, oldest, err)
	}

	// The person comes back after all.
	r.callback("w", "ACQUISITION_STARTED", time.Now())
	r.want("heard of", states, row("w", "started", "awaiting", "expected", int32(3), false, true))
	r.callback("w", "PROCESSED", time.Now().Add(time.Second))
	r.want("answered", states, row("w", "in_review", "pending", "answered", int32(3), true, false))
}

func TestCallbackMovesDeadline(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0, time.Minute})
	r.expect("w")
	r.due("w")
	r.callback("w", "ACQUISITION_STARTED", time.Now())
	r.look(rec)
	if n := r.askedFor("w"); n != 0 {
		t.Errorf("asked %d times although the deadline has moved", n)
	}
	r.want("the deadline", `SELECT e.deadline_at - w.last_callback_at = interval '20 minutes', e.next_ask_at = e.deadline_at
		FROM jumio.expectations AS e JOIN jumio.workflow_executions AS w USING (workflow_execution_id)`, row(true, true))
}

// Nobody has said that it was started, and its callbacks have stopped.
func TestSilentExecutionIsAskedFor(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0, time.Hour})
	r.callback("w", "ACQUISITION_STARTED", time.Now())
	r.callback("fresh", "ACQUISITION_STARTED", time.Now())
	r.exec(`UPDATE callbackd.workflow_executions SET last_callback_at = now() - interval '20 minutes 1 second' WHERE workflow_execution_id = 'w'`)
	r.says("w", "ACQUIRED")
	r.look(rec)
	if w, fresh := r.askedFor("w"), r.askedFor("fresh"); w != 1 || fresh != 0 {
		t.Errorf("asked %d times for the silent one, %d times for the fresh one", w, fresh)
	}
	r.want("no expectation", `SELECT count(*) FROM jumio.expectations`, row(int64(0)))
	r.want("what Jumio says", `SELECT stage FROM jumio.verifications WHERE workflow_execution_id = 'w'`, row("in_review"))
	r.look(rec)
	if n := r.askedFor("w"); n != 1 {
		t.Errorf("asked %d times before the next delay has passed", n)
	}
	r.says("w", "PROCESSED")
	r.due("w")
	r.look(rec)
	r.want("recovered", `SELECT retrieval_state FROM jumio.workflow_executions WHERE workflow_execution_id = 'w'`, row("pending"))
}

func TestSilentExecutionThatIsHeardOfAgain(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0, 0})
	r.callback("w", "INITIATED", time.Now())
	r.exec(`UPDATE callbackd.workflow_executions SET last_callback_at = now() - interval '1 hour'`)
	r.says("w", "INITIATED")
	r.look(rec)
	r.callback("w", "ACQUISITION_STARTED", time.Now())
	r.due("w")
	rec.lookedFull = time.Time{}
	r.look(rec)
	if n := r.askedFor("w"); n != 2 { // both delays are 0, so both questions were asked at once
		t.Errorf("asked %d times", n)
	}
	r.want("forgotten", `SELECT count(*) FROM callbackd.expectations`, row(int64(0)))
}

// Two workers look at the same time: each question is asked once.
func TestTwoWorkers(t *testing.T) {
	r := newRig(t)
	const n = 50
	for i := range n {
		id := fmt.Sprintf("w%d", i)
		r.expect(id)
		r.says(id, "INITIATED")
		r.due(id)
	}
	var looking sync.WaitGroup
	for range 2 {
		rec := r.reconciler(workflow.Delays{0, time.Hour})
		looking.Go(func() { r.look(rec) })
	}
	looking.Wait()
	for i := range n {
		if asked := r.askedFor(fmt.Sprintf("w%d", i)); asked != 1 {
			t.Errorf("w%d was asked for %d times", i, asked)
		}
	}
}

func TestNeverAsks(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(nil)
	r.expect("w")
	r.look(rec)
	r.want("never asked", `SELECT state, next_ask_at FROM jumio.expectations`, row("expected", nil))
	r.reconciler(workflow.Delays{time.Minute})
	r.want("asked after all", `SELECT state, next_ask_at - deadline_at = interval '1 minute' FROM jumio.expectations`, row("expected", true))
}

func TestAskedEarlyWhileCallbacksAreDown(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0, time.Hour})
	rec.CallbacksDown = func() []string { return []string{"emea-1"} }
	for _, dataCenter := range []string{"emea-1", "amer-1"} {
		r.exec(`SELECT jumio.expect($1, 'a', $1)`, dataCenter)
		r.says(dataCenter, "ACQUISITION_STARTED")
	}
	r.look(rec)
	r.exec(`UPDATE callbackd.expectations SET expected_at = now() - interval '6 minutes'`)
	r.look(rec)
	r.look(rec)
	if down, up := r.askedFor("emea-1"), r.askedFor("amer-1"); down != 1 || up != 0 {
		t.Errorf("asked %d times where callbacks are down, %d times where they are up", down, up)
	}
	r.want("the next question", `SELECT asked_count, next_ask_at = deadline_at FROM jumio.expectations ORDER BY data_center DESC`,
		row(int32(1), true), row(int32(0), true))
}

func TestReferencesAreRead(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(nil)
	rec.UserReferenceKey = "key"
	signed, err := callback.SignUserReference("key", "customer-1")
	if err != nil {
		t.Fatal(err)
	}
	r.exec(`SELECT jumio.expect('w', 'a', user_reference => $1)`, signed)
	r.look(rec)
	r.want("both forms", `SELECT user_reference = $$`+signed+`$$, user_reference_unsigned FROM jumio.verifications`, row(true, "customer-1"))
}

// While Jumio says that its service is down, no question is used up.
func TestHeldQuestion(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0})
	rec.Holds = func(dataCenter string) bool { return dataCenter == "emea-1" }
	r.exec(`SELECT jumio.expect('w', 'a', 'emea-1')`)
	r.says("w", "PROCESSED")
	r.due("w")
	r.look(rec)
	r.want("held", `SELECT state, asked_count FROM jumio.expectations`, row("expected", int32(0)))
	rec.Holds = func(string) bool { return false }
	r.exec(`UPDATE callbackd.expectations SET asking_until = now()`)
	r.look(rec)
	r.want("asked", `SELECT state, asked_count FROM jumio.expectations`, row("recovered", int32(1)))
}

// A service that starts a verification and does not commit delays nobody else for long.
func TestOpenTransactionDelaysNobody(t *testing.T) {
	r := newRig(t)
	tx, err := r.store.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT jumio.expect('open', 'a')`); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"open", "other"} {
		storetest.Insert(t, r.store, &callback.Callback{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), WorkflowExecutionID: id, WorkflowStatus: "PROCESSED"})
	}
	p := promoter.New(promoter.Options{
		DB: r.store.DB, Queue: r.queue, Log: zaptest.NewLogger(r), Metrics: promoter.NewMetrics(prometheus.NewRegistry(), prometheus.NewCounter(prometheus.CounterOpts{Name: "c"})),
	})
	p.Start(context.Background())
	defer p.Stop()
	promoted := func(id string) func() bool {
		return func() bool {
			return storetest.Scalar[int64](t, r.store, `SELECT count(*) FROM jumio.workflow_executions WHERE workflow_execution_id = $1 AND callback_count = 1`, id) == 1
		}
	}
	storetest.Eventually(t, "the other callback is promoted", promoted("other"))
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the callback of the open one is promoted", promoted("open"))
	r.want("answered", `SELECT state FROM jumio.expectations`, row("answered"))
}
