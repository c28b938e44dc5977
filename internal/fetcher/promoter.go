package fetcher

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"callbackd/internal/store"
)

const (
	// promoteBatch is how many callbacks one transaction promotes at most. While
	// they come in at full rate, 500 fall behind and 2000 keep up: a commit, and
	// the passage of the events' lock, serve four times as many.
	promoteBatch = 2000
	// promotePoll is for notifications that were lost.
	promotePoll = 2 * time.Second
	// promoteTimeout ends a batch that hangs, on a connection that is half dead
	// for example. Parts of a batch have less, down to leastTimeout.
	promoteTimeout = 30 * time.Second
	leastTimeout   = 5 * time.Second
	// promotePause is the wait after the database failed.
	promotePause = time.Second
	// idlePause keeps those who may notify from having the inbox read all the time.
	idlePause = 5 * time.Millisecond
	// A callback that cannot be promoted though its values are not at fault is
	// left for firstPostponement, and for twice as long each further time.
	firstPostponement, longestPostponement = 10 * time.Second, 10 * time.Minute
	// stalledAfter is how long a promoter may take for a batch and all its parts
	// before it is said to make no progress.
	stalledAfter = 90 * time.Second
)

// promote takes new callbacks until ctx ends, woken by notifications. Where more
// wait than one batch takes, a second promoter helps: at full rate one alone
// does not get enough of the processors beside all that receives.
func (f *Fetcher) promote(ctx context.Context) {
	woken, behind := make(chan struct{}, 1), make(chan struct{}, 1)
	f.running.Go(func() { f.listen(ctx, woken) })
	f.running.Go(func() { f.help(ctx, behind) })
	for ctx.Err() == nil {
		n, err := f.promoteNext(ctx)
		wait := promotePoll
		switch {
		case err != nil && ctx.Err() == nil:
			f.log.Error("could not promote callbacks; they stay where they are and are tried again", zap.Error(err))
			wait = promotePause
		case n == promoteBatch:
			signal(behind)
			continue
		case n > 0:
			f.log.Debug("promoted callbacks", zap.Int("count", n))
		default:
			pause(ctx, idlePause)
		}
		select {
		case <-ctx.Done():
		case <-woken:
		case <-time.After(wait):
		}
	}
}

// help promotes whenever the promoter is behind, until a batch is not full. What
// fails here the promoter will report.
func (f *Fetcher) help(ctx context.Context, behind <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-behind:
		}
		for {
			if n, err := f.promoteBatch(ctx, f.oldest(), promoteTimeout); n < promoteBatch || err != nil {
				break
			}
		}
	}
}

// signal does not wait for who is to be woken.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// oldest is a whole batch of those whose turn it is.
func (f *Fetcher) oldest() store.Take {
	return store.Take{Limit: promoteBatch, Except: f.postponed.now(time.Now())}
}

// promoteNext promotes the oldest callbacks. Where some of them keep the others
// from being promoted, it finds them and sets them aside.
func (f *Fetcher) promoteNext(ctx context.Context) (int, error) {
	take := f.oldest()
	n, err := f.promoteBatch(ctx, take, promoteTimeout)
	if !store.OfBatch(err) {
		return n, err
	}
	f.log.Warn("a batch of callbacks could not be promoted; it is tried in parts", zap.Error(err))
	ids, err := f.store.Inbox(ctx, take)
	if err != nil {
		return 0, err
	}
	return len(ids), new(parts).promote(ctx, f, ids, promoteTimeout)
}

// parts is a batch that failed, tried in parts.
type parts struct {
	// failed is how many callbacks in a row could not be promoted though their
	// values are not at fault.
	failed int
}

// mostFailed callbacks in a row mean that the database is at fault, not they.
const mostFailed = 2

