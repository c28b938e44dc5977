package fetcher

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/queue"
	"callbackd/internal/sandbox"
	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

func (r *rig) insert(c *callback.Callback) *callback.Callback {
	r.Helper()
	c.ID, c.Body = uuid.Must(uuid.NewV7()), []byte(`{}`)
	if c.ReceivedAt.IsZero() {
		c.ReceivedAt = time.Now()
	}
	if err := r.store.InsertCallback(r.Context(), c); err != nil {
		r.Fatal(err)
	}
	return c
}

func (r *rig) exec(sql string, args ...any) {
	r.Helper()
	if _, err := r.store.Pool().Exec(r.Context(), sql, args...); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
}

// First attempts go before further ones, and what is known before what is not.
func TestPriorities(t *testing.T) {
	r := newRig(t, workflow.Schedule{0, time.Hour}, sandbox.Config{Seed: 42})
	known := r.journey("passed-passport")
	f := r.start()
	r.settled(known.WorkflowExecutionID)
	unknown := r.insert(&callback.Callback{WorkflowExecutionID: "nobody-knows", WorkflowStatus: "PROCESSED"})
	r.waitFor("the unknown one's first attempt", `SELECT retrieval_error IS NOT NULL FROM jumio.workflow_executions WHERE workflow_execution_id = $1`, unknown.WorkflowExecutionID)
	partial := r.journey("passed-passport", "image:503")
	r.waitFor("the partial one's first attempt", `SELECT retrieval_error IS NOT NULL FROM jumio.workflow_executions WHERE workflow_execution_id = $1`, partial.WorkflowExecutionID)
	r.waitFor("both jobs to be rescheduled", `SELECT count(*) = 2 FROM callbackd.river_job WHERE state = 'retryable'`)
	r.stop(f)

	r.insert(&callback.Callback{WorkflowExecutionID: "of-a-known-account", WorkflowStatus: "PROCESSED", AccountID: known.AccountID})
	r.insert(&callback.Callback{WorkflowExecutionID: "first", WorkflowStatus: "PROCESSED", AccountID: "unknown-account"})
	p := r.newWorker(nil, 1, zap.NewNop()).promoter
	p.Start(t.Context())
	r.waitFor("both promotions", `SELECT count(*) = 0 FROM callbackd.inbox`)
	p.Stop()
	for id, want := range map[string]int{
		"of-a-known-account": queue.PriorityKnown, "first": queue.PriorityFirst,
		partial.WorkflowExecutionID: queue.PriorityContinue, unknown.WorkflowExecutionID: queue.PriorityRetry,
	} {
		if got := value[int](r, `SELECT priority FROM callbackd.river_job WHERE args ->> 'workflow_execution_id' = $1`, id); got != want {
			t.Errorf("%s has priority %d, want %d", id, got, want)
		}
	}
}

