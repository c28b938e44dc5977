// Package eraser carries out orders to erase a person or a verification, and deletes what
// others write later of what is erased.
//
// An order is a row that one worker at a time has the lease of; each step is a transaction
// of store/results, so that a kill at any point repeats nothing and forgets nothing. What
// keeps the erased from coming back is not here: whoever could bring them back asks for
// the tombstones in its own transaction.
package eraser

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/periodic"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/workflow"
)

const (
	// interval is how often a worker looks for orders, and for what is to be screened.
	interval = 2 * time.Second
	// screenTimeout bounds a look through what others have written.
	screenTimeout = time.Minute
	countInterval = 15 * time.Second
	// lockedPause is before what a promotion under way has locked is looked at again.
	lockedPause = 50 * time.Millisecond
	// releaseTimeout bounds giving an order back at a stop.
	releaseTimeout = 2 * time.Second
)

// Options are an Eraser's settings.
type Options struct {
	DB    *store.DB
	Jumio *jumio.Client
	// Schedule holds the delay before each attempt to delete at Jumio.
	Schedule workflow.Schedule
	// UserReferenceKey is that of signed user references; empty for none.
	UserReferenceKey string
	// KeyMissing is called, at most once, when something has been erased and the database's
	// key is not that of the erasures: this worker must not store anything any more.
	KeyMissing func(error)
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Eraser runs from Start until Stop.
type Eraser struct {
	Options
	results *results.Store
	metrics *metrics
	missing sync.Once

	running periodic.Group
}

// New creates an Eraser; nothing runs before Start.
func New(o Options) *Eraser {
	return &Eraser{Options: o, results: results.New(o.DB), metrics: newMetrics(o.Registerer)}
}

// Start begins to look for orders.
func (e *Eraser) Start(ctx context.Context) {
	ctx = e.running.Begin(ctx)
	e.running.Run(ctx, interval, 0, e.orders)
	e.running.Run(ctx, interval, screenTimeout, e.screen)
	e.running.Run(ctx, countInterval, countInterval, e.count)
}

// Stop ends what Start began, and returns once it has ended.
func (e *Eraser) Stop() {
	e.running.Stop()
}

// orders carries out what is due. Without the key, other workers have to.
func (e *Eraser) orders(ctx context.Context) {
	if e.DB.ErasureKey.IsZero() {
		return
	}
	for ctx.Err() == nil {
		o, err := e.results.ClaimOrder(ctx)
		if err != nil && ctx.Err() == nil {
			e.Log.Warn("could not look for orders to erase; it will be retried", zap.Error(err))
		}
		if err != nil || o == nil {
			return
		}
		if err := e.carryOut(ctx, o); err != nil {
			e.giveBack(ctx, o, err)
			return
		}
	}
}

// giveBack gives an order back after an error: another worker, or a later look, goes on.
func (e *Eraser) giveBack(ctx context.Context, o *results.Order, cause error) {
	if errors.Is(cause, results.ErrErasureKey) {
		e.keyMissing(cause)
	} else if ctx.Err() == nil && !errors.Is(cause, results.ErrOrderLost) {
		e.Log.Error("could not go on with an order to erase; it will be retried", zap.Stringer("order_id", o.ID), zap.Error(cause))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_ = e.results.ReleaseOrder(ctx, o) // or the lease ends
}

// carryOut does the order's steps until it waits or is over.
func (e *Eraser) carryOut(ctx context.Context, o *results.Order) error {
	if err := e.results.SetErasureKey(ctx); err != nil {
		return err
	}
	before := o.State
	for !o.Waits() {
		if err := e.step(ctx, o); err != nil {
			return err
		}
	}
	log := e.Log.With(zap.Stringer("order_id", o.ID), zap.String("state", string(o.State)))
	switch {
	case o.State == results.OrderDone:
		log.Info("an order to erase is done")
	case o.State == results.OrderFailed:
		log.Error("an order to erase has failed: nothing is deleted but at Jumio what it says is", zap.String("error", o.Error))
	case o.State != before:
		log.Warn("an order to erase is held: a legal hold covers part of it")
	}
	return nil
}

func (e *Eraser) step(ctx context.Context, o *results.Order) error {
	switch o.Step {
	case results.StepReplay:
		return e.results.FindReplayed(ctx, o, e.UserReferenceKey)
	case results.StepResolve:
		return e.results.Resolve(ctx, o, e.UserReferenceKey)
	case results.StepJumio:
		return e.atJumio(ctx, o)
	case results.StepBar:
		return e.results.Bar(ctx, o, e.UserReferenceKey)
	case results.StepExecutions:
		return e.untilUnlocked(ctx, func() (bool, error) { return e.results.EraseNext(ctx, o) })
	case results.StepMentions:
		return e.untilUnlocked(ctx, func() (bool, error) { return e.results.EraseMentions(ctx, o, e.UserReferenceKey) })
	case results.StepRejected:
		return e.rejected(ctx, o)
	case results.StepObjects:
		return e.results.AwaitObjects(ctx, o)
	case results.StepSpools:
		return e.results.AwaitSpools(ctx, o, e.UserReferenceKey)
	default:
		return e.results.Finish(ctx, o)
	}
}

// untilUnlocked pauses after a step that has not got on, because a promotion under way has
// locked what is left.
func (e *Eraser) untilUnlocked(ctx context.Context, step func() (progress bool, err error)) error {
	progress, err := step()
	if err != nil || progress {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(lockedPause):
		return nil
	}
}

func (e *Eraser) rejected(ctx context.Context, o *results.Order) error {
	var last uuid.UUID
	for o.Step == results.StepRejected {
		var err error
		if last, err = e.results.EraseRejected(ctx, o, e.UserReferenceKey, last); err != nil {
			return err
		}
	}
	return nil
}

// screen deletes what others have written of what is erased.
func (e *Eraser) screen(ctx context.Context) {
	if err := e.results.CheckTombstones(ctx); errors.Is(err, results.ErrErasureKey) {
		e.keyMissing(err)
		return
	}
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = e.results.Screen(ctx); err != nil {
			if ctx.Err() == nil {
				e.Log.Warn("could not look through what others have written for what is erased; it will be retried", zap.Error(err))
			}
			return
		}
	}
}

func (e *Eraser) keyMissing(cause error) {
	e.missing.Do(func() {
		e.Log.Error("this worker stops promoting and retrieving: something has been erased, and it cannot tell what; set CALLBACKD_ERASURE_KEY as on the other workers and restart it",
			zap.Error(cause))
		if e.KeyMissing != nil {
			e.KeyMissing(cause)
		}
	})
}

// count leaves the metrics unchanged if the database does not answer.
func (e *Eraser) count(ctx context.Context) {
	if states, oldest, err := e.results.ErasureStates(ctx); err == nil {
		e.metrics.observe(states, oldest)
	}
}
