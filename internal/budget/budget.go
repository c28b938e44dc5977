// Package budget spreads the requests to Jumio over all instances that share a database, so
// that together they keep to one rate for each data center.
//
// Time is cut into slots of 1/rate, and a slot is for one request. An instance reserves
// a block of slots in one statement (store/results, ReserveRequests): those after the last
// one that anybody has reserved, by the clock of the database. It sends a request not before
// its slot begins, and not much later (pace.go). A slot that is not used in time is lost. So
// what an instance holds when it dies is free again at once, for it was never more than two
// blocks, of a tenth of a second or one slot each; and without the database nobody gets a
// new slot. Instances take turns, because the database serves them in the order in which
// they ask.
//
// It sends no request, knows no credentials, and lets nothing pass that it cannot account
// for.
package budget

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

// Options are a Budget's settings.
type Options struct {
	DB *store.DB
	// RetrievalRPS is the most retrieval requests a second to one data center, over all
	// instances; above 0. It should be the same on all instances.
	RetrievalRPS float64
	Log          *zap.Logger
}

// Budget is a jumio.Budget. It is safe for concurrent use.
type Budget struct {
	results *results.Store
	log     *zap.Logger
	// ctx ends with Close.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // reservations
	pace    map[jumio.Class]pace

	mu    sync.Mutex
	lanes map[laneKey]*lane
}

type laneKey struct {
	dataCenter string
	class      jumio.Class
}

// New creates a Budget; it asks the database for nothing before the first Wait. Close it.
func New(o Options) *Budget {
	b := &Budget{results: results.New(o.DB), log: o.Log, lanes: make(map[laneKey]*lane)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	retrieval := newPace(o.RetrievalRPS)
	b.pace = map[jumio.Class]pace{
		jumio.ClassRetrieval: retrieval, jumio.ClassReconciliation: retrieval, jumio.ClassAccount: newPace(jumio.AccountRPS),
	}
	return b
}

// Close ends reservations that are under way. The Budget must not be used afterwards.
func (b *Budget) Close() {
	b.cancel()
	b.running.Wait()
}

// Wait returns nil when one request of the class may be sent to the data center: at once,
// since what it may be late is counted. Over all instances on the database, in any t
// seconds, it returns so at most RetrievalRPS*t + RetrievalRPS times for retrieval and
// reconciliation together (for a rate below 1, once more than RetrievalRPS*t), and t + 1
// times for accounts. Each data center has its own budget.
//
// Requests of a class go in the order in which they came. Retrieval goes before
// reconciliation, on all instances: reconciliation takes slots that no retrieval waits for,
// and where retrievals wait, a fourth of all slots, not more.
//
// It returns ctx's error if ctx ends first, or will end before the next slot begins, which
// is context.DeadlineExceeded at once; and another error if the database cannot be asked,
// which is store.ErrUnavailable while it is away.
func (b *Budget) Wait(ctx context.Context, dataCenter string, class jumio.Class) error {
	l := b.lane(dataCenter, class)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		w := l.enter(ctx)
		select {
		case a := <-w.answer:
			switch {
			case a.err != nil:
				return fmt.Errorf("wait for the budget of requests: %w", a.err)
			case !time.Now().After(a.until):
				return nil
			}
			// This goroutine ran too late: the slot is lost.
		case <-ctx.Done():
			l.leave(w)
			return ctx.Err()
		}
	}
}

// resumeTime is how long an instance takes to use its whole rate again.
const resumeTime = time.Minute

// Resume makes this instance slow for a minute with requests to the data center's retrieval
// host, which has been down: it uses at most a tenth of the rate at first, and then evenly
// more up to the whole; of that, a fourth for reconciliation besides. What it leaves is for
// other instances.
func (b *Budget) Resume(dataCenter string) {
	for _, class := range []jumio.Class{jumio.ClassRetrieval, jumio.ClassReconciliation} {
		b.lane(dataCenter, class).resume()
	}
}

func (b *Budget) lane(dataCenter string, class jumio.Class) *lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := laneKey{dataCenter, class}
	l := b.lanes[key]
	if l == nil {
		l = newLane(b, key)
		b.lanes[key] = l
	}
	return l
}
