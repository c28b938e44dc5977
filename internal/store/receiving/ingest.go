package receiving

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"callbackd/internal/callback"
	"callbackd/internal/store"
)

// A single callback is stored by an INSERT, which is quicker for one row; several are
// stored by COPY, which takes a third less processor time than an INSERT of arrays.
var (
	callbackRow    = store.RowOf[callback.Callback]()
	insertCallback = callbackRow.Insert("callbackd.callbacks")
	copyCallbacks  = callbackRow.Copy("callbackd.callbacks")
)

const (
	// While one of two batches waits for its commit, the other fills and goes.
	// More writers would make smaller batches for the same fsyncs.
	ingestWriters = 2
	// ingestMaxBatch bounds a batch: more callbacks than the connections of one
	// instance are expected to bring at once.
	ingestMaxBatch = 512
	// maxBufferKept bounds, in bytes, a buffer that is kept for reuse.
	maxBufferKept = 1 << 20
)

// pending is a callback that waits to be written.
type pending struct {
	callback *callback.Callback
	done     chan error // gets the outcome exactly once
	timer    *time.Timer
	gaveUp   atomic.Bool // the caller no longer waits
}

// pendings are reused: a new channel and timer for each callback would be a fifth of
// the garbage collector's work at full load.
var pendings = sync.Pool{New: func() any {
	p := &pending{done: make(chan error, 1), timer: time.NewTimer(time.Hour)}
	p.timer.Stop()
	return p
}}

// ingest is the group commit: callbacks that wait at the same time are written
// together. A batch starts the moment a writer is free; nothing waits to fill a batch.
//
// A writer is not a goroutine but a permit to write. If a writer is free, the caller
// writes alone, so that a light load costs no switch between goroutines. Otherwise the
// caller waits. When a writer becomes free, a new goroutine writes whatever waits, until
// nothing does.
type ingest struct {
	db        *store.DB
	timeout   time.Duration
	batchSize prometheus.Histogram
	buffers   sync.Pool // of *[]byte, a batch in COPY's format

	mu      sync.Mutex
	free    int        // writers; more than 0 only while nobody waits
	waiting []*pending // in the order of their arrival
	allFree sync.Cond  // on mu: free has reached ingestWriters
}

func newIngest(db *store.DB, timeout time.Duration, reg prometheus.Registerer) *ingest {
	in := &ingest{db: db, timeout: timeout, free: ingestWriters}
	in.batchSize = promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
		Name:    "callbackd_ingest_batch_size",
		Help:    "Callbacks written by one statement.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 10),
	})
	in.buffers.New = func() any { return new([]byte) }
	in.allFree.L = &in.mu
	return in
}

// close returns when nothing is being written.
func (in *ingest) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.free < ingestWriters {
		in.allFree.Wait()
	}
}

// InsertCallback bounds the callback and returns nil once it is committed. The timeout
// and ctx bound how long it takes. After store.ErrUnavailable the callback may
// nevertheless be stored.
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
	p.gaveUp.Store(true) // not reused: its outcome may still arrive
	return store.Translate("store a callback", context.DeadlineExceeded)
}

// release frees a writer, or passes it on if anybody waits.
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

// writeWaiting writes batches until nobody waits, then releases its writer.
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

// take moves those who have waited longest to the batch, except those who gave up.
func (in *ingest) take(batch []*pending) []*pending {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := min(len(in.waiting), ingestMaxBatch)
	for _, p := range in.waiting[:n] {
		if !p.gaveUp.Load() {
			batch = append(batch, p)
		}
	}
	rest := copy(in.waiting, in.waiting[n:])
	clear(in.waiting[rest:])
	in.waiting = in.waiting[:rest]
	return batch
}

// flush writes a batch and tells every caller. If one row's values are at fault, it
// writes the rows one by one, so that only that row fails.
func (in *ingest) flush(batch []*pending) {
	ctx := context.Background()
	if len(batch) > 1 {
		err := in.insertBatch(ctx, batch)
		if !store.BadRow(err) {
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

// insertOne is one INSERT: one round trip, one commit.
func (in *ingest) insertOne(ctx context.Context, c *callback.Callback) error {
	in.batchSize.Observe(1)
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	_, err := in.db.Pool().Exec(ctx, insertCallback, callbackRow.Values(c)...)
	if err == nil {
		in.db.Wake(store.Inbox)
	}
	return store.Translate("insert a callback", err)
}

// insertBatch is one COPY, one commit.
func (in *ingest) insertBatch(ctx context.Context, batch []*pending) error {
	in.batchSize.Observe(float64(len(batch)))
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()

	buffer := in.buffers.Get().(*[]byte)
	rows := (*buffer)[:0]
	rows = append(rows, store.CopyHeader...)
	for _, p := range batch {
		rows = callbackRow.AppendCopy(rows, p.callback, 0)
	}
	rows = append(rows, store.CopyTrailer...)
	err := in.copy(ctx, rows)
	if err != nil { // if the connection broke, the driver may still read the buffer
		return store.Translate("insert callbacks", err)
	}
	in.db.Wake(store.Inbox)
	if cap(rows) <= maxBufferKept {
		*buffer = rows
		in.buffers.Put(buffer)
	}
	return nil
}

func (in *ingest) copy(ctx context.Context, rows []byte) error {
	conn, err := in.db.Pool().Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(rows), copyCallbacks)
	return err
}
