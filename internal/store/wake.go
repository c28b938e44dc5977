package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// The channels of the notifications. Anybody may send on them, so they are hints
// to look now, and nothing else.
const (
	inboxChannel  = "callbackd_inbox" // there are callbacks to promote
	jobsChannel   = "callbackd_jobs"  // there are retrievals to make
	eventsChannel = "jumio_events"    // public; the payload is a workflow execution's id
)

const (
	// A burst of batches is one notification; the promoter takes what is there.
	wakeInterval = 20 * time.Millisecond
	// lastWake bounds the notifications of what was done before a stop.
	lastWake = time.Second
	// mostAnnounced bounds what waits to be announced while the database is slow.
	mostAnnounced = 10_000
)

// waker sends the notifications apart from the transactions that they tell of. A
// transaction with a NOTIFY holds a lock of the whole cluster through its commit,
// which would make the writers wait for each other's fsync; and it fails when
// listeners that do not read have let the cluster's queue fill. A notification
// that is lost costs only the wait for a poll.
type waker struct {
	pool   *pgxpool.Pool
	log    *zap.Logger
	signal chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	ready map[notification]struct{}
}

type notification struct{ channel, payload string }

func startWaker(pool *pgxpool.Pool, log *zap.Logger) *waker {
	ctx, cancel := context.WithCancel(context.Background())
	w := &waker{pool: pool, log: log, signal: make(chan struct{}, 1), cancel: cancel, ready: make(map[notification]struct{})}
	w.done.Go(func() { w.run(ctx) })
	return w
}

func (w *waker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWake)
			defer cancel()
			w.send(ctx)
			return
		case <-w.signal:
		}
		w.send(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(wakeInterval):
		}
	}
}

// send sends what is ready.
func (w *waker) send(ctx context.Context) {
	w.mu.Lock()
	channels, payloads := make([]string, 0, len(w.ready)), make([]string, 0, len(w.ready))
	for n := range w.ready {
		channels, payloads = append(channels, n.channel), append(payloads, n.payload)
	}
	clear(w.ready)
	w.mu.Unlock()
	if len(channels) == 0 {
		return
	}
	_, err := w.pool.Exec(ctx, `SELECT pg_notify(n.channel, n.payload) FROM unnest($1::text[], $2::text[]) AS n (channel, payload)`, channels, payloads)
	if err != nil && ctx.Err() == nil {
		w.log.Debug("could not notify; who listens finds out by polling", zap.Error(translate("notify", err)))
	}
}

// wake tells the promoters that there are callbacks.
func (w *waker) wake() { w.add(notification{channel: inboxChannel}) }

// announce tells the consumers of events that are committed, and the workers of
// jobs.
func (w *waker) announce(events []Event, jobs bool) {
	list := make([]notification, 0, len(events)+1)
	if jobs {
		list = append(list, notification{channel: jobsChannel})
	}
	for _, e := range events {
		list = append(list, notification{eventsChannel, e.WorkflowExecutionID})
	}
	w.add(list...)
}

func (w *waker) add(list ...notification) {
	if len(list) == 0 {
		return
	}
	w.mu.Lock()
	for _, n := range list {
		if n.channel != eventsChannel || len(w.ready) < mostAnnounced {
			w.ready[n] = struct{}{}
		}
	}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

func (w *waker) stop() {
	w.cancel()
	w.done.Wait()
}

// Listen calls inbox after each notification of new callbacks, and jobs after
// each of new retrievals, until ctx ends or the connection is lost, whose error it
// returns. It holds a connection.
func (s *Store) Listen(ctx context.Context, inbox, jobs func()) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate("listen for callbacks", err)
	}
	// The session's LISTEN must not go back into the pool with the connection.
	raw := conn.Hijack()
	defer func() { _ = raw.Close(context.WithoutCancel(ctx)) }()
	for _, channel := range []string{inboxChannel, jobsChannel} {
		if _, err := raw.Exec(ctx, "LISTEN "+channel); err != nil {
			return translate("listen for callbacks", err)
		}
	}
	inbox() // what came before the LISTEN was not heard
	jobs()
	for {
		n, err := raw.WaitForNotification(ctx)
		switch {
		case err != nil:
			return translate("wait for callbacks", err)
		case n.Channel == inboxChannel:
			inbox()
		default:
			jobs()
		}
	}
}
