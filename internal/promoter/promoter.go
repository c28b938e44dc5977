// Package promoter applies new callbacks to their workflow executions: in one
// transaction, it takes callbacks out of the inbox and writes states, jobs and events.
//
// What a callback means is up to internal/workflow. No row, whatever it holds, delays,
// changes or removes what belongs to others: the promoter sets aside what it cannot
// promote.
package promoter

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"callbackd/internal/queue"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/tracing"
)

const (
	// batchSize bounds the callbacks of one transaction. When they arrive at full
	// rate, batches of 500 fall behind; with 2000, a commit and a turn of the events'
	// lock serve four times as many.
	batchSize = 2000
	// poll makes up for lost notifications.
	poll = 2 * time.Second
	// batchTimeout ends a batch that hangs, for example on a half-dead connection.
	// Parts of a batch have less, down to leastTimeout.
	batchTimeout = 30 * time.Second
	leastTimeout = 5 * time.Second
	// databasePause follows a failure of the database.
	databasePause = time.Second
	// idlePause bounds how often a flood of notifications can make the promoter read
	// the inbox.
	idlePause = 5 * time.Millisecond
	// stalledAfter is how long a batch and all its parts may take before the promoter
	// counts as stalled.
	stalledAfter = 90 * time.Second
)

// Options are a Promoter's settings.
type Options struct {
	DB      *store.DB
	Queue   *queue.Queue
	Log     *zap.Logger
	Metrics *Metrics
	// UserReferenceKey is that of signed user references; empty for none.
	UserReferenceKey string
	// Tracer receives the spans of promotions; nil for none.
	Tracer *tracing.Tracer
}

// Promoter promotes callbacks from Start until Stop.
type Promoter struct {
	Options
	results   *results.Store
	postponed postponed
	// progress is when a promotion last succeeded, in nanoseconds since 1970; 0
	// before Start.
	progress atomic.Int64

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// New creates a promoter; nothing runs before Start.
func New(o Options) *Promoter {
	p := &Promoter{Options: o, results: results.New(o.DB), cancel: func() {}}
	o.Metrics.observeProgress(&p.progress)
	return p
}

// Start begins to promote. If more callbacks wait than one batch takes, a second
// goroutine helps: at full rate, one alone does not get enough processor time next to
// the receivers.
func (p *Promoter) Start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.noteProgress()
	woken, behind := make(chan struct{}, 1), make(chan struct{}, 1)
	p.running.Go(func() { p.run(ctx, woken, behind) })
	p.running.Go(func() { p.help(ctx, behind) })
	p.running.Go(func() { p.listen(ctx, woken) })
}

// Stop cancels the running promotion and returns once it has ended.
func (p *Promoter) Stop() {
	p.cancel()
	p.running.Wait()
}

// Stalled returns when the promoter last made progress if that was over 90 s ago, else
// the zero time.
func (p *Promoter) Stalled() time.Time {
	last := p.progress.Load()
	if since := time.Unix(0, last); last != 0 && time.Since(since) > stalledAfter {
		return since
	}
	return time.Time{}
}

func (p *Promoter) noteProgress() { p.progress.Store(time.Now().UnixNano()) }

