package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// wakeChannel is notified when there are callbacks to promote.
const wakeChannel = "callbackd_inbox"

// A burst of batches is one notification; the promoter takes what is there.
const wakeInterval = 20 * time.Millisecond

// waker sends the notifications apart from the transactions that insert: a
// transaction with a NOTIFY holds a lock of the whole cluster through its
// commit, which would make the writers wait for each other's fsync. A
// notification that is lost costs only the wait for the promoter's poll.
type waker struct {
	signal chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func startWaker(pool *pgxpool.Pool, log *zap.Logger) *waker {
	ctx, cancel := context.WithCancel(context.Background())
	w := &waker{signal: make(chan struct{}, 1), cancel: cancel}
	w.done.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.signal:
			}
			if _, err := pool.Exec(ctx, `SELECT pg_notify($1, '')`, wakeChannel); err != nil && ctx.Err() == nil {
				log.Debug("could not wake the promoter", zap.Error(translate("notify", err)))
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(wakeInterval):
			}
		}
	})
	return w
}

func (w *waker) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

func (w *waker) stop() {
	w.cancel()
	w.done.Wait()
}

// Listen calls woken after each notification of new callbacks, until ctx ends
// or the connection is lost, whose error it returns. It holds a connection.
func (s *Store) Listen(ctx context.Context, woken func()) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate("listen for callbacks", err)
	}
	// The session's LISTEN must not go back into the pool with the connection.
	raw := conn.Hijack()
	defer func() { _ = raw.Close(context.WithoutCancel(ctx)) }()
	if _, err := raw.Exec(ctx, "LISTEN "+wakeChannel); err != nil {
		return translate("listen for callbacks", err)
	}
	woken() // what came before the LISTEN was not heard
	for {
		if _, err := raw.WaitForNotification(ctx); err != nil {
			return translate("wait for callbacks", err)
		}
		woken()
	}
}
