package reconciler

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap/zaptest"

	"callbackd/internal/budget"
	"callbackd/internal/jumio"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// TestNoAnswerUsesUpOneQuestion: whatever Jumio answers, the next question is a delay away
// from this one.
func TestNoAnswerUsesUpOneQuestion(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0, 90 * time.Minute})
	answers := map[string]answer{
		"not-found":    {http.StatusNotFound, ""},
		"forbidden":    {http.StatusForbidden, ""},
		"rate-limited": {http.StatusTooManyRequests, ""},
		"broken":       {http.StatusInternalServerError, ""},
		"unavailable":  {http.StatusServiceUnavailable, ""},
		"unreadable":   {http.StatusOK, "<html>"},
		"cut-off":      {http.StatusOK, `{"workflowExecution":{"id":"cut-off","status":"PROC`},
		"no-status":    {http.StatusOK, `{}`},
		"unknown":      {http.StatusOK, `{"workflowExecution":{"id":"unknown","status":"NEW_STATUS"}}`},
		"another":      {http.StatusOK, `{"workflowExecution":{"id":"someone-else","status":"PROCESSED"}}`},
		"not-final":    {http.StatusOK, `{"workflowExecution":{"id":"not-final","status":"ACQUIRED"}}`},
	}
	for id, a := range answers {
		r.expect(id)
		r.answer(id, a)
		r.due(id)
	}
	r.look(rec)
	r.look(rec)
	for id := range answers {
		if n := r.askedFor(id); n != 1 {
			t.Errorf("%s was asked for %d times", id, n)
		}
	}
	r.want("the next question", `SELECT DISTINCT state, asked_count, next_ask_at - last_asked_at = interval '90 minutes', answered_at FROM jumio.expectations`,
		row("expected", int32(1), true, nil))
	r.want("statuses", `SELECT workflow_execution_id, status FROM jumio.verifications WHERE status IS NOT NULL`, row("not-final", "ACQUIRED"))
	r.want("no event", `SELECT count(*) FROM jumio.events`, row(int64(0)))
	if none, other := testutil.ToFloat64(rec.metrics.asked.WithLabelValues(outcomeNone)), testutil.ToFloat64(rec.metrics.asked.WithLabelValues(outcomeNotFinal)); none != 10 || other != 1 {
		t.Errorf("counted %g without an answer and %g that are not final, want 10 and 1", none, other)
	}
}

// TestRefusedToken: a token that Jumio refuses is renewed within the question, once.
func TestRefusedToken(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0, time.Hour})
	r.expect("w")
	r.says("w", "INITIATED")
	for n, refuses := range []int{1, 2} {
		r.refuse(refuses)
		r.due("w")
		r.look(rec)
		if asked := r.askedFor("w"); asked != 2*(n+1) {
			t.Errorf("%d requests, want two for each question", asked)
		}
		r.exec(`UPDATE callbackd.expectations SET asked_since_deadline = 0, next_ask_at = coalesce(next_ask_at, now()), state = 'expected'`)
	}
	r.want("the questions", `SELECT asked_count FROM jumio.expectations`, row(int32(2)))
}

