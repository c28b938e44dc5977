package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"callbackd/internal/callback"
)

const (
	// Two batches at a time: while one waits for its commit, the other fills
	// and goes. More make smaller batches for the same fsyncs.
	ingestWriters = 2
	// A batch is what waits when a writer is free, up to this many: more than
	// any number of connections that one instance is meant for brings at once.
	ingestMaxBatch = 512
)

// pending is a callback that waits for its turn; done gets its outcome exactly
// once.
type pending struct {
	callback *callback.Callback
	done     chan error
	timer    *time.Timer
	given    atomic.Bool // up: nobody waits for it any more
}

// pendings are used again: a channel and a timer for each callback would be a
// fifth of what the garbage collector has to do at full load.
var pendings = sync.Pool{New: func() any {
	p := &pending{done: make(chan error, 1), timer: time.NewTimer(time.Hour)}
	p.timer.Stop()
	return p
}}

// ingest is the group commit: whoever waits is written together, and a batch
// starts the moment a writer is free. Nothing is ever delayed to fill a batch.
//
// A writer is no goroutine of its own but a right to write. Who comes while one
// is free takes it and writes alone, without waking anybody: at few callbacks
// the answer costs no switch between goroutines. Who comes while all are taken
// waits; a goroutine is started to write what waits, and ends when nothing does.
type ingest struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	metrics *Metrics
	wake    func()
	buffers sync.Pool // of *[]byte, a batch in COPY's format

	mu      sync.Mutex
	free    int        // writers; more than 0 only while nobody waits
	waiting []*pending // in the order of their arrival
	allFree sync.Cond  // on mu: free went up to ingestWriters
}

func startIngest(pool *pgxpool.Pool, timeout time.Duration, m *Metrics, wake func()) *ingest {
	in := &ingest{pool: pool, timeout: timeout, metrics: m, wake: wake, free: ingestWriters}
	in.allFree.L = &in.mu
	return in
}

// stop returns when nothing is being written.
func (in *ingest) stop() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.free < ingestWriters {
		in.allFree.Wait()
	}
}

// InsertCallback bounds the callback and returns nil once it is committed. It
// takes at most Options.StoreTimeout, or until ctx ends. After ErrUnavailable it
// is not known to be stored, though it may be.
func (s *Store) InsertCallback(ctx context.Context, c *callback.Callback) error {
	c.Bound()
	in := s.ingest
	in.mu.Lock()
	if in.free > 0 {
		in.free--
		in.mu.Unlock()
		defer in.release()
		return in.insertOne(ctx, c)
	}
	p := pendings.Get().(*pending)
	p.callback = c
	in.waiting = append(in.waiting, p)
	in.mu.Unlock()
	return in.await(ctx, p)
}

// await waits for p's outcome.
func (in *ingest) await(ctx context.Context, p *pending) error {
	p.timer.Reset(in.timeout)
	select {
	case err := <-p.done:
		p.timer.Stop()
		p.callback = nil
		pendings.Put(p)
		return err
	case <-p.timer.C:
	case <-ctx.Done():
	}
	p.given.Store(true) // and not used again: its outcome may still come
	return translate("store a callback", context.DeadlineExceeded)
}

// release gives a writer back: to those who wait, or to whoever comes next.
func (in *ingest) release() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.waiting) > 0 {
		go in.writeWaiting()
		return
	}
	in.free++
	if in.free == ingestWriters {
		in.allFree.Broadcast()
	}
}

// writeWaiting holds a writer until nobody waits.
func (in *ingest) writeWaiting() {
	defer in.release()
	batch := make([]*pending, 0, ingestMaxBatch)
	for {
		batch = in.take(batch[:0])
		if len(batch) == 0 {
			return
		}
		in.flush(batch)
	}
}

// take moves those who have waited longest, and still do, to the batch.
func (in *ingest) take(batch []*pending) []*pending {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := min(len(in.waiting), ingestMaxBatch)
	for _, p := range in.waiting[:n] {
		if !p.given.Load() {
			batch = append(batch, p)
		}
	}
	rest := copy(in.waiting, in.waiting[n:])
	clear(in.waiting[rest:])
	in.waiting = in.waiting[:rest]
	return batch
}

// flush writes a batch and tells every waiter. If the values of one row are at
// fault, the rows are written one by one, so that only that row fails.
func (in *ingest) flush(batch []*pending) {
	ctx := context.Background()
	if len(batch) > 1 {
		err := in.insertBatch(ctx, batch)
		if !badRow(err) {
			for _, p := range batch {
				p.done <- err
			}
			return
		}
	}
	for _, p := range batch {
		p.done <- in.insertOne(ctx, p.callback)
	}
}

// insertOne is one INSERT, one round trip, one commit.
func (in *ingest) insertOne(ctx context.Context, c *callback.Callback) error {
	in.metrics.batchSize.Observe(1)
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	_, err := in.pool.Exec(ctx, insertCallback, insertArguments(c)...)
	if err == nil {
		in.wake()
	}
	return translate("insert a callback", err)
}

// insertBatch is one COPY, one commit.
func (in *ingest) insertBatch(ctx context.Context, batch []*pending) error {
	in.metrics.batchSize.Observe(float64(len(batch)))
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()

	buffer, _ := in.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	rows := (*buffer)[:0]
	rows = append(rows, copyHeader...)
	for _, p := range batch {
		rows = appendCallback(rows, p.callback)
	}
	rows = append(rows, copyTrailer...)
	err := in.copyCallbacks(ctx, rows)
	// When the connection breaks, the driver returns while it may still be
	// reading the buffer.
	if err == nil && cap(rows) <= maxBufferKept {
		*buffer = rows
		in.buffers.Put(buffer)
	}
	if err == nil {
		in.wake()
	}
	return translate("insert callbacks", err)
}