// Under a flood of callbacks for nothing, whose retries fill the queue, a genuine
// one does not wait for them.
func TestFloodDelaysNobody(t *testing.T) {
	r := newRig(t, workflow.Schedule{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, sandbox.Config{Seed: 43})
	const flood = 100
	for i := range flood {
		r.insert(&callback.Callback{WorkflowExecutionID: fmt.Sprint("flood-", i), WorkflowStatus: "PROCESSED"})
	}
	r.start()
	r.waitFor("the flood's first attempts", `SELECT count(*) = 0 FROM callbackd.workflow_executions WHERE retrieval_attempts = 0`)
	j := r.journey("passed-passport")
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	var retries, attempts int
	if err := r.store.Pool().QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE retrieval_state = 'pending'), sum(retrieval_attempts)
		FROM callbackd.workflow_executions WHERE workflow_execution_id LIKE 'flood-%'`).Scan(&retries, &attempts); err != nil {
		t.Fatal(err)
	}
	if retries == 0 {
		t.Errorf("the flood was over (%d attempts) before the genuine one was retrieved", attempts)
	}
}

// The refetch of a person who is still at it goes back to waiting.
func TestRefetchOfOneThatIsNotDone(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 44})
	r.start()
	j := r.journey("acquired")
	r.waitFor("the callback", `SELECT retrieval_state = 'awaiting' FROM jumio.workflow_executions WHERE callback_count > 0`)
	if err := Refetch(t.Context(), r.store.DB, r.schedule, []string{j.WorkflowExecutionID}, ""); err != nil {
		t.Fatal(err)
	}
	r.waitFor("the end of the refetch", `SELECT retrieval_state = 'awaiting' AND retrieval_attempts = 1 FROM jumio.workflow_executions`)
	if n := value[int](r, `SELECT count(*) FROM jumio.events WHERE type <> 'callback_received'`); n != 0 {
		t.Errorf("%d events of an end that was none", n)
	}
}

// An operator may name the account where all callbacks named a wrong one; here
// Jumio does not know the short form either.
func TestRefetchWithAccount(t *testing.T) {
	r := newRig(t, workflow.Schedule{0}, sandbox.Config{Seed: 45})
	r.start()
	j := r.journey("passed-passport", "details:404:2")
	r.waitFor("the failure", `SELECT retrieval_state = 'failed' FROM jumio.workflow_executions`)
	r.exec(`UPDATE callbackd.workflow_executions SET account_id = 'wrong', workflow_href = NULL, account_href = NULL`)
	if err := Refetch(t.Context(), r.store.DB, r.schedule, []string{j.WorkflowExecutionID}, j.AccountID); err != nil {
		t.Fatal(err)
	}
	r.waitFor("the refetched result", `SELECT retrieval_state = 'retrieved' FROM jumio.workflow_executions`)
	if n := r.ledger(j).DetailsRequests.Requests; n != 3 {
		t.Errorf("%d requests for details in all, want 3: the account that was given goes first", n)
	}
}

// Nothing is left pending when somebody takes a job away, and a retrieval that was
// put off begins.
func TestPendingIsKept(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 46})
	j := r.journey("passed-passport")
	f := r.start()
	r.settled(j.WorkflowExecutionID)
	r.stop(f)
	for name, sql := range map[string]string{
		"lost": `UPDATE callbackd.workflow_executions SET retrieval_state = 'pending', retrieval_generation = retrieval_generation + 1, retrieval_attempts = 0`,
		"due":  `UPDATE callbackd.workflow_executions SET retrieval_due_at = now()`,
	} {
		before := value[int](r, `SELECT count(*) FROM jumio.events WHERE type = 'retrieved'`)
		r.exec(sql)
		f := r.start()
		r.waitFor(name, `SELECT count(*) = $1 FROM jumio.events WHERE type = 'retrieved'`, before+1)
		r.checkJourney(j)
		if n := testutil.ToFloat64(f.metrics.requeued); (n == 1) != (name == "lost") {
			t.Errorf("%s: %v requeued", name, n)
		}
		r.stop(f)
	}
}

// The refetch of one that is unknown queues none of those that are named with it.
func TestRefetchUnknownQueuesNothing(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 48})
	storetest.Finish(t, r.store, storetest.Claim(t, r.store, "w"), storetest.Outcome(workflow.Failed, ""))
	state := func() [][]any {
		return storetest.Query(t, r.store, `SELECT retrieval_state, retrieval_attempts, (SELECT count(*) FROM callbackd.river_job) FROM jumio.workflow_executions`)
	}
	err := Refetch(t.Context(), r.store.DB, r.schedule, []string{"w", "unknown"}, "")
	if !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("refetch of an unknown one: %v", err)
	}
	if d := cmp.Diff([][]any{{"failed", int32(1), int64(0)}}, state()); d != "" {
		t.Errorf("after it (-want +got):\n%s", d)
	}
	if err := Refetch(t.Context(), r.store.DB, r.schedule, []string{"w", "w"}, ""); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([][]any{{"pending", int32(0), int64(1)}}, state()); d != "" {
		t.Errorf("after a refetch (-want +got):\n%s", d)
	}
}