// TestNoBudgetUsesUpNoQuestion: what was not asked for want of the database is asked later.
func TestNoBudgetUsesUpNoQuestion(t *testing.T) {
	r := newRig(t)
	rec := r.reconciler(workflow.Delays{0})
	b := budget.New(budget.Options{DB: r.store.DB, RetrievalRPS: 10_000, Log: zaptest.NewLogger(t)})
	t.Cleanup(b.Close)
	rec.Jumio = r.client(b)
	r.expect("w")
	r.says("w", "PROCESSED")
	r.due("w")
	r.exec(`ALTER TABLE callbackd.request_budgets RENAME TO gone`)
	a := r.lease(rec)
	if err := rec.ask(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	r.want("not asked", `SELECT state, asked_count FROM jumio.expectations`, row("expected", int32(0)))
	r.exec(`ALTER TABLE callbackd.gone RENAME TO request_budgets`)
	r.look(rec)
	r.want("asked", `SELECT state, asked_count FROM jumio.expectations`, row("recovered", int32(1)))
}

// TestQuestionsAreInTime: the worker asks at most 6 s after a question is due.
func TestQuestionsAreInTime(t *testing.T) {
	r := newRig(t)
	const late = 6 * time.Second
	rec := r.reconciler(workflow.Delays{0, time.Second})
	if err := rec.Queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rec.Queue.Stop(t.Context()) })
	storetest.Eventually(t, "a first look", func() bool { return testutil.ToFloat64(rec.metrics.looks) > 0 })
	r.expect("w")
	due := time.Now()
	r.due("w")
	storetest.Eventually(t, "both questions", func() bool { return r.askedFor("w") == 2 })
	for i, asked := range r.timesAsked("w") {
		if took := asked.Sub(due); took > late || took < 0 {
			t.Errorf("question %d was asked %s after it was due", i+1, took)
		}
		due = asked.Add(time.Second)
	}
	storetest.Eventually(t, "the end", func() bool {
		return storetest.Scalar[string](t, r.store, `SELECT state FROM jumio.expectations`) == "overdue"
	})
}

// TestFetch: a final status is taken in and its retrieval queued; any other leaves nothing.
func TestFetch(t *testing.T) {
	r := newRig(t)
	client := r.client(jumio.NewLocalBudget(10_000))
	fetch := func(id string) (string, error) {
		return Fetch(t.Context(), r.store.DB, client, workflow.Schedule{0}, jumio.Workflow{ID: id, DataCenter: "emea-1"}, "")
	}
	for id, status := range map[string]string{"running": "ACQUIRED", "odd": "NEW_STATUS", "done": "PROCESSED", "over": "TOKEN_EXPIRED"} {
		r.says(id, status)
		for range 2 { // the second time it is no news
			if got, err := fetch(id); err != nil || got != status {
				t.Errorf("%s: got %q, %v", id, got, err)
			}
		}
	}
	for id, code := range map[string]string{"unknown": jumio.CodeNotFound, "forbidden": jumio.CodeForbidden} {
		if code == jumio.CodeForbidden {
			r.answer(id, answer{code: http.StatusForbidden})
		}
		_, err := fetch(id)
		if e, ok := errors.AsType[*jumio.Error](err); !ok || e.Code != code {
			t.Errorf("%s: got %v, want %s", id, err, code)
		}
	}
	r.want("taken in", `SELECT workflow_execution_id, account_id, status, retrieval_state, callback_count, first_callback_at FROM jumio.workflow_executions ORDER BY 1`,
		row("done", "a", "PROCESSED", "pending", int64(0), nil), row("over", "a", "TOKEN_EXPIRED", "not_required", int64(0), nil))
	r.want("events", `SELECT workflow_execution_id, type FROM jumio.events ORDER BY 1, event_id`,
		row("done", "missed_callback_recovered"), row("over", "missed_callback_recovered"), row("over", "expired"))
	r.want("queued", `SELECT args ->> 'workflow_execution_id' FROM callbackd.river_job WHERE kind = 'retrieval'`, row("done"))
	r.want("where", `SELECT data_center FROM callbackd.workflow_executions WHERE workflow_execution_id = 'done'`, row("emea-1"))
	r.want("no expectation", `SELECT count(*) FROM callbackd.expectations`, row(int64(0)))
}

// TestFetchOfExpected: the expectation is recovered, at the data center that it names.
func TestFetchOfExpected(t *testing.T) {
	r := newRig(t)
	r.exec(`SELECT jumio.expect('w', 'a', 'apac-1')`)
	r.says("w", "PROCESSED")
	if _, err := Fetch(t.Context(), r.store.DB, r.client(jumio.NewLocalBudget(10_000)), workflow.Schedule{0}, jumio.Workflow{ID: "w"}, "emea-1"); err != nil {
		t.Fatal(err)
	}
	r.want("recovered", states, row("w", "in_review", "pending", "recovered", int32(1), true, false))
	r.want("where", `SELECT data_center FROM callbackd.workflow_executions`, row("apac-1"))
}
