package budget_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"callbackd/internal/budget"
	"callbackd/internal/jumio"
	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("callbackd/internal/pgserver.(*Server).start.func1"))
}

const dataCenter = "amer-1"

// open creates a Budget as another instance would, with connections of its own.
func open(t testing.TB, dsn string, rps float64) *budget.Budget {
	t.Helper()
	s := storetest.Open(t, dsn)
	b := budget.New(budget.Options{DB: s.DB, RetrievalRPS: rps, Log: zap.NewNop()})
	t.Cleanup(b.Close)
	return b
}

func wait(t *testing.T, b *budget.Budget, class jumio.Class) {
	t.Helper()
	if err := b.Wait(t.Context(), dataCenter, class); err != nil {
		t.Fatalf("wait: %v", err)
	}
}

// traffic is requests that are sent as fast as budgets allow, until some have been sent.
type traffic struct {
	t      *testing.T
	ctx    context.Context
	enough context.CancelFunc
	want   int

	running sync.WaitGroup
	mu      sync.Mutex
	sent    []time.Time
}

// startTraffic begins with nobody who sends; await returns after want requests.
func startTraffic(t *testing.T, want int) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &traffic{t: t, ctx: ctx, enough: cancel, want: want}
}

// by adds senders of requests of one class; the counter counts theirs.
func (tr *traffic) by(b *budget.Budget, senders int, class jumio.Class) *atomic.Int64 {
	var count atomic.Int64
	for range senders {
		tr.running.Go(func() {
			for {
				err := b.Wait(tr.ctx, dataCenter, class)
				if errors.Is(err, store.ErrUnavailable) {
					continue // a busy machine: Postgres did not answer in time
				}
				if err != nil {
					if tr.ctx.Err() == nil {
						tr.t.Errorf("wait: %v", err)
						tr.enough()
					}
					return
				}
				count.Add(1)
				tr.record()
			}
		})
	}
	return &count
}

func (tr *traffic) record() {
	now := time.Now()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.sent = append(tr.sent, now)
	if len(tr.sent) == tr.want {
		tr.enough()
	}
}

func (tr *traffic) await() {
	tr.t.Helper()
	tr.running.Wait()
	if len(tr.sent) < tr.want {
		tr.t.Fatalf("%d requests, want %d", len(tr.sent), tr.want)
	}
	slices.SortFunc(tr.sent, time.Time.Compare)
}

// wantBound demands that any t seconds have seen at most rps*t + rps requests.
func (tr *traffic) wantBound(rps float64) {
	tr.t.Helper()
	for i, first := range tr.sent {
		for j, last := range tr.sent[i:] {
			window := last.Sub(first)
			if bound := rps*window.Seconds() + rps; float64(j+1) > bound {
				tr.t.Fatalf("%d requests in %s, want at most %.1f", j+1, window, bound)
			}
		}
	}
}

// wantUse demands that at least seven tenths of the rate were used. It looks at half of the
// requests, those of them that came fastest: in the others, a busy machine may have kept the
// process from its turn.
func (tr *traffic) wantUse(rps float64) {
	tr.t.Helper()
	half, used := tr.want/2, 0.0
	for i := half; i < tr.want; i++ {
		used = max(used, float64(half)/tr.sent[i].Sub(tr.sent[i-half]).Seconds()/rps)
	}
	if used < 0.7 {
		tr.t.Errorf("%.0f %% of the rate was used, want 70 %%", 100*used)
	}
}
