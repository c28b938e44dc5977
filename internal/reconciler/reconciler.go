// Package reconciler asks Jumio for what no callback has told: how a verification ended
// that was expected, or whose newest callback was not final (guide, "Get Status"). A
// deadline is a reason to ask, never a verdict.
//
// What it finds is taken in by the rules of internal/workflow, like a callback. It
// retrieves nothing itself: internal/fetcher does. Callbacks' retrievals go first.
package reconciler

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"callbackd/internal/jumio"
	"callbackd/internal/periodic"
	"callbackd/internal/queue"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/workflow"
)

const (
	// interval is how often a worker looks for what is to be asked.
	interval = 2 * time.Second
	// batchSize bounds the questions of one look, atOnce those in flight.
	batchSize, atOnce = 20, 4
	// holdFor is how long a worker that has died keeps others from asking. It is longer
	// than askTimeout, and than finishTimeout after it.
	holdFor                   = 90 * time.Second
	askTimeout, finishTimeout = 60 * time.Second, 10 * time.Second
	// heldPause is how long a question waits while Jumio says that its service is down.
	heldPause = 30 * time.Second
	// What has become silent is looked for among the executions with callbacks since
	// recently; once every fullLook among all.
	recently, fullLook = 15 * time.Minute, time.Minute
	// mostAdopted bounds what one look adds.
	mostAdopted   = 1000
	countInterval = 15 * time.Second
)

// Options are a Reconciler's settings.
type Options struct {
	DB    *store.DB
	Queue *queue.Queue
	Jumio *jumio.Client
	// Delays are those of CALLBACKD_RECONCILE_DELAYS; none never asks.
	Delays workflow.Delays
	// SessionTimeout and Grace are part of every deadline.
	SessionTimeout, Grace time.Duration
	// DataCenter is asked about verifications of which nobody has said where they were
	// started; empty if unknown.
	DataCenter string
	// CallbacksDown returns the data centers whose callbacks Jumio reports as DOWN or
	// DEGRADED: they are asked before the deadline.
	CallbacksDown func() []string
	// Holds reports whether a data center's questions are to wait.
	Holds func(dataCenter string) bool
	// UserReferenceKey is that of signed user references; empty for none.
	UserReferenceKey string
	Log              *zap.Logger
	Registerer       prometheus.Registerer
}

// Reconciler runs from Start until Stop; the queue, while it runs, has it look and ask.
type Reconciler struct {
	Options
	results *results.Store
	metrics *metrics

	mu         sync.Mutex
	lookedFull time.Time // when all executions were looked at
	readSince  time.Time // user references of what was expected since then are to be read

	running periodic.Group
}

// New creates a Reconciler and adds its periodic job to the queue.
func New(o Options) *Reconciler {
	r := &Reconciler{Options: o, results: results.New(o.DB), metrics: newMetrics(o.Registerer)}
	queue.AddPeriodic(o.Queue, interval, look{}, &worker{Reconciler: r})
	return r
}

// Start stores the settings that deadlines are made of, and begins to count.
func (r *Reconciler) Start(ctx context.Context) {
	ctx = r.running.Begin(ctx)
	r.running.Go(func() {
		r.storeSettings(ctx)
		periodic.Run(ctx, countInterval, countInterval, r.count)
	})
}

// Stop ends what Start began, and returns once it has ended.
func (r *Reconciler) Stop() {
	r.running.Stop()
}

