package fetcher

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
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
	store        *store.Store
	jumio        *jumio.Client
	schedule     Schedule
	referenceKey string
	log          *zap.Logger
	metrics      *Metrics
	tracer       *tracing.Tracer
	now          func() time.Time

	// abandoned are the leases, by job, that could not be given back because the
	// database failed.
	abandoned sync.Map
}

// NextRetry implements river.Worker: River asks it after an attempt that
// failed, and for a job that a dead worker left behind, which is due at once.
func (w *worker) NextRetry(job *river.Job[retrievalArgs]) time.Time {
	now := w.now()
	if job.AttemptedAt != nil && now.Sub(*job.AttemptedAt) >= rescueAfter {
		return now
	}
	return w.schedule.Next(max(job.Args.attempt, 1), now, job.Args.notBefore)
}

// Work implements river.Worker: one attempt, from the lease to its outcome in
// the database. An error makes River schedule the next attempt.
func (w *worker) Work(ctx context.Context, job *river.Job[retrievalArgs]) error {
	if lease, ok := w.abandoned.LoadAndDelete(job.ID); ok {
		w.release(ctx, job.ID, lease.(*store.Lease))
	}
	lease := &store.Lease{
		Retrieval: store.Retrieval{WorkflowExecutionID: job.Args.WorkflowExecutionID, Generation: job.Args.Generation},
		Token:     uuid.New(),
	}
	start := w.now()
	claim, err := w.store.ClaimRetrieval(ctx, lease, rescueAfter)
	job.Args.attempt = min(lease.Attempt, w.schedule.Attempts())
	log := w.log.With(zap.String("workflow_execution_id", lease.WorkflowExecutionID), zap.Int("attempt", job.Args.attempt),
		w.tracer.LogID(lease.WorkflowExecutionID))
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return w.notNow(err, log)
	}

	// A panic leaves the end as it is here.
	a := &attempt{worker: w, lease: lease, claim: claim, args: job.Args, end: codeInternal}
	ctx, span := w.startSpan(ctx, job, a, start)
	defer func() { a.endSpan(span) }()
	if lease.Attempt > w.schedule.Attempts() {
		lease.Attempt = w.schedule.Attempts()
		a.fail(codeInterrupted, "the last attempt was cut off with its worker")
		a.last = true
	} else {
		a.last = lease.Attempt == w.schedule.Attempts()
		a.run(jumio.WithAttempt(ctx))
	}

	a.end = cmp.Or(a.code, attemptOK)
	switch {
	case a.broken != nil:
		a.end = endNotStored
		log.Error("could not store what was retrieved; it is tried again", zap.Error(a.broken))
		w.release(ctx, job.ID, lease)
		return river.JobSnooze(databasePause)
	case errors.Is(ctx.Err(), context.Canceled) && a.code != "":
		w.release(ctx, job.ID, lease)
		return ctx.Err() // a stop: River gives the attempt back
	case ctx.Err() != nil && a.code != "" && a.gotOn:
		w.release(ctx, job.ID, lease)
		return river.JobSnooze(0)
	}
	return w.finish(ctx, job, a, log)
}

// notNow is what River is told of a run that has no lease.
func (w *worker) notNow(err error, log *zap.Logger) error {
	switch {
	case errors.Is(err, store.ErrSuperseded):
		return nil
	case errors.As(err, new(*store.BusyError)):
		return river.JobSnooze(busyPause)
	}
	log.Error("could not begin a retrieval attempt; it is tried again", zap.Error(err))
	return river.JobSnooze(databasePause)
}

// release gives the lease back after a run that shall not count.
func (w *worker) release(ctx context.Context, jobID int64, lease *store.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := w.store.ReleaseRetrieval(ctx, lease); err != nil {
		w.abandoned.Store(jobID, lease)
		w.log.Warn("could not give a lease back; it runs out by itself", zap.Error(err))
	}
}

// finish stores the outcome, with the job's completion if it is the last.
func (w *worker) finish(ctx context.Context, job *river.Job[retrievalArgs], a *attempt, log *zap.Logger) error {
	outcome := a.outcome()
	over := outcome.State != store.Pending
	inTx := func(ctx context.Context, tx pgx.Tx) error {
		if over {
			_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
			return err
		}
		return store.SetJobPriority(ctx, tx, job.ID, a.retryPriority(job.Priority))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	state, err := w.store.FinishAttempt(ctx, a.lease, outcome, inTx)
	switch {
	case errors.Is(err, store.ErrSuperseded):
		a.end = endSuperseded
		log.Info("a newer retrieval has superseded this one")
		w.release(ctx, job.ID, a.lease)
		return nil
	case errors.As(err, new(*store.BusyError)):
		a.end = endSuperseded
		log.Warn("another run has taken the lease over: this one was away for too long")
		return river.JobSnooze(busyPause)
	case err != nil:
		a.end = endNotStored
		w.abandoned.Store(job.ID, a.lease)
		log.Error("could not store the outcome of a retrieval attempt; it is tried again", zap.Error(err))
		return river.JobSnooze(databasePause)
	}
	a.state = state
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
	fields := []zap.Field{zap.String("retrieval_state", string(a.state)), zap.Int("images", a.images)}
	if o.Error != "" {
		fields = append(fields, zap.String("retrieval_error", o.Error))
	}
	if o.Details != nil && a.contradicted(o.Identity) {
		w.metrics.contradicting.Inc()
		log.Warn("callbacks have contradicted what Jumio's details say of the workflow execution; the details hold")
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
