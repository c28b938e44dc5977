// Package intake decides where a callback is kept: in the database or, during an
// outage, in the spool. When the outage is over, it drains the spool into the
// database.
//
// It knows no SQL, HTTP or files: store and spool do.
package intake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/spool"
	"callbackd/internal/store"
	"callbackd/internal/store/receiving"
)

// Options are the arguments of New.
type Options struct {
	Store *receiving.Store
	// SpoolDir and SpoolMaxBytes are the spool's. If SpoolDir is empty there is no
	// spool, and everything goes to Store.
	SpoolDir      string
	SpoolMaxBytes int64
	// StoreTimeout is how long a callback waits for the spool's disk. Store itself
	// limits the wait for the database.
	StoreTimeout time.Duration
	// Check returns nil if the database is fit for callbacks: reachable, writable,
	// its schema new enough.
	Check func(context.Context) error
	// Log and Registerer must be set.
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Intake is the handler's store. It is safe for concurrent use.
type Intake struct {
	o       Options
	spool   *spool.Spool           // nil if there is none
	outage  atomic.Pointer[outage] // nil while the database takes callbacks
	drained *prometheus.CounterVec
	kick    chan struct{} // wakes Run
	fit     chan struct{} // closed once Check has returned nil
	setFit  func()        // closes fit, once
	// deadLetters is nil while there are none. It belongs to New, then to Run, and so
	// does report.
	deadLetters *spool.Spool
	report      report
}

// outage is a time in which the database does not take callbacks.
type outage struct {
	since time.Time
	err   error
}

// New opens the spool. Run drains it.
func New(o Options) (*Intake, error) {
	i := &Intake{o: o, kick: make(chan struct{}, 1), fit: make(chan struct{})}
	i.setFit = sync.OnceFunc(func() { close(i.fit) })
	if o.SpoolDir != "" {
		var err error
		i.spool, err = spool.Open(spool.Options{Dir: o.SpoolDir, MaxBytes: o.SpoolMaxBytes, Log: o.Log})
		if err != nil {
			return nil, err
		}
		if err := i.retryDeadLetters(); err != nil {
			return nil, errors.Join(err, i.spool.Close())
		}
		if n := i.spool.Stats(); n.Callbacks > 0 {
			o.Log.Info("callbacks of an earlier run are in the spool", zap.Int("callbacks", n.Callbacks),
				zap.Int64("bytes", n.Bytes), zap.Time("oldest", n.Oldest))
		}
	}
	i.drained = newMetrics(o.Registerer, i)
	return i, nil
}

// Start checks the database once. If it is unavailable and there is a spool,
// callbacks are spooled from the beginning; any other error is returned.
func (i *Intake) Start(ctx context.Context) error {
	err := i.o.Check(ctx)
	if err == nil {
		i.setFit()
		return nil
	}
	if i.spool == nil || !errors.Is(err, store.ErrUnavailable) {
		return err
	}
	i.beginOutage(err)
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
	if out := i.outage.Load(); out != nil {
		err = out.err
	} else if err = i.o.Store.InsertCallback(ctx, c); err == nil {
		return false, nil
	} else if !store.BadRow(err) {
		// A bad row is Run's to set aside; it says nothing about other callbacks.
		i.beginOutage(err)
	}
	appending, cancel := context.WithTimeout(ctx, i.o.StoreTimeout)
	defer cancel()
	if spoolErr := i.spool.Append(appending, c); spoolErr != nil {
		return false, errors.Join(err, spoolErr)
	}
	i.wake()
	return true, nil
}

// InsertRejected keeps a rejected request, in the database only. During an outage
// it fails at once.
func (i *Intake) InsertRejected(ctx context.Context, r *callback.Rejected) error {
	if out := i.outage.Load(); out != nil {
		return out.err
	}
	return i.o.Store.InsertRejected(ctx, r)
}

// Ready returns nil if a callback sent now would be durable. The note is what an
// operator should know even so: that the spool is in use or cannot be used.
func (i *Intake) Ready(ctx context.Context) (note string, err error) {
	if i.spool == nil {
		return "", i.o.Store.Ready(ctx)
	}
	out := i.outage.Load()
	if out == nil {
		if err := i.o.Store.Ready(ctx); err != nil {
			out = &outage{time.Now(), err}
		}
	}
	in := i.spool.Stats()
	if out != nil {
		if err := i.spool.Room(); err != nil {
			return "", fmt.Errorf("%w, and %w", out.err, err)
		}
		return fmt.Sprintf("callbacks are spooled since %s (%s): %s", stamp(out.since), out.err, contents(in)), nil
	}
	var notes []string
	if err := i.spool.Failing(); err != nil {
		notes = append(notes, "the spool takes no callbacks, in an outage of the database they would be rejected: "+err.Error())
	}
	if in.Callbacks > 0 {
		notes = append(notes, "the spool is being drained into the database: "+contents(in))
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

// beginOutage records why the database does not take callbacks. If there is an
// outage already, it goes on; a new reason replaces the old one and is logged.
func (i *Intake) beginOutage(err error) {
	for {
		old := i.outage.Load()
		next := &outage{time.Now(), err}
		if old != nil {
			if old.err.Error() == err.Error() {
				return
			}
			next.since = old.since
		}
		if i.outage.CompareAndSwap(old, next) {
			i.o.Log.Error("the database does not take callbacks, they go into the spool",
				zap.Time("since", next.since), zap.Error(err))
			i.wake()
			return
		}
	}
}

func (i *Intake) endOutage() {
	if out := i.outage.Swap(nil); out != nil {
		i.o.Log.Info("the database takes callbacks again", zap.Duration("outage", time.Since(out.since)),
			zap.Int("spooled", i.spool.Stats().Callbacks))
	}
}

// wake wakes Run.
func (i *Intake) wake() {
	select {
	case i.kick <- struct{}{}:
	default:
	}
}

// Close closes the spool; its callbacks stay in it. Run must have ended, and no
// callback may be inserted any more.
func (i *Intake) Close() error {
	var errs []error
	for _, s := range []*spool.Spool{i.spool, i.deadLetters} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
