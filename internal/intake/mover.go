package intake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/spool"
	"callbackd/internal/store"
)

const (
	// probeInterval is how often a database that is away is asked whether it is
	// back.
	probeInterval = 500 * time.Millisecond
	// moveTimeout bounds one question or one batch.
	moveTimeout = 10 * time.Second
	// moveCallbacks and moveBytes bound a batch, and so the memory for it.
	moveCallbacks = 500
	moveBytes     = 1 << 20
	// retryTimeout bounds how long a start is held up by unstorable callbacks.
	retryTimeout = time.Minute
)

// Run moves what is in the spool into the database until ctx ends. While there
// is neither an absence nor anything in the spool it sleeps.
func (i *Intake) Run(ctx context.Context) {
	if i.spool == nil {
		return
	}
	for ctx.Err() == nil {
		switch pause := i.step(ctx); {
		case pause > 0:
			sleep(ctx, pause)
		case pause == untilWoken:
			select {
			case <-ctx.Done():
			case <-i.kick:
			case <-time.After(lookInterval): // the spool may have been opened late
			}
		}
	}
}

const (
	// untilWoken is the pause of a mover that has nothing to do.
	untilWoken = -1
	// lookInterval is how often it looks into the spool all the same.
	lookInterval = 10 * time.Second
)

// step does what there is to do once and says how long to pause after it.
func (i *Intake) step(ctx context.Context) time.Duration {
	if i.away.Load() != nil && !i.probe(ctx) {
		return probeInterval
	}
	began := time.Now()
	batch, err := i.next(ctx)
	if err != nil {
		i.setBack() // a disk that fails or stalls is no reason not to use the database
		if ctx.Err() == nil {
			i.o.Log.Error("could not read the spool", zap.Error(err))
		}
		return probeInterval
	}
	if batch.Empty() {
		i.setBack()
		return untilWoken
	}
	if err := i.move(ctx, batch.Callbacks); err != nil {
		if errors.Is(err, errNotSetAside) {
			i.setBack()
			i.o.Log.Error("could not set a callback aside that the database refuses, trying again", zap.Error(err))
			return lookInterval
		}
		if ctx.Err() == nil {
			i.setAway(err)
		}
		return probeInterval
	}
	i.setBack()
	if err := i.done(ctx, batch); err != nil {
		i.o.Log.Error("could not drop moved callbacks from the spool", zap.Error(err))
		return probeInterval
	}
	if left := i.spool.Stats().Callbacks; left == 0 {
		i.o.Log.Info("the spool is empty")
	}
	// At most half of the time, on one of the connections: fresh callbacks go
	// first.
	return time.Since(began)
}

func (i *Intake) next(ctx context.Context) (*spool.Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	return i.spool.Next(ctx, moveCallbacks, moveBytes)
}

// done drops a batch that is in the database, also when the mover is to stop.
func (i *Intake) done(ctx context.Context, batch *spool.Batch) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.o.StoreTimeout)
	defer cancel()
	return i.spool.Done(ctx, batch)
}

// probe asks whether the database is fit again.
func (i *Intake) probe(ctx context.Context) bool {
	asking, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	if err := i.o.Check(asking); err != nil {
		if ctx.Err() == nil {
			i.setAway(err)
		}
		return false
	}
	select {
	case <-i.fit:
	default:
		close(i.fit)
	}
	return true
}

// move stores callbacks in the database. Where a row is at fault they are stored
// one by one, and what the database will not take is set aside.
func (i *Intake) move(ctx context.Context, list []*callback.Callback) error {
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
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	if len(list) == 0 {
		return nil // all of the batch is damaged
	}
	err := i.o.Store.InsertSpooled(ctx, list)
	if err == nil {
		i.metrics.moved.WithLabelValues(movedStored).Add(float64(len(list)))
	}
	return err
}

// setAside keeps a callback that the database will not take: as a rejected one,
// and if it is not taken as that either, in a spool of its own, from which it is
// tried again at the next start.
func (i *Intake) setAside(ctx context.Context, c *callback.Callback, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	fields := []zap.Field{zap.Stringer("request_id", c.ID), zap.String("workflow_execution_id", c.WorkflowExecutionID), zap.NamedError("cause", cause)}
	err := i.o.Store.RejectSpooled(ctx, c, cause)
	if err == nil {
		i.metrics.moved.WithLabelValues(movedRejected).Inc()
		i.o.Log.Error("the database refuses a callback from the spool, it is kept as rejected", fields...)
		return nil
	}
	if !store.BadRow(err) {
		return err
	}
	if i.unstorable == nil {
		if i.unstorable, err = i.openUnstorable(); err != nil {
			return fmt.Errorf("%w: %w", errNotSetAside, err)
		}
	}
	if err := i.unstorable.Append(ctx, c); err != nil {
		return fmt.Errorf("%w: %w", errNotSetAside, err)
	}
	i.metrics.moved.WithLabelValues(movedUnstorable).Inc()
	i.o.Log.Error("the database refuses a callback from the spool, even as a rejected one: it is kept in a directory of its own until the next start",
		append(fields, zap.String("directory", i.unstorableDir()))...)
	return nil
}

// errNotSetAside says nothing of the database: the disk does not take what that
// refuses. The callback stays in the spool, and those behind it wait.
var errNotSetAside = errors.New("the spool of unstorable callbacks does not take one")

func (i *Intake) unstorableDir() string { return filepath.Join(i.o.SpoolDir, "unstorable") }

func (i *Intake) openUnstorable() (*spool.Spool, error) {
	return spool.Open(spool.Options{Dir: i.unstorableDir(), MaxBytes: i.o.SpoolMaxBytes, Log: i.o.Log})
}

// retryUnstorable puts back into the spool what an earlier run had set aside.
// Where there is no room, or the disk stalls, that is left to a later start.
func (i *Intake) retryUnstorable() (err error) {
	if _, err := os.Stat(i.unstorableDir()); os.IsNotExist(err) {
		return nil
	}
	if i.unstorable, err = i.openUnstorable(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), retryTimeout)
	defer cancel()
	for {
		batch, err := i.unstorable.Next(ctx, moveCallbacks, moveBytes)
		if err == nil && batch.Empty() {
			return nil
		}
		if err == nil {
			err = i.putBack(ctx, batch)
		}
		if err != nil {
			i.o.Log.Warn("could not try the unstorable callbacks again", zap.Error(err))
			return nil
		}
	}
}

func (i *Intake) putBack(ctx context.Context, batch *spool.Batch) error {
	for _, c := range batch.Callbacks {
		if err := i.spool.Append(ctx, c); err != nil {
			return err
		}
	}
	return i.unstorable.Done(ctx, batch)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
