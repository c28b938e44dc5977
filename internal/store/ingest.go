package store

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// Two writers: while one waits for its commit, the other's batch fills and
	// goes. More writers make smaller batches for the same fsyncs.
	ingestWriters = 2
	// A batch is what waits when a writer is free, up to this many: more than
	// any number of connections that one instance is meant for brings at once.
	ingestMaxBatch = 512
)

// pending is a callback on its way; done gets its outcome exactly once.
type pending struct {
	ctx      context.Context
	callback *Callback
	done     chan error
}

// ingest is the group commit: whoever waits is written together, and a batch
// starts the moment a writer is free. Nothing is ever delayed to fill a batch.
type ingest struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	metrics *Metrics
	wake    func()
	queue   chan pending
	writers sync.WaitGroup
}

func startIngest(pool *pgxpool.Pool, timeout time.Duration, m *Metrics, wake func()) *ingest {
	in := &ingest{pool: pool, timeout: timeout, metrics: m, wake: wake, queue: make(chan pending, ingestMaxBatch)}
	for range ingestWriters {
		in.writers.Go(in.write)
	}
	return in
}

func (in *ingest) stop() {
	close(in.queue)
	in.writers.Wait()
}

// InsertCallback returns nil once the callback is committed. After
// ErrUnavailable it is not known to be stored, though it may be.
func (s *Store) InsertCallback(ctx context.Context, c *Callback) error {
	p := pending{ctx: ctx, callback: c, done: make(chan error, 1)}
	select {
	case s.ingest.queue <- p:
	case <-ctx.Done():
		return translate("store a callback", context.DeadlineExceeded)
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return translate("store a callback", context.DeadlineExceeded)
	}
}

// write is one writer's life.
func (in *ingest) write() {
	batch := make([]pending, 0, ingestMaxBatch)
	for first := range in.queue {
		batch = append(batch[:0], first)
	fill:
		for len(batch) < ingestMaxBatch {
			select {
			case p, open := <-in.queue:
				if !open {
					break fill
				}
				batch = append(batch, p)
			default:
				break fill
			}
		}
		in.flush(batch)
		clear(batch)
	}
}

// flush writes a batch and tells every waiter. If the values of one row are at
// fault, the rows are written one by one, so that only that row fails.
func (in *ingest) flush(batch []pending) {
	waiting := batch[:0:len(batch)]
	for _, p := range batch {
		if p.ctx.Err() == nil {
			waiting = append(waiting, p)
		}
	}
	if len(waiting) == 0 {
		return
	}
	err := in.insert(waiting)
	if badRow(err) && len(waiting) > 1 {
		for _, p := range waiting {
			p.done <- in.insert([]pending{p})
		}
	} else {
		for _, p := range waiting {
			p.done <- err
		}
	}
	in.wake()
}

const insertCallbacks = `
INSERT INTO callbackd.callbacks (callback_id, received_at, callback_sent_at, source_ip, content_type, workflow_execution_id,
    workflow_status, workflow_href, definition_key, account_id, account_href, user_reference, body)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::inet[], $5::text[], $6::text[],
    $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[])`

// insert is one statement, one round trip, one commit.
func (in *ingest) insert(batch []pending) error {
	in.metrics.batchSize.Observe(float64(len(batch)))
	ctx, cancel := context.WithTimeout(context.Background(), in.timeout)
	defer cancel()
	_, err := in.pool.Exec(ctx, insertCallbacks, callbackArrays(batch)...)
	return translate("insert callbacks", err)
}

func callbackArrays(batch []pending) []any {
	n := len(batch)
	var (
		ids         = make([]uuid.UUID, n)
		receivedAt  = make([]time.Time, n)
		sentAt      = make([]*time.Time, n)
		sourceIP    = make([]*netip.Addr, n)
		contentType = make([]string, n)
		workflowID  = make([]string, n)
		status      = make([]*string, n)
		href        = make([]*string, n)
		definition  = make([]*string, n)
		accountID   = make([]*string, n)
		accountHref = make([]*string, n)
		userRef     = make([]*string, n)
		body        = make([][]byte, n)
	)
	for i, p := range batch {
		c := p.callback
		ids[i], receivedAt[i], sentAt[i], sourceIP[i] = c.ID, c.ReceivedAt, nullTime(c.CallbackSentAt), nullAddr(c.SourceIP)
		contentType[i], workflowID[i], status[i] = CleanText(c.ContentType), c.WorkflowExecutionID, nullText(c.WorkflowStatus)
		href[i], definition[i], accountID[i] = nullText(c.WorkflowHref), nullText(c.DefinitionKey), nullText(c.AccountID)
		accountHref[i], userRef[i], body[i] = nullText(c.AccountHref), nullText(c.UserReference), notNil(c.Body)
	}
	return []any{ids, receivedAt, sentAt, sourceIP, contentType, workflowID, status, href, definition, accountID, accountHref, userRef, body}
}

// CleanText replaces what a Postgres text cannot hold, invalid UTF-8 and NUL, by
// U+FFFD; the bytes as they came are in the body.
func CleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func nullText(s string) *string {
	if s == "" {
		return nil
	}
	s = CleanText(s)
	return &s
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func nullAddr(a netip.Addr) *netip.Addr {
	if !a.IsValid() {
		return nil
	}
	a = a.WithZone("") // inet has no zones
	return &a
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// insertCallback stores one callback within a transaction.
func insertCallback(ctx context.Context, tx pgx.Tx, c *Callback) error {
	_, err := tx.Exec(ctx, insertCallbacks, callbackArrays([]pending{{callback: c}})...)
	return err
}
