package fetcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/riverqueue/river/riverdriver"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/sandbox"
	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// idle makes a worker that does nothing by itself.
func (r *rig) idle() *Fetcher {
	r.Helper()
	f, err := New(Options{
		Store: r.store, Schedule: r.schedule, Workers: 1, Log: zap.NewNop(), Metrics: NewMetrics(prometheus.NewRegistry(), r.schedule),
	})
	if err != nil {
		r.Fatal(err)
	}
	return f
}

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

// Whatever rows hold, each that cannot be promoted becomes a dead letter, and
// every other one is promoted in the same round.
func TestPromoteSetsBadRowsAside(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 40})
	r.exec(storetest.Unchecked)
	const n, bad = 200, 7
	for i := range n {
		id := fmt.Sprint("w-", i)
		if i%(n/bad) == 3 {
			id = strings.Repeat("x", 9000)
		}
		r.exec(`INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, workflow_status, body)
			VALUES ($1, 'infinity', '', $2, 'ACQUIRED', '{}')`, uuid.Must(uuid.NewV7()), id)
	}
	f := r.idle()
	if _, err := f.promoteNext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := value[int](r, `SELECT count(*) FROM callbackd.inbox`); n > 0 {
		t.Errorf("%d callbacks are left in the inbox", n)
	}
	dead := value[int](r, `SELECT count(*) FROM jumio.rejected_callbacks WHERE reason = 'not_storable: SQLSTATE 23514'`)
	promoted := value[int](r, `SELECT count(*) FROM jumio.workflow_executions`)
	if dead+promoted != n || dead < bad || dead > bad+1 {
		t.Errorf("%d dead letters and %d promoted of %d", dead, promoted, n)
	}
}

// A callback that times out, here because its workflow execution is locked, keeps
// nobody back and is tried again later.
func TestPromoteLeavesWhatTimesOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick, sandbox.Config{Seed: 41})
	f := r.idle()
	r.insert(&callback.Callback{WorkflowExecutionID: "locked", WorkflowStatus: "ACQUIRED"})
	if n, err := f.promoteNext(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d promoted, %v", n, err)
	}
	tx, err := r.store.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM callbackd.workflow_executions FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	stuck := r.insert(&callback.Callback{WorkflowExecutionID: "locked", WorkflowStatus: "ACQUIRED"})
	other := r.insert(&callback.Callback{WorkflowExecutionID: "other", WorkflowStatus: "ACQUIRED"})
	if err := new(parts).promote(t.Context(), f, []uuid.UUID{stuck.ID, other.ID}, 0); err != nil {
		t.Fatal(err)
	}
	if n := value[int](r, `SELECT count(*) FROM jumio.workflow_executions WHERE workflow_execution_id = 'other'`); n != 1 {
		t.Error("the other callback is not promoted")
	}
	if n := value[int](r, `SELECT count(*) FROM jumio.rejected_callbacks`); n != 0 {
		t.Errorf("%d dead letters, though no values are at fault", n)
	}
	// It is left out now, so that the next round does not wait for it.
	if n, err := f.promoteNext(t.Context()); n != 0 || err != nil {
		t.Errorf("the round after: %d promoted, %v", n, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.postponed = postponed{} // its time has come
	if n, err := f.promoteNext(t.Context()); n != 1 || err != nil {
		t.Errorf("later: %d promoted, %v", n, err)
	}
}

// When all time out, the database is at fault, and only the first of them are put
// off.
func TestPromoteGivesUpOnTheDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick, sandbox.Config{Seed: 47})
	f := r.idle()
	tx, err := r.store.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `LOCK TABLE callbackd.workflow_executions`); err != nil {
		t.Fatal(err)
	}
	var ids []uuid.UUID
	for i := range 4 {
		ids = append(ids, r.insert(&callback.Callback{WorkflowExecutionID: fmt.Sprint("w-", i), WorkflowStatus: "ACQUIRED"}).ID)
	}
	if err := new(parts).promote(t.Context(), f, ids, 0); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("promote while a table is locked: %v, want ErrUnavailable", err)
	}
	if n := len(f.postponed.list); n != mostFailed {
		t.Errorf("%d callbacks are put off, want %d", n, mostFailed)
	}
}

