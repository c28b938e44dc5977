package fetcher

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"go.uber.org/zap"

	"callbackd/internal/imagestore"
	"callbackd/internal/jumio"
	"callbackd/internal/queue"
	"callbackd/internal/store/results"
	"callbackd/internal/tracing"
	"callbackd/internal/workflow"
)

const (
	// busyPause is how long a job waits for another run of its workflow execution.
	busyPause = 2 * time.Second
	// holdPause is how long a retrieval waits at first, and on average, while Jumio says
	// that its service is down; each time twice as long.
	holdPause, longestHoldPause = 10 * time.Second, 2 * time.Minute
	// If the database fails, the run is repeated after databasePause; while images cannot
	// be stored, after twice as long each time.
	databasePause, longestDatabasePause = 5 * time.Second, 10 * time.Minute
	// finishTimeout bounds storing an outcome, also during a stop.
	finishTimeout = 10 * time.Second
)

// worker makes the attempts. River calls it from several goroutines at once.
type worker struct {
	river.WorkerDefaults[queue.Retrieval]
	results      *results.Store
	jumio        *jumio.Client
	schedule     workflow.Schedule
	referenceKey string
	imageStore   imagestore.Store   // nil for the database
	sealer       *imagestore.Sealer // nil for no encryption
	log          *zap.Logger
	metrics      *Metrics
	tracer       *tracing.Tracer
	now          func() time.Time
	// holds reports whether Jumio says that a data center's retrievals are down.
	holds func(dataCenter string) bool

	// unreleased has, by job, the attempts whose leases could not be given back
	// because the database failed.
	unreleased sync.Map
	// pauses are the latest ones of jobs whose results could not be stored, or that Jumio's
	// health holds back.
	pauses sync.Map
}

// NextRetry implements river.Worker: River calls it after a failed attempt, and for a
// job that a dead worker left behind, which is due at once.
func (w *worker) NextRetry(job *river.Job[queue.Retrieval]) time.Time {
	now := w.now()
	if job.AttemptedAt != nil && now.Sub(*job.AttemptedAt) >= queue.RescueAfter {
		return now
	}
	return w.schedule.Next(max(job.Args.Attempt, 1), now, job.Args.NotBefore)
}

// Work implements river.Worker: it makes one attempt, from the lease to the stored
// outcome. An error makes River schedule the next attempt.
func (w *worker) Work(ctx context.Context, job *river.Job[queue.Retrieval]) error {
	if a, ok := w.unreleased.LoadAndDelete(job.ID); ok {
		w.release(ctx, job.ID, a.(*attempt))
	}
	a := &attempt{worker: w, args: job.Args, lease: &results.Lease{
		Retrieval: workflow.Retrieval{WorkflowExecutionID: job.Args.WorkflowExecutionID, Generation: job.Args.Generation},
		Token:     uuid.New(),
	}}
	start := w.now()
	var err error
	a.claim, err = w.results.ClaimRetrieval(ctx, a.lease, queue.RescueAfter)
	attempts := w.schedule.Attempts()
	job.Args.Attempt = min(a.lease.Attempt, attempts)
	a.args.Attempt = job.Args.Attempt
	log := w.log.With(zap.String("workflow_execution_id", a.lease.WorkflowExecutionID), zap.Int("attempt", job.Args.Attempt),
		w.tracer.LogID(a.lease.WorkflowExecutionID))
	if err != nil {
		return notNow(ctx, err, log)
	}

	if dataCenter := a.named(a.claimed()).DataCenter; w.holds(dataCenter) {
		log.Debug("retrieval held back: Jumio says that the service is down", zap.String("data_center", dataCenter))
		w.release(ctx, job.ID, a)
		return river.JobSnooze(w.held(job.ID))
	}

	end := codeInternal // after a panic
	ctx, span := w.startSpan(ctx, job, a, start)
	defer func() { a.endSpan(span, end) }()
	if a.lease.Attempt > attempts {
		a.lease.Attempt = attempts
		err = fail(codeInterrupted, "the last attempt was cut off with its worker")
	} else {
		err = a.run(jumio.WithAttempt(ctx))
	}
	f, ofJumio := errors.AsType[*failure](err)
	switch {
	case lostLease(err):
		end = endSuperseded
		log.Warn("another run, a newer retrieval or an erasure has taken over; this run stores nothing more")
		return river.JobSnooze(busyPause)
	case errors.Is(ctx.Err(), context.Canceled) && err != nil && !ofJumio:
		end = endNotStored
		w.release(ctx, job.ID, a)
		return ctx.Err()
	case err != nil && !ofJumio:
		end = endNotStored
		log.Error("could not store what was retrieved; it will be retried", zap.Error(err))
		w.release(ctx, job.ID, a)
		return w.notStored(job.ID)
	case errors.Is(ctx.Err(), context.Canceled) && err != nil:
		end = f.code
		w.release(ctx, job.ID, a)
		return ctx.Err() // a stop: River gives the attempt back
	case err != nil && f.code == jumio.CodeNoBudget:
		end = f.code
		log.Error("could not ask the database for the budget of requests; the attempt will be repeated", zap.Error(err))
		w.release(ctx, job.ID, a)
		return w.notStored(job.ID)
	case ctx.Err() != nil && err != nil && a.gotOn():
		end = f.code
		w.release(ctx, job.ID, a)
		return river.JobSnooze(0)
	}
	end, err = w.finish(ctx, job, a, f, log)
	return err
}

