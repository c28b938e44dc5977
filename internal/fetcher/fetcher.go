// Package fetcher retrieves results and images from Jumio: it makes the attempts and
// ensures that every pending retrieval has a job.
//
// It leaves to internal/queue the jobs, their priorities and the takeover from a dead
// worker; to internal/jumio what an answer means; to internal/workflow what an attempt's
// result means and when the next attempt is due. It never talks to internal/handler: the
// database is their only corridor.
package fetcher

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/imagestore"
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
	// ImageStore takes the images; nil for the database.
	ImageStore imagestore.Store
	// Sealer encrypts them; nil for no encryption.
	Sealer *imagestore.Sealer
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

	running periodic.Group
}

// New creates a Fetcher and adds the worker for retrievals to the queue.
func New(o Options) *Fetcher {
	store := results.New(o.DB)
	if o.Holds == nil {
		o.Holds = func(string) bool { return false }
	}
	queue.AddWorker(o.Queue, &worker{
		results: store, jumio: o.Jumio, schedule: o.Schedule, referenceKey: o.UserReferenceKey,
		imageStore: o.ImageStore, sealer: o.Sealer,
		log: o.Log, metrics: o.Metrics, tracer: o.Tracer, now: time.Now, holds: o.Holds,
	})
	return &Fetcher{results: store, queue: o.Queue, log: o.Log, metrics: o.Metrics}
}

// Start begins to look after pending retrievals.
func (f *Fetcher) Start(ctx context.Context) {
	ctx = f.running.Begin(ctx)
	f.running.Run(ctx, dueInterval, keepTimeout, f.beginDue)
	f.running.Run(ctx, lostInterval, keepTimeout, f.requeueLost)
	f.running.Run(ctx, backlogInterval, keepTimeout, f.countBacklog)
}

// Stop ends what Start began, and returns once it has ended.
func (f *Fetcher) Stop() {
	f.running.Stop()
}

// Refetch queues new retrievals of workflow executions, from attempt 1; it needs no
// running worker. accountID, unless empty, replaces the account that callbacks name. If
// an id is unknown, it queues nothing and returns store.ErrNotFound; if one is erased,
// results.ErrErased.
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
			if err := tx.NotErased(ctx, id, cmp.Or(accountID, e.AccountID)); err != nil {
				return fmt.Errorf("workflow execution %q: %w", id, err)
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
