package intake

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/spool"
	"callbackd/internal/store"
)

const (
	// checkInterval is the time between two checks of the database in an outage.
	checkInterval = 500 * time.Millisecond
	// lookInterval is how often Run looks into the spool without being woken.
	lookInterval = 10 * time.Second
	// drainTimeout limits each step of the work on a batch.
	drainTimeout = 10 * time.Second
	// drainCallbacks and drainBytes limit a batch, and so the memory for it.
	drainCallbacks = 500
	drainBytes     = 1 << 20
	// untilWoken is the pause if there is nothing to do.
	untilWoken = -1
)

// Run drains the spool into the database until ctx ends. It sleeps while there is
// no outage and the spool is empty.
func (i *Intake) Run(ctx context.Context) {
	if i.spool == nil {
		return
	}
	for ctx.Err() == nil {
		pause, kick := i.step(ctx), (<-chan struct{})(nil)
		if pause == untilWoken {
			// Look again even if nobody wakes Run: a full disk may have kept the spool
			// from being opened until now.
			pause, kick = lookInterval, i.kick
		}
		select {
		case <-ctx.Done():
		case <-kick:
		case <-time.After(pause):
		}
	}
}

// step checks the database if there is an outage, drains one batch, and returns how
// long to pause.
func (i *Intake) step(ctx context.Context) time.Duration {
	if i.outage.Load() != nil && !i.check(ctx) {
		return checkInterval
	}
	began := time.Now()
	batch, err := i.next(ctx)
	if err != nil {
		i.endOutage() // the database can be used even if the spool's disk fails
		if ctx.Err() == nil {
			i.o.Log.Error("could not read the spool", zap.Error(err))
		}
		return checkInterval
	}
	if batch.Empty() {
		i.endOutage()
		if err := i.reportSpool(ctx); err != nil && ctx.Err() == nil {
			i.o.Log.Warn("could not report the empty spool, trying again", zap.Error(err))
		}
		return untilWoken
	}
	if err := i.drainReported(ctx, batch.Callbacks); err != nil {
		if errors.Is(err, errDeadLetter) {
			i.endOutage()
			i.o.Log.Error("could not set a callback aside that the database rejects, trying again", zap.Error(err))
			return lookInterval
		}
		if ctx.Err() == nil {
			i.beginOutage(err)
		}
		return checkInterval
	}
	i.endOutage()
	if err := i.done(ctx, batch); err != nil {
		i.o.Log.Error("could not remove drained callbacks from the spool", zap.Error(err))
		return checkInterval
	}
	if i.spool.Stats().Callbacks == 0 {
		i.o.Log.Info("the spool is empty")
	}
	// Fresh callbacks come first: drain for at most half of the time, on one
	// connection.
	return time.Since(began)
}

func (i *Intake) next(ctx context.Context) (*spool.Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	return i.spool.Next(ctx, drainCallbacks, drainBytes)
}

// done removes a batch that is in the database, even if ctx has ended.
func (i *Intake) done(ctx context.Context, batch *spool.Batch) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.o.StoreTimeout)
	defer cancel()
	return i.spool.Done(ctx, batch)
}

// check reports whether the database is fit again.
func (i *Intake) check(ctx context.Context) bool {
	if err := i.o.Check(ctx); err != nil {
		if ctx.Err() == nil {
			i.beginOutage(err)
		}
		return false
	}
	i.setFit()
	return true
}

// drainReported reports that the spool is not empty, then drains a batch. Only a
// database that is away keeps it from draining.
func (i *Intake) drainReported(ctx context.Context, list []*callback.Callback) error {
	if err := i.reportSpool(ctx); errors.Is(err, store.ErrUnavailable) {
		return err
	} else if err != nil && ctx.Err() == nil {
		i.o.Log.Warn("could not report the spool", zap.Error(err))
	}
	return i.drain(ctx, list)
}

// drain stores callbacks in the database. If one of them is at fault, it stores
// them one by one and sets aside what the database rejects.
func (i *Intake) drain(ctx context.Context, list []*callback.Callback) error {
	err := i.insert(ctx, list)
	if !store.BadRow(err) {
		return err
	}
	for _, c := range list {
		err := i.insert(ctx, []*callback.Callback{c})
		if store.BadRow(err) {
			err = i.setAside(ctx, c, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (i *Intake) insert(ctx context.Context, list []*callback.Callback) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if len(list) == 0 {
		return nil // the whole batch is damaged
	}
	err := i.o.Store.InsertSpooled(ctx, list)
	if err == nil {
		i.drained.WithLabelValues(drainedStored).Add(float64(len(list)))
	}
	return err
}