func TestPostponed(t *testing.T) {
	var p postponed
	a, b := uuid.New(), uuid.New()
	if until := p.add(a, noon); !until.Equal(noon.Add(firstPostponement)) {
		t.Errorf("the first time until %v", until)
	}
	if until := p.add(a, noon); !until.Equal(noon.Add(2 * firstPostponement)) {
		t.Errorf("the second time until %v", until)
	}
	for range 20 {
		p.add(b, noon)
	}
	if got := p.now(noon.Add(3 * firstPostponement)); len(got) != 1 || got[0] != b {
		t.Errorf("later %v are left, want the second alone", got)
	}
	if got := p.now(noon.Add(longestPostponement)); len(got) != 0 {
		t.Errorf("after the longest time %v are left", got)
	}
	p.now(noon.Add(4 * longestPostponement))
	if len(p.list) != 0 {
		t.Errorf("%d are remembered for ever", len(p.list))
	}
}

// First attempts go before further ones, and what is known before what is not.
func TestPriorities(t *testing.T) {
	r := newRig(t, Schedule{0, time.Hour}, sandbox.Config{Seed: 42})
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
	if _, err := r.idle().promoteNext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]int{
		"of-a-known-account": priorityKnown, "first": priorityFirst,
		partial.WorkflowExecutionID: priorityContinue, unknown.WorkflowExecutionID: priorityRetry,
	} {
		if got := value[int](r, `SELECT priority FROM callbackd.river_job WHERE args ->> 'workflow_execution_id' = $1`, id); got != want {
			t.Errorf("%s has priority %d, want %d", id, got, want)
		}
	}
}

// Under a flood of callbacks for nothing, whose retries fill the queue, a genuine
// one does not wait for them.
func TestFloodDelaysNobody(t *testing.T) {
	r := newRig(t, Schedule{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, sandbox.Config{Seed: 43})
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
	if err := Refetch(t.Context(), r.store, r.schedule, []string{j.WorkflowExecutionID}, ""); err != nil {
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
	r := newRig(t, Schedule{0}, sandbox.Config{Seed: 45})
	r.start()
	j := r.journey("passed-passport", "details:404:2")
	r.waitFor("the failure", `SELECT retrieval_state = 'failed' FROM jumio.workflow_executions`)
	r.exec(`UPDATE callbackd.workflow_executions SET account_id = 'wrong', workflow_href = NULL, account_href = NULL`)
	if err := Refetch(t.Context(), r.store, r.schedule, []string{j.WorkflowExecutionID}, j.AccountID); err != nil {
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

func TestStalled(t *testing.T) {
	var f Fetcher
	if !f.Stalled().IsZero() {
		t.Error("stalled before its start")
	}
	f.progress.Store(time.Now().UnixNano())
	if !f.Stalled().IsZero() {
		t.Error("stalled right after a promotion")
	}
	since := time.Now().Add(-stalledAfter - time.Second)
	f.progress.Store(since.UnixNano())
	if !f.Stalled().Equal(since.Truncate(0)) {
		t.Errorf("stalled since %v, want %v", f.Stalled(), since)
	}
}

// River hears of nothing but that there may be jobs.
func TestQueueListener(t *testing.T) {
	d := newQueueDriver(nil)
	var driver riverdriver.Driver[pgx.Tx] = d
	if driver.SupportsListenNotify() {
		t.Error("River notifies within our transactions")
	}
	l := driver.GetListener(&riverdriver.GetListenenerParams{Schema: schema})
	d.wake()
	d.wake() // two hints are one
	n, err := l.WaitForNotification(t.Context())
	if err != nil || n.Topic != insertTopic || n.Payload != `{"queue":"default"}` {
		t.Errorf("got %+v, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.WaitForNotification(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
