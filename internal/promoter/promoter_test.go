package promoter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/queue"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

func TestMain(m *testing.M) {
	// The tests' Postgres lives as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("callbackd/internal/pgserver.(*Server).start.func1"))
}

var noon = time.Date(2021, 1, 21, 12, 0, 0, 0, time.UTC)

// newPromoter makes one that does nothing by itself.
func newPromoter(tb testing.TB, s *storetest.Store) *Promoter {
	tb.Helper()
	q, err := queue.NewInserter(s.DB, workflow.Schedule{0})
	if err != nil {
		tb.Fatal(err)
	}
	return New(Options{
		DB: s.DB, Queue: q, Log: zap.NewNop(),
		Metrics: NewMetrics(prometheus.NewRegistry(), prometheus.NewCounter(prometheus.CounterOpts{Name: "contradicting"})),
	})
}

// insert inserts an ordinary callback with these values.
func insert(t *testing.T, s *storetest.Store, c callback.Callback) *callback.Callback {
	t.Helper()
	c.ID, c.ReceivedAt = uuid.Must(uuid.NewV7()), time.Now()
	storetest.Insert(t, s, &c)
	return &c
}

// However many promoters there are, each callback is promoted once.
func TestPromoteTakesEachCallbackOnce(t *testing.T) {
	s := storetest.New(t)
	p := newPromoter(t, s)
	const n = 300
	for i := range n {
		insert(t, s, callback.Callback{WorkflowExecutionID: fmt.Sprintf("w-%d", i%50), WorkflowStatus: workflow.StatusAcquired})
	}
	var promoting sync.WaitGroup
	for range 4 {
		promoting.Go(func() {
			for {
				taken, err := p.promote(t.Context(), results.Take{Limit: 20}, time.Minute)
				if err != nil {
					t.Errorf("promote: %v", err)
				}
				if taken == 0 || err != nil {
					return
				}
			}
		})
	}
	promoting.Wait()
	if got := storetest.Scalar[int64](t, s, `SELECT sum(callback_count)::bigint FROM jumio.workflow_executions`); got != n {
		t.Errorf("%d deliveries counted, want %d", got, n)
	}
	if got := storetest.Scalar[int64](t, s, `SELECT count(*) FROM jumio.events WHERE type = 'callback_received'`); got != n {
		t.Errorf("%d events callback_received, want %d", got, n)
	}
}

// However many workflow executions name one account, their promotion stays quick.
func TestPromoteManyOfOneAccount(t *testing.T) {
	s := storetest.New(t)
	const before, batch = 100_000, 2000
	storetest.Query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id, account_id, retrieval_state)
		SELECT 'before' || n, 'a', 'pending' FROM generate_series(1, $1::int) AS n`, before)
	storetest.Query(t, s, `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, workflow_status, account_id, body)
		SELECT gen_random_uuid(), now(), '', 'w' || n, 'PROCESSED', 'a', '' FROM generate_series(1, $1::int) AS n`, batch)
	n, err := newPromoter(t, s).promote(t.Context(), results.Take{Limit: batch}, 10*time.Second) // it takes a quarter of a second
	if n != batch || err != nil {
		t.Errorf("%d promoted, %v", n, err)
	}
}

// Whatever rows hold, each that cannot be promoted becomes a dead letter, and
// every other one is promoted in the same round.
func TestPromoteSetsBadRowsAside(t *testing.T) {
	s := storetest.New(t)
	p := newPromoter(t, s)
	storetest.Query(t, s, storetest.Unchecked)
	const n, bad = 200, 7
	for i := range n {
		id := fmt.Sprint("w-", i)
		if i%(n/bad) == 3 {
			id = strings.Repeat("x", 9000)
		}
		storetest.Query(t, s, `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, workflow_status, body)
			VALUES ($1, 'infinity', '', $2, 'ACQUIRED', '{}')`, uuid.Must(uuid.NewV7()), id)
	}
	if _, err := p.promoteNext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM callbackd.inbox`); n > 0 {
		t.Errorf("%d callbacks are left in the inbox", n)
	}
	dead := storetest.Scalar[int](t, s, `SELECT count(*) FROM jumio.rejected_callbacks WHERE reason = 'not_storable: SQLSTATE 23514'`)
	promoted := storetest.Scalar[int](t, s, `SELECT count(*) FROM jumio.workflow_executions`)
	if dead+promoted != n || dead < bad || dead > bad+1 {
		t.Errorf("%d dead letters and %d promoted of %d", dead, promoted, n)
	}
}

// A callback that times out, here because its workflow execution is locked, keeps
// nobody back and is tried again later.
func TestPromoteLeavesWhatTimesOut(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	p := newPromoter(t, s)
	insert(t, s, callback.Callback{WorkflowExecutionID: "locked", WorkflowStatus: "ACQUIRED"})
	if n, err := p.promoteNext(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d promoted, %v", n, err)
	}
	tx, err := s.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM callbackd.workflow_executions FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	stuck := insert(t, s, callback.Callback{WorkflowExecutionID: "locked", WorkflowStatus: "ACQUIRED"})
	other := insert(t, s, callback.Callback{WorkflowExecutionID: "other", WorkflowStatus: "ACQUIRED"})
	if err := (&parts{Promoter: p}).promote(t.Context(), []uuid.UUID{stuck.ID, other.ID}, 0); err != nil {
		t.Fatal(err)
	}
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM jumio.workflow_executions WHERE workflow_execution_id = 'other'`); n != 1 {
		t.Error("the other callback is not promoted")
	}
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM jumio.rejected_callbacks`); n != 0 {
		t.Errorf("%d dead letters, though no values are at fault", n)
	}
	// It is left out now, so that the next round does not wait for it.
	if n, err := p.promoteNext(t.Context()); n != 0 || err != nil {
		t.Errorf("the round after: %d promoted, %v", n, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.postponed = postponed{} // its time has come
	if n, err := p.promoteNext(t.Context()); n != 1 || err != nil {
		t.Errorf("later: %d promoted, %v", n, err)
	}
}

// When all time out, the database is at fault, and only the first of them are put
// off.
func TestPromoteGivesUpOnTheDatabase(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	p := newPromoter(t, s)
	tx, err := s.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `LOCK TABLE callbackd.workflow_executions`); err != nil {
		t.Fatal(err)
	}
	var ids []uuid.UUID
	for i := range 4 {
		ids = append(ids, insert(t, s, callback.Callback{WorkflowExecutionID: fmt.Sprint("w-", i), WorkflowStatus: "ACQUIRED"}).ID)
	}
	if err := (&parts{Promoter: p}).promote(t.Context(), ids, 0); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("promote while a table is locked: %v, want ErrUnavailable", err)
	}
	if n := len(p.postponed.list); n != mostFailed {
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

func TestStalled(t *testing.T) {
	var p Promoter
	if !p.Stalled().IsZero() {
		t.Error("stalled before its start")
	}
	p.progress.Store(time.Now().UnixNano())
	if !p.Stalled().IsZero() {
		t.Error("stalled right after a promotion")
	}
	since := time.Now().Add(-stalledAfter - time.Second)
	p.progress.Store(since.UnixNano())
	if !p.Stalled().Equal(since.Truncate(0)) {
		t.Errorf("stalled since %v, want %v", p.Stalled(), since)
	}
}
