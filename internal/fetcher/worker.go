package fetcher

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/store"
	"callbackd/internal/tracing"
)

// How long a job stays away that may not, or cannot, begin.
const (
	busyPause     = 2 * time.Second
	databasePause = 5 * time.Second
)

// worker makes the attempts. River runs as many at a time as there are workers.
type worker struct {
	river.WorkerDefaults[retrievalArgs]
	store    *store.Store
	jumio    *jumio.Client
	schedule Schedule
	log      *zap.Logger
	metrics  *Metrics
	tracer   *tracing.Tracer
	now      func() time.Time
}

// NextRetry implements river.Worker: River asks it after an attempt that
// failed, and for a job that a dead worker left behind, which is due at once.
func (w *worker) NextRetry(job *river.Job[retrievalArgs]) time.Time {
	now := w.now()
	if job.AttemptedAt != nil && now.Sub(*job.AttemptedAt) >= rescueAfter {
		return now
	}
	return w.schedule.Next(job.Attempt, now, job.Args.notBefore)
}

// Work implements river.Worker: one attempt, from the lease to its outcome in
// the database. An error makes River schedule the next attempt.
func (w *worker) Work(ctx context.Context, job *river.Job[retrievalArgs]) error {
	lease := store.Lease{
		Retrieval: store.Retrieval{WorkflowExecutionID: job.Args.WorkflowExecutionID, Generation: job.Args.Generation},
		JobID:     job.ID,
		Attempt:   min(job.Attempt, w.schedule.Attempts()),
	}
	log := w.log.With(zap.String("workflow_execution_id", lease.WorkflowExecutionID), zap.Int("attempt", lease.Attempt),
		w.tracer.LogID(lease.WorkflowExecutionID))
	start := w.now()
	claim, err := w.store.ClaimRetrieval(ctx, lease, rescueAfter)
	var busy *store.BusyError
	switch {
	case errors.Is(err, store.ErrSuperseded):
		// An earlier run may have left its lease, because the database failed.
		return w.release(ctx, lease, nil)
	case errors.As(err, &busy):
		return river.JobSnooze(busyPause)
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		log.Error("could not begin a retrieval attempt; it is tried again", zap.Error(err))
		return river.JobSnooze(databasePause)
	}

	// A panic leaves the end as it is here.
	a := &attempt{worker: w, lease: lease, claim: claim, refetch: job.Args.Refetch, end: codeInternal}
	ctx, span := w.startSpan(ctx, job, a, start)
	defer func() { a.endSpan(span) }()
	if job.Attempt > w.schedule.Attempts() {
		a.fail(codeInterrupted, "the last attempt was cut off with its worker")
	} else {
		a.run(jumio.WithAttempt(ctx))
	}

	a.end = cmp.Or(a.code, attemptOK)
	switch {
	case a.broken != nil:
		a.end = endNotStored
		log.Error("could not store what was retrieved; it is tried again", zap.Error(a.broken))
		return w.release(ctx, lease, river.JobSnooze(databasePause))
	case errors.Is(ctx.Err(), context.Canceled) && a.code != "":
		return w.release(ctx, lease, ctx.Err()) // a stop: River gives the attempt back
	case ctx.Err() != nil && a.code != "" && a.gotOn:
		return w.release(ctx, lease, river.JobSnooze(0))
	}
	return w.finish(ctx, job, a, log)
}

// release gives the lease back after a run that shall not count, and passes on
// what River is to be told.
func (w *worker) release(ctx context.Context, lease store.Lease, verdict error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := w.store.ReleaseRetrieval(ctx, lease); err != nil {
		w.log.Warn("could not give a lease back; it runs out by itself", zap.Error(err))
	}
	return verdict
}

// finish stores the outcome, with the job's completion if it is the last.
func (w *worker) finish(ctx context.Context, job *river.Job[retrievalArgs], a *attempt, log *zap.Logger) error {
	outcome := a.outcome(job.Attempt >= w.schedule.Attempts())
	complete := func(ctx context.Context, tx pgx.Tx) error {
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	}
	over := outcome.State != store.Pending
	if !over {
		complete = nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	err := w.store.FinishAttempt(ctx, a.lease, outcome, complete)
	if errors.Is(err, store.ErrSuperseded) {
		a.end = endSuperseded
		log.Info("a newer callback has superseded the retrieval")
		return w.release(ctx, a.lease, nil)
	}
	if err != nil {
		a.end = endNotStored
		log.Error("could not store the outcome of a retrieval attempt; it is tried again", zap.Error(err))
		return river.JobSnooze(databasePause)
	}
	a.state = outcome.State
	w.observe(a, outcome, log)
	if over {
		return nil
	}
	if a.retryAfter > 0 {
		job.Args.notBefore = w.now().Add(a.retryAfter)
	}
	return errors.New(outcome.Error)
}

func (w *worker) observe(a *attempt, o store.Outcome, log *zap.Logger) {
	w.metrics.attempts.WithLabelValues(cmp.Or(a.code, attemptOK)).Inc()
	fields := []zap.Field{zap.String("retrieval_state", string(o.State)), zap.Int("images", a.images)}
	if o.Error != "" {
		fields = append(fields, zap.String("retrieval_error", o.Error))
	}
	if o.State == store.Pending {
		log.Info("retrieval attempt failed", fields...)
		return
	}
	w.metrics.retrievals.WithLabelValues(string(o.State)).Inc()
	if !a.claim.ReceivedAt.IsZero() {
		lag := w.now().Sub(a.claim.ReceivedAt)
		fields = append(fields, zap.Duration("lag", lag))
		if o.State == store.Retrieved || o.State == store.Partial {
			w.metrics.lag.Observe(lag.Seconds())
		}
	}
	log.Info("retrieval ended", fields...)
}

// attemptOK is the metric's outcome of an attempt in which nothing failed.
const attemptOK = "ok"