// run promotes callbacks whenever it is woken, and at each poll.
func (p *Promoter) run(ctx context.Context, woken <-chan struct{}, behind chan<- struct{}) {
	for ctx.Err() == nil {
		n, err := p.promoteNext(ctx)
		wait := poll
		switch {
		case err != nil && ctx.Err() == nil:
			p.Log.Error("could not promote callbacks; they stay in the inbox and will be retried", zap.Error(err))
			wait = databasePause
		case n == batchSize:
			signal(behind)
			continue
		case n > 0:
			p.Log.Debug("promoted callbacks", zap.Int("count", n))
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

// help promotes full batches whenever run is behind. It leaves failures to run.
func (p *Promoter) help(ctx context.Context, behind <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-behind:
		}
		for {
			if n, err := p.promote(ctx, p.oldest(), batchTimeout); n < batchSize || err != nil {
				break
			}
		}
	}
}

// listen passes notifications on. If the connection is lost, it reconnects; polling
// continues meanwhile.
func (p *Promoter) listen(ctx context.Context, woken chan<- struct{}) {
	for ctx.Err() == nil {
		err := p.DB.Listen(ctx, func() { signal(woken) }, p.Queue.Wake)
		if ctx.Err() != nil {
			return
		}
		p.Log.Warn("lost the connection that listens for callbacks; reconnecting", zap.Error(err))
		pause(ctx, databasePause)
	}
}

// signal wakes the receiver of c without waiting for it.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// ofBatch reports whether a batch that failed with err may succeed in part. A lock may be
// on one workflow execution: whoever calls jumio.expect holds it until its commit.
func ofBatch(err error) bool { return store.OfBatch(err) || store.Locked(err) }

// oldest returns a Take of a whole batch, without the postponed callbacks.
func (p *Promoter) oldest() results.Take {
	return results.Take{Limit: batchSize, Except: p.postponed.now(time.Now())}
}

// promote takes callbacks, applies them in the order of their arrival, and stores the
// states, jobs and events in one transaction. It returns how many callbacks it took.
// After an error, all stay in the inbox; store.OfBatch reports whether a smaller batch
// may succeed.
func (p *Promoter) promote(ctx context.Context, take results.Take, timeout time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var b *batch
	err := error(results.ErrRaced)
	for errors.Is(err, results.ErrRaced) { // the next time, it finds what the other promoter inserted
		b = newBatch(p.Tracer, p.UserReferenceKey, time.Now())
		err = p.results.InTx(ctx, "promote callbacks", func(tx *results.Tx) error {
			return p.promoteBatch(ctx, tx, take, b)
		})
	}
	if err != nil {
		return 0, err
	}
	p.noteProgress()
	p.report(b)
	return len(b.deliveries) + len(b.dropped), nil
}

func (p *Promoter) promoteBatch(ctx context.Context, tx *results.Tx, take results.Take, b *batch) (err error) {
	if b.deliveries, b.dropped, err = tx.TakeInbox(ctx, take); err != nil || len(b.deliveries)+len(b.dropped) == 0 {
		return err
	}
	if b.known, err = tx.LockExecutions(ctx, b.ids()); err != nil {
		return err
	}
	b.dropErased()
	if err := tx.DropCallbacks(ctx, b.dropped); err != nil {
		return err
	}
	b.apply()
	if err := tx.AddMentions(ctx, b.mentions()); err != nil {
		return err
	}
	if err := tx.UpdateExecutions(ctx, slices.Collect(maps.Values(b.known))); err != nil {
		return err
	}
	if err := tx.InsertExecutions(ctx, slices.Collect(maps.Values(b.made))); err != nil {
		return err
	}
	if err := tx.Hear(ctx, b.heard); err != nil {
		return err
	}
	if len(b.begun) > 0 {
		accounts, err := tx.KnownAccounts(ctx, b.accounts())
		if err != nil {
			return err
		}
		if err := p.Queue.Enqueue(ctx, tx.Tx, b.retrievals(accounts), queue.Retrieval{}, b.traced.metadata()); err != nil {
			return err
		}
	}
	tx.AddEvents(b.events...)
	return nil
}

// report counts, logs and traces a committed batch.
func (p *Promoter) report(b *batch) {
	b.traced.end()
	p.Metrics.future.Add(float64(b.futureDated))
	p.Metrics.dropped.Add(float64(len(b.dropped)))
	p.Metrics.contradicting.Add(float64(len(b.contradicting)))
	const mostLogged = 5
	for _, d := range b.contradicting[:min(len(b.contradicting), mostLogged)] {
		p.Log.Warn("a callback contradicts Jumio's details of its workflow execution; the details win",
			zap.Stringer("callback_id", d.ID), zap.String("workflow_execution_id", d.WorkflowExecutionID))
	}
}

// promoteNext promotes the oldest callbacks. If some of them keep the others from being
// promoted, it finds those and sets them aside.
func (p *Promoter) promoteNext(ctx context.Context) (int, error) {
	take := p.oldest()
	n, err := p.promote(ctx, take, batchTimeout)
	if !ofBatch(err) {
		return n, err
	}
	p.Log.Warn("could not promote a batch of callbacks; retrying it in parts", zap.Error(err))
	ids, err := p.results.Inbox(ctx, take)
	if err != nil {
		return 0, err
	}
	return len(ids), (&parts{Promoter: p}).promote(ctx, ids, batchTimeout)
}

// parts promotes a batch that failed in parts.
type parts struct {
	*Promoter
	// failed counts the latest callbacks in a row that failed although their values
	// are not at fault.
	failed int
}

// mostFailed callbacks in a row mean that the database is at fault, not the callbacks.
const mostFailed = 2

// promote halves the batch until the callback at fault is alone, and sets it aside. An
// error is the database's, not a callback's.
func (p *parts) promote(ctx context.Context, ids []uuid.UUID, timeout time.Duration) error {
	timeout = max(timeout/2, leastTimeout)
	for part := range slices.Chunk(ids, max(1, (len(ids)+1)/2)) {
		_, err := p.Promoter.promote(ctx, results.Take{Limit: len(part), Only: part}, timeout)
		switch {
		case err == nil:
			p.failed = 0
		case ofBatch(err) && len(part) > 1:
			err = p.promote(ctx, part, timeout)
		case ofBatch(err):
			err = p.setAside(ctx, part[0], err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setAside keeps a callback from delaying others: it becomes a dead letter if its own
// values are at fault, and is postponed otherwise. After mostFailed of the latter it
// returns cause.
func (p *parts) setAside(ctx context.Context, id uuid.UUID, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := cause
	if store.BadRow(cause) {
		if err = p.deadLetter(ctx, id, cause); !ofBatch(err) {
			return err
		}
	} else {
		p.failed++
	}
	until := p.postponed.add(id, time.Now())
	p.Log.Error("a callback cannot be promoted now; others go before it", zap.Stringer("callback_id", id), zap.Time("until", until), zap.Error(err))
	if p.failed >= mostFailed {
		return cause
	}
	return nil
}

func (p *parts) deadLetter(ctx context.Context, id uuid.UUID, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, leastTimeout)
	defer cancel()
	reason, err := p.results.DeadLetter(ctx, id, cause)
	if err != nil {
		return err
	}
	p.noteProgress()
	if reason != "" {
		p.Log.Error("a callback cannot be promoted and is now a dead letter: see `callbackd rejected show`, and retry with `callbackd rejected replay`",
			zap.Stringer("callback_id", id), zap.String("reason", reason))
	}
	return nil
}
