package fetcher

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"callbackd/internal/store"
)

const (
	// dueInterval is how often retrievals are begun that were put off.
	dueInterval = 5 * time.Second
	// lostInterval is how often retrievals are looked for that have lost their job.
	lostInterval = time.Minute
	// keepTimeout bounds either.
	keepTimeout = 30 * time.Second
)

// keepPending begins the retrievals that were put off, and sees to it that no
// pending one is left without a job, whoever took it away. Every worker does.
func (f *Fetcher) keepPending(ctx context.Context) {
	next := time.Now()
	for ctx.Err() == nil {
		f.startDue(ctx)
		if now := time.Now(); !now.Before(next) {
			f.requeueLost(ctx)
			next = now.Add(lostInterval)
		}
		pause(ctx, dueInterval)
	}
}

func (f *Fetcher) startDue(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	_, err := f.store.StartDue(ctx, paceInterval, f.enqueueAgain)
	if err != nil && ctx.Err() == nil {
		f.log.Warn("could not begin the retrievals that are due; they are tried again", zap.Error(err))
	}
}

func (f *Fetcher) requeueLost(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	n, err := f.store.RequeueLost(ctx, f.enqueueAgain)
	switch {
	case err != nil && ctx.Err() == nil:
		f.log.Warn("could not look for retrievals without a job; they are looked for again", zap.Error(err))
	case n > 0:
		f.metrics.requeued.Add(float64(n))
		f.log.Warn("pending retrievals had no job and were queued again", zap.Int("count", n))
	}
}

func (f *Fetcher) enqueueAgain(ctx context.Context, tx pgx.Tx, retrievals []store.Retrieval) error {
	return f.enqueue(ctx, tx, retrievals, noMetadata)
}