// promote halves the batch until what is at fault is alone, and sets that aside. An
// error is the database's, not a callback's.
func (p *parts) promote(ctx context.Context, f *Fetcher, ids []uuid.UUID, timeout time.Duration) error {
	timeout = max(timeout/2, leastTimeout)
	half := len(ids) / 2
	for _, part := range [][]uuid.UUID{ids[:half], ids[half:]} {
		if len(part) == 0 {
			continue
		}
		_, err := f.promoteBatch(ctx, store.Take{Limit: len(part), Only: part}, timeout)
		switch {
		case err == nil:
			p.failed = 0
		case !store.OfBatch(err):
			return err
		case len(part) > 1:
			err = p.promote(ctx, f, part, timeout)
		default:
			if !store.BadRow(err) {
				p.failed++
			}
			cause := err
			if err = f.setAside(ctx, part[0], cause); err == nil && p.failed >= mostFailed {
				err = cause
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setAside keeps a callback from holding back others: as a dead letter if its own
// values are at fault; otherwise it is left for a while.
func (f *Fetcher) setAside(ctx context.Context, id uuid.UUID, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if store.BadRow(cause) {
		asking, cancel := context.WithTimeout(ctx, leastTimeout)
		defer cancel()
		reason, err := f.store.DeadLetter(asking, id, cause)
		if err == nil {
			f.progress.Store(time.Now().UnixNano())
			if reason != "" {
				f.log.Error("a callback cannot be promoted and is a dead letter: see `callbackd rejected show`, and try it again with `callbackd rejected replay`",
					zap.Stringer("callback_id", id), zap.String("reason", reason))
			}
			return nil
		}
		if !store.OfBatch(err) {
			return err
		}
		cause = err
	}
	until := f.postponed.add(id, time.Now())
	f.log.Error("a callback cannot be promoted now; others go before it", zap.Stringer("callback_id", id), zap.Time("until", until), zap.Error(cause))
	return nil
}

// batch is what one promotion has seen.
type batch struct {
	f      *Fetcher
	traced *tracedBatch // nil without tracing
	now    time.Time
	future int
	jobs   bool // some were enqueued
	// contradicting are callbacks, and whose they are.
	contradicting []contradiction
}

type contradiction struct {
	callbackID          uuid.UUID
	workflowExecutionID string
}

// begin is a store.Promotion's.
func (b *batch) begin() {
	b.now, b.future, b.jobs, b.contradicting = time.Now(), 0, false, nil
	if b.traced != nil {
		b.traced.begin()
	}
}

// apply is a store.Promotion's.
func (b *batch) apply(w *store.WorkflowExecution, d *store.Delivery) []store.Event {
	generation := w.RetrievalGeneration
	c := apply(w, d, b.now)
	if c.future {
		b.future++
	}
	if c.contradicts {
		b.contradicting = append(b.contradicting, contradiction{d.CallbackID, w.ID})
	}
	if b.traced != nil {
		b.traced.follow(w, d, w.RetrievalGeneration != generation)
	}
	return c.events
}

// end counts what is committed, and has this process begin with the jobs at once.
func (b *batch) end() {
	b.traced.end()
	if b.jobs {
		b.f.queue.wake()
	}
	b.f.metrics.future.Add(float64(b.future))
	b.f.metrics.contradicting.Add(float64(len(b.contradicting)))
	const mostLogged = 5
	for _, c := range b.contradicting[:min(len(b.contradicting), mostLogged)] {
		b.f.log.Warn("a callback contradicts what Jumio's details say of its workflow execution; the details hold",
			zap.Stringer("callback_id", c.callbackID), zap.String("workflow_execution_id", c.workflowExecutionID))
	}
}

func (f *Fetcher) promoteBatch(ctx context.Context, take store.Take, timeout time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	b := &batch{f: f}
	if f.tracer != nil {
		b.traced = &tracedBatch{tracer: f.tracer}
	}
	n, err := f.store.Promote(ctx, take, store.Promotion{
		Begin: b.begin, Apply: b.apply,
		Enqueue: func(ctx context.Context, tx pgx.Tx, retrievals []store.Retrieval) error {
			b.jobs = true
			return f.enqueue(ctx, tx, retrievals, b.traced.metadata)
		},
	})
	if err != nil {
		return 0, err
	}
	f.progress.Store(time.Now().UnixNano())
	b.end()
	return n, nil
}

// listen passes the notifications on and connects anew when the connection is
// lost; meanwhile the polls go on.
func (f *Fetcher) listen(ctx context.Context, woken chan<- struct{}) {
	for ctx.Err() == nil {
		err := f.store.Listen(ctx, func() { signal(woken) }, f.queue.wake)
		if ctx.Err() != nil {
			return
		}
		f.log.Warn("lost the connection that listens for callbacks", zap.Error(err))
		pause(ctx, promotePause)
	}
}

// Stalled returns since when the promoter has made no progress; the zero time
// while it makes some.
func (f *Fetcher) Stalled() time.Time {
	last := f.progress.Load()
	if since := time.Unix(0, last); last != 0 && time.Since(since) > stalledAfter {
		return since
	}
	return time.Time{}
}
