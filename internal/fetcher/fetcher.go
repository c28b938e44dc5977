// Package fetcher retrieves results and images from Jumio: it makes the attempts and
// ensures that every pending retrieval has a job.
//
// It leaves to internal/queue the jobs, their priorities and the takeover from a dead
// worker; to internal/jumio what an answer means; to internal/workflow what an attempt's
// result means and when the next attempt is due. It never talks to internal/handler: the
// database is their only corridor.
package fetcher

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/periodic"
	"callbackd/internal/queue"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/tracing"
	"callbackd/internal/workflow"
)

// Options are a Fetcher's settings.
type Options struct {
	DB       *store.DB
	Queue    *queue.Queue
	Jumio    *jumio.Client
	Schedule workflow.Schedule
	Log      *zap.Logger
	Metrics  *Metrics
	// UserReferenceKey must have signed the userReference of details; empty accepts
	// any.
	UserReferenceKey string
	// Holds reports whether a data center's retrievals are to wait, without an attempt;
	// nil if none ever is.
	Holds func(dataCenter string) bool
	// Tracer receives the spans of attempts; nil for none.
	Tracer *tracing.Tracer
}

// Fetcher looks after pending retrievals from Start until Stop. The queue, while it
// runs, makes the attempts.
type Fetcher struct {
	results *results.Store
	queue   *queue.Queue
	log     *zap.Logger
	metrics *Metrics

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// New creates a Fetcher and adds the worker for retrievals to the queue.
func New(o Options) *Fetcher {
	store := results.New(o.DB)
	if o.Holds == nil {
		o.Holds = func(string) bool { return false }
	}
	queue.AddWorker(o.Queue, &worker{
		results: store, jumio: o.Jumio, schedule: o.Schedule, referenceKey: o.UserReferenceKey,
		log: o.Log, metrics: o.Metrics, tracer: o.Tracer, now: time.Now, holds: o.Holds,
	})
	return &Fetcher{results: store, queue: o.Queue, log: o.Log, metrics: o.Metrics, cancel: func() {}}
}

// Start begins to look after pending retrievals.
func (f *Fetcher) Start(ctx context.Context) {
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.running.Go(func() { periodic.Run(ctx, dueInterval, keepTimeout, f.beginDue) })
	f.running.Go(func() { periodic.Run(ctx, lostInterval, keepTimeout, f.requeueLost) })
	f.running.Go(func() { periodic.Run(ctx, backlogInterval, keepTimeout, f.countBacklog) })
}

// Stop ends what Start began, and returns once it has ended.
func (f *Fetcher) Stop() {
	f.cancel()
	f.running.Wait()
}

// Refetch queues new retrievals of workflow executions, from attempt 1; it needs no
// running worker. accountID, unless empty, replaces the account that callbacks name. If
// an id is unknown, it queues nothing and returns store.ErrNotFound.
func Refetch(ctx context.Context, db *store.DB, schedule workflow.Schedule, ids []string, accountID string) error {
	q, err := queue.NewInserter(db, schedule)
	if err != nil {
		return err
	}
	return results.New(db).InTx(ctx, "queue a refetch", func(tx *results.Tx) error {
		known, err := tx.LockExecutions(ctx, ids)
		if err != nil {
			return err
		}
		var begun []*workflow.Execution
		for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
			e := known[id]
			if e == nil {
				return fmt.Errorf("workflow execution %q: %w", id, store.ErrNotFound)
			}
			e.RetrievalAsksStatus = false
			workflow.Begin(e, time.Now())
			begun = append(begun, e)
		}
		if err := tx.UpdateExecutions(ctx, begun); err != nil {
			return err
		}
		return q.Enqueue(ctx, tx.Tx, retrievals(begun), queue.Retrieval{Refetch: true, AccountID: accountID}, nil)
	})
}

func retrievals(list []*workflow.Execution) []workflow.Retrieval {
	retrievals := make([]workflow.Retrieval, len(list))
	for i, e := range list {
		retrievals[i] = e.Retrieval()
	}
	return retrievals
}
