// Package intake decides where a callback is kept: in the database, or in the
// spool while the database does not take it. It moves what is in the spool into
// the database when that is back.
//
// It speaks neither SQL nor HTTP and knows no file: store and spool do.
package intake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/spool"
	"callbackd/internal/store"
)

// Options are what New needs.
type Options struct {
	Store *store.Store
	// SpoolDir and SpoolMaxBytes are the spool's; an empty SpoolDir means none,
	// and then everything goes to Store.
	SpoolDir      string
	SpoolMaxBytes int64
	// StoreTimeout is how long a callback waits for the spool's disk. That it
	// waits as long for the database is up to Store.
	StoreTimeout time.Duration
	// Check returns nil when the database is fit for callbacks: reachable,
	// writable, its schema new enough.
	Check func(context.Context) error
	// Log and Registerer must be set.
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Intake is the handler's store. It is safe for concurrent use.
type Intake struct {
	o     Options
	spool *spool.Spool // nil when there is none
	// away is set while the database is known not to take callbacks.
	away    atomic.Pointer[absence]
	metrics *metrics
	// kick wakes the mover.
	kick chan struct{}
	// fit is closed when Check has first returned nil.
	fit chan struct{}
	// unstorable is the mover's.
	unstorable *spool.Spool
}

// absence is a time in which the database does not take callbacks.
type absence struct {
	since time.Time
	err   error
}

// New opens the spool. Nothing moves before Run.
func New(o Options) (*Intake, error) {
	i := &Intake{o: o, kick: make(chan struct{}, 1), fit: make(chan struct{})}
	if o.SpoolDir != "" {
		var err error
		i.spool, err = spool.Open(spool.Options{Dir: o.SpoolDir, MaxBytes: o.SpoolMaxBytes, Log: o.Log})
		if err != nil {
			return nil, err
		}
		if err := i.retryUnstorable(); err != nil {
			return nil, errors.Join(err, i.spool.Close())
		}
		if n := i.spool.Stats(); n.Callbacks > 0 {
			o.Log.Info("callbacks of an earlier run are in the spool", zap.Int("callbacks", n.Callbacks),
				zap.Int64("bytes", n.Bytes), zap.Time("oldest", n.Oldest))
		}
	}
	i.metrics = newMetrics(o.Registerer, i)
	return i, nil
}

// Start asks the database once whether it is fit. Where it is merely away and
// there is a spool, callbacks are spooled from the beginning; otherwise the
// error is returned.
func (i *Intake) Start(ctx context.Context) error {
	err := i.o.Check(ctx)
	switch {
	case err == nil:
		close(i.fit)
		return nil
	case i.spool == nil || !errors.Is(err, store.ErrUnavailable):
		return err
	}
	i.setAway(err)
	return nil
}

// Fit is closed once the database has been found fit.
func (i *Intake) Fit() <-chan struct{} { return i.fit }

// InsertCallback returns nil once the callback is durable, and whether it is in
// the spool rather than in the database.
func (i *Intake) InsertCallback(ctx context.Context, c *callback.Callback) (spooled bool, err error) {
	if i.spool == nil {
		return false, i.o.Store.InsertCallback(ctx, c)
	}
	if a := i.away.Load(); a != nil {
		err = a.err
	} else if err = i.o.Store.InsertCallback(ctx, c); err == nil {
		return false, nil
	} else if !store.BadRow(err) {
		// A row at fault is the mover's to set aside; it says nothing of others.
		i.setAway(err)
	}
	appending, cancel := context.WithTimeout(ctx, i.o.StoreTimeout)
	defer cancel()
	if spoolErr := i.spool.Append(appending, c); spoolErr != nil {
		return false, errors.Join(err, spoolErr)
	}
	i.wakeMover()
	return true, nil
}

// InsertRejected keeps a refused request, in the database only: nobody waits for
// a database that is known to be away.
func (i *Intake) InsertRejected(ctx context.Context, r *callback.Rejected) error {
	if a := i.away.Load(); a != nil {
		return a.err
	}
	return i.o.Store.InsertRejected(ctx, r)
}

// Ready returns nil when a callback sent now would be durable, and what an
// operator should know then: empty, unless the spool is in use or cannot be used.
func (i *Intake) Ready(ctx context.Context) (note string, err error) {
	if i.spool == nil {
		return "", i.o.Store.Ready(ctx)
	}
	a := i.away.Load()
	if a == nil {
		if err := i.o.Store.Ready(ctx); err != nil {
			a = &absence{time.Now(), err}
		}
	}
	in := i.spool.Stats()
	if a != nil {
		if err := i.spool.Room(); err != nil {
			return "", fmt.Errorf("%w, and %w", a.err, err)
		}
		return fmt.Sprintf("callbacks are spooled since %s (%s): %s", stamp(a.since), a.err, contents(in)), nil
	}
	var notes []string
	if err := i.spool.Failing(); err != nil {
		notes = append(notes, "the spool takes no callbacks, without the database they would be refused: "+err.Error())
	}
	if in.Callbacks > 0 {
		notes = append(notes, "the spool is being moved into the database: "+contents(in))
	}
	return strings.Join(notes, "; "), nil
}

func contents(in spool.Stats) string {
	text := fmt.Sprintf("%d callbacks, %d bytes", in.Callbacks, in.Bytes)
	if in.Callbacks > 0 {
		text += ", the oldest of " + stamp(in.Oldest)
	}
	return text
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// setAway notes why the database does not take callbacks. The first error opens
// the absence, another one is logged and takes its place.
func (i *Intake) setAway(err error) {
	for {
		a := i.away.Load()
		next := &absence{time.Now(), err}
		if a != nil {
			if a.err.Error() == err.Error() {
				return
			}
			next.since = a.since
		}
		if i.away.CompareAndSwap(a, next) {
			i.o.Log.Error("the database does not take callbacks, they go into the spool",
				zap.Time("since", next.since), zap.Error(err))
			i.wakeMover()
			return
		}
	}
}

// setBack ends an absence.
func (i *Intake) setBack() {
	if a := i.away.Swap(nil); a != nil {
		in := i.spool.Stats()
		i.o.Log.Info("the database takes callbacks again", zap.Duration("away", time.Since(a.since)), zap.Int("spooled", in.Callbacks))
	}
}

func (i *Intake) wakeMover() {
	select {
	case i.kick <- struct{}{}:
	default:
	}
}

// Close ends the spool; what is in it stays. Run must have ended, and no
// callback may be inserted any more.
func (i *Intake) Close() error {
	if i.spool == nil {
		return nil
	}
	err := i.spool.Close()
	if i.unstorable != nil {
		err = errors.Join(err, i.unstorable.Close())
	}
	return err
}
