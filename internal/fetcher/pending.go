package fetcher

import (
	"context"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/queue"
	"callbackd/internal/store/results"
	"callbackd/internal/workflow"
)

const (
	dueInterval     = 5 * time.Second  // of beginDue
	lostInterval    = time.Minute      // of requeueLost
	backlogInterval = 10 * time.Second // of countBacklog
	keepTimeout     = 30 * time.Second // of each of them
)

// beginDue begins the postponed retrievals that are due.
func (f *Fetcher) beginDue(ctx context.Context) {
	err := f.results.InTx(ctx, "begin the retrievals that are due", func(tx *results.Tx) error {
		due, err := tx.DueExecutions(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		for _, e := range due {
			workflow.BeginPaced(e, now, now)
		}
		if err := tx.UpdateExecutions(ctx, due); err != nil {
			return err
		}
		return f.queue.Enqueue(ctx, tx.Tx, retrievals(due), queue.Retrieval{}, nil)
	})
	if err != nil && ctx.Err() == nil {
		f.log.Warn("could not begin the retrievals that are due; they will be retried", zap.Error(err))
	}
}

// requeueLost queues again the pending retrievals that have lost their job. They
// continue with the next attempt.
func (f *Fetcher) requeueLost(ctx context.Context) {
	n := 0
	err := f.results.InTx(ctx, "queue retrievals without a job", func(tx *results.Tx) error {
		lost, err := tx.LostExecutions(ctx, queue.RetrievalKind)
		if err != nil {
			return err
		}
		n = len(lost)
		return f.queue.Enqueue(ctx, tx.Tx, retrievals(lost), queue.Retrieval{}, nil)
	})
	switch {
	case err != nil && ctx.Err() == nil:
		f.log.Warn("could not look for retrievals without a job; it will be retried", zap.Error(err))
	case err == nil && n > 0:
		f.metrics.requeued.Add(float64(n))
		f.log.Warn("pending retrievals had no job and were queued again", zap.Int("count", n))
	}
}

// countBacklog leaves the metrics unchanged if the database does not answer.
func (f *Fetcher) countBacklog(ctx context.Context) {
	if b, err := f.results.Backlog(ctx); err == nil {
		f.metrics.observeBacklog(b)
	}
}