// notNow returns what to tell River about a run that could not get the lease.
func notNow(ctx context.Context, err error, log *zap.Logger) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, results.ErrSuperseded), errors.Is(err, results.ErrErased):
		return nil
	case errors.Is(err, results.ErrBusy):
		return river.JobSnooze(busyPause)
	}
	log.Error("could not begin a retrieval attempt; it will be retried", zap.Error(err))
	return river.JobSnooze(databasePause)
}

// notStored has River repeat a run that the database has failed, ever later while that
// goes on: each repetition asks Jumio again for what is not stored.
func (w *worker) notStored(jobID int64) error {
	return river.JobSnooze(w.pauseLonger(jobID, databasePause, longestDatabasePause))
}

// pauseLonger returns a job's next pause: twice its latest, within these bounds.
func (w *worker) pauseLonger(jobID int64, least, most time.Duration) time.Duration {
	last, _ := w.pauses.Load(jobID)
	pause, _ := last.(time.Duration)
	pause = min(max(2*pause, least), most)
	w.pauses.Store(jobID, pause)
	return pause
}

// held returns how long a job waits that Jumio's health holds back: at random, so that
// what has waited for the same end does not come back at once.
func (w *worker) held(jobID int64) time.Duration {
	pause := w.pauseLonger(jobID, holdPause, longestHoldPause)
	return pause/2 + rand.N(pause)
}

// release gives the lease back after a run that must not count, and stores the details
// that it fetched.
func (w *worker) release(ctx context.Context, jobID int64, a *attempt) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := w.results.ReleaseRetrieval(ctx, a.lease, a.read(), a.identity()); err != nil && !errors.Is(err, results.ErrErased) {
		w.unreleased.Store(jobID, a)
		w.log.Warn("could not release a lease; it will expire", zap.Error(err))
	}
}

// finish stores the outcome and, if the retrieval is over, completes the job. It returns
// the attempt's outcome for the metrics and what to tell River.
func (w *worker) finish(ctx context.Context, job *river.Job[queue.Retrieval], a *attempt, f *failure, log *zap.Logger) (end string, err error) {
	last := a.lease.Attempt == w.schedule.Attempts()
	conclusion := workflow.Conclude(a.result(f, last), a.claim.ResultState)
	over := conclusion.Outcome != workflow.Pending
	storing, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	err = w.results.FinishAttempt(storing, a.lease, a.outcome(conclusion), func(tx *results.Tx) error {
		if over {
			return queue.Complete(storing, tx.Tx, job.ID)
		}
		return queue.SetPriority(storing, tx.Tx, job.ID, a.retryPriority(job.Priority))
	})
	switch {
	case errors.Is(err, results.ErrSuperseded):
		log.Info("a newer retrieval has superseded this one")
		w.pauses.Delete(job.ID)
		w.release(ctx, job.ID, a)
		return endSuperseded, nil
	case errors.Is(err, results.ErrErased):
		w.pauses.Delete(job.ID)
		return endSuperseded, nil
	case errors.Is(err, results.ErrBusy):
		log.Warn("another run has taken over the lease; this one took too long")
		return endSuperseded, river.JobSnooze(busyPause)
	case err != nil:
		w.unreleased.Store(job.ID, a)
		log.Error("could not store the outcome of a retrieval attempt; it will be retried", zap.Error(err))
		return endNotStored, river.JobSnooze(databasePause)
	}
	end = attemptOK
	if f != nil {
		end = f.code
	}
	a.state = conclusion.State
	w.pauses.Delete(job.ID)
	w.observe(a, conclusion, end, log)
	if over {
		return end, nil
	}
	if f.retryAfter > 0 {
		job.Args.NotBefore = w.now().Add(f.retryAfter)
	}
	return end, errors.New(conclusion.Error)
}

// observe counts and logs a stored attempt.
func (w *worker) observe(a *attempt, c workflow.Conclusion, end string, log *zap.Logger) {
	w.metrics.attempts.WithLabelValues(end).Inc()
	if a.details != nil {
		w.metrics.observeUnreadable(a.parsed.Unreadable)
	}
	fields := []zap.Field{zap.String("retrieval_state", string(c.State)), zap.Int("images", a.images)}
	if c.Error != "" {
		fields = append(fields, zap.String("retrieval_error", c.Error))
	}
	if a.contradicted() {
		w.metrics.Contradicting.Inc()
		log.Warn("callbacks contradict Jumio's details of the workflow execution; the details win")
	}
	if c.Outcome == workflow.Pending {
		log.Info("retrieval attempt failed", fields...)
		return
	}
	w.metrics.retrievals.WithLabelValues(string(c.Outcome)).Inc()
	if !a.claim.RetrievalReceivedAt.IsZero() {
		lag := w.now().Sub(a.claim.RetrievalReceivedAt)
		fields = append(fields, zap.Duration("lag", lag))
		if c.Outcome == workflow.Retrieved || c.Outcome == workflow.Partial {
			w.metrics.lag.Observe(lag.Seconds())
		}
	}
	log.Info("retrieval ended", fields...)
}

// attemptOK is the outcome, in the metric, of an attempt without a failure.
const attemptOK = "ok"