// storeSettings repeats until the database answers.
func (r *Reconciler) storeSettings(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.results.SetReconciliation(ctx, r.SessionTimeout, r.Grace, r.Delays)
		if err == nil || ctx.Err() != nil {
			return
		}
		r.Log.Warn("could not store the settings of reconciliation; it will be retried", zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}

func (r *Reconciler) count(ctx context.Context) {
	if states, oldest, err := r.results.Expectations(ctx); err == nil {
		r.metrics.observe(states, oldest)
	}
}

// look is the periodic job's arguments.
type look struct{}

// Kind implements river.JobArgs.
func (look) Kind() string { return "reconciliation" }

type worker struct {
	river.WorkerDefaults[look]
	*Reconciler
}

// Work implements river.Worker. It returns no error: what it could not do, a later look
// does.
func (w *worker) Work(ctx context.Context, _ *river.Job[look]) error {
	err := w.look(ctx)
	if err == nil {
		w.metrics.looks.Inc()
	}
	if err != nil && ctx.Err() == nil {
		w.Log.Warn("could not look for verifications without a callback; it will be retried", zap.Error(err))
	}
	return nil
}

// look asks what is due.
func (r *Reconciler) look(ctx context.Context) error {
	if err := r.readReferences(ctx); err != nil {
		return err
	}
	if len(r.Delays) == 0 {
		return nil
	}
	now := time.Now()
	r.mu.Lock()
	since, full := now.Add(-recently-r.SessionTimeout-r.Grace), now.Sub(r.lookedFull) >= fullLook
	if full {
		since, r.lookedFull = time.Time{}, now
	}
	r.mu.Unlock()
	if err := r.results.Adopt(ctx, since, mostAdopted); err != nil {
		return err
	}
	for ctx.Err() == nil {
		asks, err := r.results.LeaseAsks(ctx, results.Asking{Limit: batchSize, HoldFor: holdFor, Early: r.CallbacksDown(), Grace: r.Grace})
		if err != nil || len(asks) == 0 {
			return err
		}
		var group errgroup.Group
		group.SetLimit(atOnce)
		for i := range asks {
			group.Go(func() error { return r.ask(ctx, &asks[i]) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// readReferences reads signed user references of verifications that services have
// started: Postgres has no key.
func (r *Reconciler) readReferences(ctx context.Context) error {
	if r.UserReferenceKey == "" {
		return nil
	}
	r.mu.Lock()
	since, now := r.readSince, time.Now()
	r.mu.Unlock()
	err := r.results.ReadExpectedReferences(ctx, r.UserReferenceKey, since)
	if err == nil {
		r.mu.Lock()
		r.readSince = now.Add(-time.Minute) // a transaction may commit late
		r.mu.Unlock()
	}
	return err
}

// ask asks one question, and stores what it leads to. Its error is ours, not Jumio's.
func (r *Reconciler) ask(ctx context.Context, a *results.Ask) error {
	at := r.address(a)
	if r.Holds(at.DataCenter) {
		return r.results.PostponeAsk(ctx, a, heldPause)
	}
	asked := results.Asked{At: time.Now()}
	asking, cancel := context.WithTimeout(jumio.WithClass(jumio.WithAttempt(ctx), jumio.ClassReconciliation), askTimeout)
	status, _, err := Status(asking, r.Jumio, at)
	cancel()
	finishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	e, _ := errors.AsType[*jumio.Error](err)
	if noBudget := e != nil && e.Code == jumio.CodeNoBudget; noBudget || err != nil && ctx.Err() != nil { // not asked, or a stop
		return r.results.PostponeAsk(finishing, a, 0)
	}
	if status != nil {
		asked.Status, asked.AccountID = status.Status, status.AccountID
	}
	found, err := r.results.FinishAsk(finishing, a, asked, r.Delays, func(tx *results.Tx, e *workflow.Execution) error {
		return r.Queue.Enqueue(finishing, tx.Tx, []workflow.Retrieval{e.Retrieval()}, queue.Retrieval{}, nil)
	})
	if err != nil {
		return err
	}
	r.report(a, asked, found)
	return nil
}

func (r *Reconciler) report(a *results.Ask, asked results.Asked, found results.Found) {
	log := r.Log.With(zap.String("workflow_execution_id", a.WorkflowExecutionID))
	r.metrics.asked.WithLabelValues(outcome(asked.Status, found)).Inc()
	switch {
	case found.Recovered:
		r.metrics.recovered.Inc()
		log.Info("a callback has not come; Jumio was asked, and the verification has ended")
	case found.Overdue:
		log.Warn("a verification is overdue: no final callback has come, and Jumio knows of no end; see `callbackd verification show`")
	default:
		log.Debug("Jumio was asked for a verification without a final callback, and it has not ended")
	}
}

// address returns where to ask.
func (r *Reconciler) address(a *results.Ask) jumio.Workflow {
	w := r.Jumio.Address(a.WorkflowExecutionID, a.DataCenter, a.AccountID, a.WorkflowHref, a.AccountHref)
	w.DataCenter = cmp.Or(w.DataCenter, r.DataCenter)
	return w
}

// Status asks Jumio for the status of a workflow execution: where it is said to be, or if
// nobody has said, in each data center with credentials until one knows it. It returns
// where that was. Errors are of type *jumio.Error.
func Status(ctx context.Context, client *jumio.Client, w jumio.Workflow) (*jumio.StatusResult, jumio.Workflow, error) {
	places := []string{w.DataCenter}
	if w.DataCenter == "" {
		places = client.KnownDataCenters()
	}
	var first error
	for _, w.DataCenter = range places {
		status, err := client.Status(ctx, w)
		if err == nil {
			return status, w, nil
		}
		if first == nil {
			first = err
		}
		e, ok := errors.AsType[*jumio.Error](err)
		if !ok || e.Code != jumio.CodeNotFound && e.Code != jumio.CodeForbidden && e.Code != jumio.CodeUnauthorized {
			return nil, w, err
		}
	}
	return nil, w, first
}
