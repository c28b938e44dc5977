package processtest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/sandbox"
	"callbackd/internal/workflow"
)

// event is a row of jumio.events.
type event struct {
	ID                int64
	Type              string
	WorkflowExecution string
}

const selectEvents = `SELECT event_id, type, workflow_execution_id FROM jumio.events WHERE event_id > $1 ORDER BY event_id`

// eventConsumer reads jumio.events as a downstream service does: it remembers
// the highest event_id that it has seen and asks for what is above.
type eventConsumer struct {
	t    *testing.T
	conn *pgx.Conn
	end  context.CancelFunc
	done chan error

	mu   sync.Mutex
	seen []event
}

func consumeEvents(t *testing.T, dsn string) *eventConsumer {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connect to read events: %v", err)
	}
	c := &eventConsumer{t: t, conn: conn, done: make(chan error, 1)}
	var ctx context.Context
	ctx, c.end = context.WithCancel(t.Context())
	if _, err := conn.Exec(ctx, `LISTEN jumio_events`); err != nil {
		t.Fatalf("listen for events: %v", err)
	}
	go func() { c.done <- c.consume(ctx) }()
	return c
}

// consume reads after every notification, until ctx ends.
func (c *eventConsumer) consume(ctx context.Context) error {
	for ctx.Err() == nil {
		// With a context of its own: a query that was cancelled half-way would
		// cost the connection.
		if err := c.read(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		if _, err := c.conn.WaitForNotification(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (c *eventConsumer) read(ctx context.Context) error {
	rows, err := c.conn.Query(ctx, selectEvents, c.highest())
	if err != nil {
		return err
	}
	fresh, err := pgx.CollectRows(rows, pgx.RowToStructByPos[event])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, fresh...)
	return err
}

// highest is the highest event_id seen so far.
func (c *eventConsumer) highest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) == 0 {
		return 0
	}
	return c.seen[len(c.seen)-1].ID
}

// stop waits until the consumer has seen the event last, and returns all that
// it saw.
func (c *eventConsumer) stop(last int64) []event {
	c.t.Helper()
	eventually(c.t, patience, func() error {
		if highest := c.highest(); highest < last {
			return fmt.Errorf("the consumer has seen event %d, the last is %d", highest, last)
		}
		return nil
	})
	c.end()
	if err := <-c.done; err != nil {
		c.t.Errorf("read events: %v", err)
	}
	return c.seen
}

// checkEvents: the consumer saw every event, and there are as many of each type
// as the sandbox expects.
func checkEvents(t *testing.T, db *database, l sandbox.Ledger, consumer *eventConsumer) {
	t.Helper()
	all := query(db, pgx.RowToStructByPos[event], selectEvents, 0)
	if diff := cmp.Diff(all, consumer.stop(all[len(all)-1].ID)); diff != "" {
		t.Errorf("jumio.events (-there +seen by the consumer):\n%s", diff)
	}
	got := map[string]int{}
	for _, e := range all {
		got[e.Type]++
	}
	want := map[string]int{"callback_received": l.Totals.CallbacksAcknowledged}
	for _, e := range l.Journeys {
		switch e.Expected.State {
		case workflow.Retrieved, workflow.Partial:
			want["details_retrieved"]++
			want["retrieved"]++
		case workflow.Failed:
			want["retrieval_failed"]++
		case workflow.NotRequired:
			want["expired"]++
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events by type (-want +got):\n%s", diff)
	}
}
