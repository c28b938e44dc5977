package consuming

import (
	"context"
	"errors"
	"sync"
	"time"

	"callbackd/internal/store"
)

const (
	// pollInterval is how long an event may wait whose notification is lost.
	pollInterval = 5 * time.Second
	// retryInterval is how often a database that is away is tried.
	retryInterval = time.Second
	// lockTimeout bounds the wait for another instance of the consumer. It is longer than
	// the 60 s for which an idle transaction (store.Open) can hold the lock.
	lockTimeout = 90 * time.Second
	// commitTimeout bounds what is left to do once events are handled.
	commitTimeout = 10 * time.Second
)

// Options are whom Follow is for, and what it calls.
type Options struct {
	// Consumer is the name whose place jumio.consumers keeps; empty for none.
	Consumer string
	// From is where a new consumer starts, or one without a name. One that exists goes on
	// from its place.
	From From
	// Handle is called with the next events, in order. Its error ends Follow. The consumer
	// is moved on when it returns nil, so events are handled again if that fails and the
	// process ends.
	Handle func([]Event) error
	// Outage is called with an error when the database has gone away, and with nil when it
	// is back.
	Outage func(error)
}

// Follow handles events until ctx ends, and then returns nil. The database must be there at
// the start; later outages are waited out.
func Follow(ctx context.Context, db *store.DB, o Options) error {
	f := &follower{Options: o, db: db}
	err := f.start(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	wake := make(chan struct{}, 1)
	var listening sync.WaitGroup
	listening.Go(func() { f.listen(ctx, wake) })
	defer listening.Wait()
	defer cancel()
	return f.run(ctx, wake)
}

// follower follows events. Its place is the last event that it has handled, also if the
// database has not heard of that.
type follower struct {
	Options
	db    *store.DB
	place int64
}

func (f *follower) start(ctx context.Context) (err error) {
	if f.Consumer == "" {
		f.place, err = before(ctx, f.db.Pool(), f.From)
		err = translate("find where to start", err)
	} else {
		f.place, err = place(ctx, f.db, f.Consumer, f.From)
	}
	return err
}

// listen wakes run when there may be events. While it cannot, as on a standby, run polls.
func (f *follower) listen(ctx context.Context, wake chan<- struct{}) {
	for ctx.Err() == nil {
		_ = f.db.ListenEvents(ctx, func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
}

// run handles batches, and waits when there are no more events.
func (f *follower) run(ctx context.Context, wake <-chan struct{}) error {
	away := false
	for {
		full, err := f.batch(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end that was asked for, whatever it cut short
		}
		wait := pollInterval
		switch {
		case errors.Is(err, store.ErrUnavailable):
			wait = retryInterval
			if !away {
				f.Outage(err)
			}
			away = true
		case err != nil:
			return err
		case away:
			away = false
			f.Outage(nil)
		}
		if full {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-time.After(wait):
		}
	}
}

// batch handles the next events, and reports whether more may follow at once.
func (f *follower) batch(ctx context.Context) (full bool, err error) {
	if f.Consumer != "" {
		return f.batchOfConsumer(ctx)
	}
	events, err := read(ctx, f.db.Pool(), f.place)
	if err != nil {
		return false, translate("read events", err)
	}
	return f.handle(events)
}

// batchOfConsumer is batch under the consumer's lock, so that no other instance handles the
// same events.
func (f *follower) batchOfConsumer(ctx context.Context) (full bool, err error) {
	locking, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	tx, err := f.db.Pool().Begin(locking)
	if err != nil {
		return false, translate("begin a batch of events", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
		defer cancel()
		_ = tx.Rollback(ctx) // does nothing after the commit
	}()
	stored, err := lock(locking, tx, f.Consumer)
	if err != nil {
		return false, translate("lock a consumer", err)
	}
	f.place = max(f.place, stored)
	events, err := read(locking, tx, f.place)
	if err != nil {
		return false, translate("read events", err)
	}
	if full, err = f.handle(events); err != nil || f.place == stored {
		return false, err
	}
	// What is handled is said to be, even if ctx has ended meanwhile.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if err := handled(ending, tx, f.Consumer, f.place); err != nil {
		return false, translate("move a consumer on", err)
	}
	return full, translate("move a consumer on", tx.Commit(ending))
}

func (f *follower) handle(events []Event) (full bool, err error) {
	if len(events) == 0 {
		return false, nil
	}
	if err := f.Handle(events); err != nil {
		return false, err
	}
	f.place = events[len(events)-1].ID
	return len(events) == batchSize, nil
}
