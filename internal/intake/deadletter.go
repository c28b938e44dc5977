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

// retryTimeout limits how long dead letters may delay a start.
const retryTimeout = time.Minute

// errDeadLetter says nothing about the database: the disk does not take what the
// database rejects. The callback and those after it stay in the spool.
var errDeadLetter = errors.New("the spool of dead letters does not take a callback")

// setAside keeps a callback that the database rejects as a dead letter: among the
// rejected callbacks or, if the database rejects that too, in a spool of its own,
// from which the next start tries it again.
func (i *Intake) setAside(ctx context.Context, c *callback.Callback, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	fields := []zap.Field{zap.Stringer("request_id", c.ID), zap.String("workflow_execution_id", c.WorkflowExecutionID), zap.NamedError("cause", cause)}
	err := i.o.Store.RejectSpooled(ctx, c, cause)
	if err == nil {
		i.drained.WithLabelValues(drainedRejected).Inc()
		i.o.Log.Error("the database rejects a callback from the spool, it is a dead letter now", fields...)
		return nil
	}
	if !store.BadRow(err) {
		return err
	}
	if err = i.openDeadLetters(); err == nil {
		err = i.deadLetters.Append(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errDeadLetter, err)
	}
	i.drained.WithLabelValues(drainedUnstorable).Inc()
	i.o.Log.Error("the database rejects a callback from the spool, even as a dead letter: it is kept in a directory of its own until the next start",
		append(fields, zap.String("directory", i.deadLetterDir()))...)
	return nil
}

// deadLetterDir has had this name since the first version.
func (i *Intake) deadLetterDir() string { return filepath.Join(i.o.SpoolDir, "unstorable") }

func (i *Intake) openDeadLetters() (err error) {
	if i.deadLetters == nil {
		i.deadLetters, err = spool.Open(spool.Options{Dir: i.deadLetterDir(), MaxBytes: i.o.SpoolMaxBytes, Log: i.o.Log})
	}
	return err
}

// retryDeadLetters puts the dead letters of an earlier run back into the spool. If
// there is no room, or the disk stalls, a later start does the rest.
func (i *Intake) retryDeadLetters() error {
	if _, err := os.Stat(i.deadLetterDir()); os.IsNotExist(err) {
		return nil
	}
	if err := i.openDeadLetters(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), retryTimeout)
	defer cancel()
	for {
		batch, err := i.deadLetters.Next(ctx, drainCallbacks, drainBytes)
		if err == nil && batch.Empty() {
			return nil
		}
		if err == nil {
			err = i.putBack(ctx, batch)
		}
		if err != nil {
			i.o.Log.Warn("could not try the dead letters again", zap.Error(err))
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
	return i.deadLetters.Done(ctx, batch)
}
