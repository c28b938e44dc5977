package fetcher

import (
	"context"
	"time"

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
	// for example.
	promoteTimeout = 30 * time.Second
	// promotePause is the wait after the database failed.
	promotePause = time.Second
)

// promote takes new callbacks until ctx ends, woken by notifications. Where more
// wait than one batch takes, a second promoter helps: at full rate one alone
// does not get enough of the processors beside all that receives.
func (f *Fetcher) promote(ctx context.Context) {
	woken, behind := make(chan struct{}, 1), make(chan struct{}, 1)
	f.running.Go(func() { f.listen(ctx, woken) })
	f.running.Go(func() { f.help(ctx, behind) })
	for ctx.Err() == nil {
		n, err := f.promoteBatch(ctx)
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
			if n, err := f.promoteBatch(ctx); n < promoteBatch || err != nil {
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

func (f *Fetcher) promoteBatch(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, promoteTimeout)
	defer cancel()
	var traced *tracedBatch // nil without tracing
	promotion := store.Promotion{Apply: apply}
	if f.tracer != nil {
		traced = &tracedBatch{tracer: f.tracer}
		promotion.Begin, promotion.Apply = traced.begin, traced.apply
	}
	promotion.Enqueue = func(ctx context.Context, tx pgx.Tx, retrievals []store.Retrieval) error {
		return enqueue(ctx, f.river, tx, f.schedule, retrievals, false, traced.metadata)
	}
	n, err := f.store.Promote(ctx, promoteBatch, promotion)
	if err == nil {
		traced.end()
	}
	return n, err
}

// listen passes the notifications on and connects anew when the connection is
// lost; meanwhile the poll goes on.
func (f *Fetcher) listen(ctx context.Context, woken chan<- struct{}) {
	for ctx.Err() == nil {
		err := f.store.Listen(ctx, func() { signal(woken) })
		if ctx.Err() != nil {
			return
		}
		f.log.Warn("lost the connection that listens for callbacks", zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(promotePause):
		}
	}
}
