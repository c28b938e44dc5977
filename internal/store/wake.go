package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// Channel is a channel of notifications. Any role may notify, so a notification is only
// a hint to look now.
type Channel string

// The channels.
const (
	Inbox Channel = "callbackd_inbox" // callbacks to promote
	Jobs  Channel = "callbackd_jobs"  // retrievals to make

	eventsChannel Channel = "jumio_events" // public; the payload is a workflow execution's id
)

const (
	// wakeInterval merges a burst of batches into one notification.
	wakeInterval = 20 * time.Millisecond
	// lastWake bounds the last notifications at a stop.
	lastWake = time.Second
	// mostAnnounced bounds the announcements that wait for a slow database.
	mostAnnounced = 10_000
)

// waker sends notifications outside the transactions that they announce. A transaction
// with a NOTIFY holds a cluster-wide lock through its commit, so writers would wait for
// each other's fsync, and it fails once listeners that do not read have let the
// cluster's queue fill. A lost notification costs only the wait for the next poll.
type waker struct {
	pool   *pgxpool.Pool
	log    *zap.Logger
	signal chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	ready map[notification]struct{}
}

type notification struct {
	channel Channel
	payload string
}

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

func (w *waker) send(ctx context.Context) {
	w.mu.Lock()
	channels, payloads := make([]string, 0, len(w.ready)), make([]string, 0, len(w.ready))
	for n := range w.ready {
		channels, payloads = append(channels, string(n.channel)), append(payloads, n.payload)
	}
	clear(w.ready)
	w.mu.Unlock()
	if len(channels) == 0 {
		return
	}
	_, err := w.pool.Exec(ctx, `SELECT pg_notify(n.channel, n.payload) FROM unnest($1::text[], $2::text[]) AS n (channel, payload)`, channels, payloads)
	if err != nil && ctx.Err() == nil {
		w.log.Debug("could not notify; listeners will poll", zap.Error(Translate("notify", err)))
	}
}

// Wake notifies the promoters (Inbox) or the workers (Jobs) of all instances.
func (db *DB) Wake(c Channel) { db.waker.add(notification{channel: c}) }

// Announce notifies consumers of committed events of these workflow executions.
func (db *DB) Announce(workflowExecutionIDs []string) {
	list := make([]notification, len(workflowExecutionIDs))
	for i, id := range workflowExecutionIDs {
		list[i] = notification{eventsChannel, id}
	}
	db.waker.add(list...)
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

// Listen calls inbox or jobs at once and after each notification on that channel. It
// holds a connection until ctx ends or the connection is lost, and returns the error.
func (db *DB) Listen(ctx context.Context, inbox, jobs func()) error {
	return db.listen(ctx, "callbacks", map[Channel]func(){Inbox: inbox, Jobs: jobs})
}

// ListenEvents is Listen for consumers of jumio.events.
func (db *DB) ListenEvents(ctx context.Context, events func()) error {
	return db.listen(ctx, "events", map[Channel]func(){eventsChannel: events})
}

func (db *DB) listen(ctx context.Context, what string, wake map[Channel]func()) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return Translate("listen for "+what, err)
	}
	// A connection that listens must not go back into the pool.
	raw := conn.Hijack()
	defer func() { _ = raw.Close(context.WithoutCancel(ctx)) }()
	for channel := range wake {
		if _, err := raw.Exec(ctx, "LISTEN "+string(channel)); err != nil {
			return Translate("listen for "+what, err)
		}
	}
	for _, f := range wake {
		f() // for notifications before the LISTEN
	}
	for {
		n, err := raw.WaitForNotification(ctx)
		if err != nil {
			return Translate("wait for "+what, err)
		}
		wake[Channel(n.Channel)]()
	}
}
