// Package fetcher is the worker: it promotes new callbacks to the state of
// their workflow executions and retrieves results and images from Jumio.
//
// Its jobs, their schedule and the take-over from a dead worker are River's;
// what an answer of Jumio's means is internal/jumio's; every SQL statement is
// internal/store's. It never talks to internal/handler: the database is their
// only corridor.
package fetcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/store"
	"callbackd/internal/tracing"
)

const (
	schema = "callbackd"

	// An attempt is cut off after attemptTimeout; one that had got on is
	// continued at once. A job that has been running for longer than
	// rescueAfter was left by a dead worker: River looks every 30 s, so that
	// another worker takes over within 3 minutes. The gap between the two is
	// what an attempt has for storing its outcome.
	attemptTimeout = 100 * time.Second
	rescueAfter    = 120 * time.Second

	// finishTimeout bounds the storing of an outcome, also during a stop.
	finishTimeout = 10 * time.Second
)

// Options are the worker's settings.
type Options struct {
	Store *store.Store
	Jumio *jumio.Client
	// Schedule is the delay before each attempt.
	Schedule Schedule
	// Workers is how many retrievals run at a time.
	Workers int
	// StopTimeout is how long running attempts may go on after Stop before
	// they are cancelled; a cancelled one costs no attempt.
	StopTimeout time.Duration
	Log         *zap.Logger
	Metrics     *Metrics
	// UserReferenceKey: when not empty, the userReference of details must be signed
	// with it.
	UserReferenceKey string
	// Tracer gets the spans of promotions and attempts; nil for none.
	Tracer *tracing.Tracer
}

// Fetcher promotes and retrieves from Start until Stop.
type Fetcher struct {
	store    *store.Store
	schedule Schedule
	log      *zap.Logger
	metrics  *Metrics
	tracer   *tracing.Tracer
	river    *river.Client[pgx.Tx]
	queue    *queueDriver

	postponed postponed
	// progress is when a promotion last did not fail, in nanoseconds since 1970;
	// 0 before the start.
	progress atomic.Int64

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// New checks the settings and makes the worker; nothing runs before Start.
func New(o Options) (*Fetcher, error) {
	workers := river.NewWorkers()
	err := river.AddWorkerSafely(workers, &worker{
		store: o.Store, jumio: o.Jumio, schedule: o.Schedule, referenceKey: o.UserReferenceKey,
		log: o.Log, metrics: o.Metrics, tracer: o.Tracer, now: time.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("register the retrieval worker: %w", err)
	}
	queue := newQueueDriver(o.Store.Pool())
	client, err := river.NewClient(queue, &river.Config{
		Schema:               schema,
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: o.Workers}},
		Workers:              workers,
		RetryPolicy:          o.Schedule,
		JobTimeout:           attemptTimeout,
		RescueStuckJobsAfter: rescueAfter,
		SoftStopTimeout:      o.StopTimeout,
		FetchCooldown:        5 * time.Millisecond,
		FetchPollInterval:    500 * time.Millisecond,
		// Without the two indexes that migrations/ drops.
		ReindexerIndexNames: []string{
			"river_job_kind", "river_job_pkey", "river_job_prioritized_fetching_index",
			"river_job_state_and_finalized_at_index", "river_job_unique_idx",
		},
		Logger: riverLogger(o.Log),
	})
	if err != nil {
		return nil, fmt.Errorf("set up the job queue: %w", err)
	}
	f := &Fetcher{store: o.Store, schedule: o.Schedule, log: o.Log, metrics: o.Metrics, tracer: o.Tracer, river: client, queue: queue}
	o.Metrics.observeProgress(&f.progress)
	return f, nil
}

// Start begins to promote and to retrieve. It needs the database.
func (f *Fetcher) Start(ctx context.Context) error {
	// River's Start must not end with ctx: Stop ends it, softly.
	if err := f.river.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.progress.Store(time.Now().UnixNano())
	f.running.Go(func() { f.promote(ctx) })
	f.running.Go(func() { f.keepPending(ctx) })
	f.running.Go(func() { f.watchBacklog(ctx) })
	return nil
}

// Stop takes no more jobs, lets running attempts end within StopTimeout, and
// then cancels them. ctx bounds the whole. Without a Start that succeeded there
// is nothing to stop.
func (f *Fetcher) Stop(ctx context.Context) error {
	if f.cancel == nil {
		return nil
	}
	f.cancel()
	err := f.river.Stop(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop the running retrievals: %w", err), f.river.StopAndCancel(ctx))
	}
	f.running.Wait()
	return err
}

// backlogInterval is how often the backlog is counted.
const backlogInterval = 10 * time.Second

func (f *Fetcher) watchBacklog(ctx context.Context) {
	for ctx.Err() == nil {
		f.countBacklog(ctx)
		pause(ctx, backlogInterval)
	}
}

// countBacklog leaves the figures as they were when the database does not answer.
func (f *Fetcher) countBacklog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, backlogInterval)
	defer cancel()
	if b, err := f.store.Backlog(ctx); err == nil {
		f.metrics.observeBacklog(b)
	}
}

// Refetch queues the retrieval of workflow executions again, from attempt 1,
// without a running worker; of the account that is given, unless it is empty. An
// unknown one is an error that wraps store.ErrNotFound, and then nothing is queued.
func Refetch(ctx context.Context, s *store.Store, schedule Schedule, ids []string, accountID string) error {
	client, err := river.NewClient(newQueueDriver(s.Pool()), &river.Config{Schema: schema})
	if err != nil {
		return fmt.Errorf("set up the job queue: %w", err)
	}
	return s.Refetch(ctx, ids, func(ctx context.Context, tx pgx.Tx, retrievals []store.Retrieval) error {
		args := retrievalArgs{Refetch: true, AccountID: accountID}
		return insertJobs(ctx, client, tx, schedule, retrievals, args, noMetadata)
	})
}
