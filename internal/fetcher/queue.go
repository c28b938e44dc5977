package fetcher

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// queueDriver is River's driver for Postgres without its LISTEN and NOTIFY. A
// NOTIFY needs no right, and River would obey whoever notifies it to cancel a job
// or to resign; and its own, within our transactions, fail when the cluster's
// queue of notifications is full. What is left is one hint, wake: fetch now
// instead of at the next poll.
type queueDriver struct {
	*riverpgxv5.Driver
	woken chan struct{}
}

func newQueueDriver(pool *pgxpool.Pool) *queueDriver {
	return &queueDriver{Driver: riverpgxv5.New(pool), woken: make(chan struct{}, 1)}
}

// wake has River fetch jobs now.
func (d *queueDriver) wake() { signal(d.woken) }

// SupportsListener implements riverdriver.Driver: River uses GetListener's.
func (d *queueDriver) SupportsListener() bool { return true }

// SupportsListenNotify implements riverdriver.Driver: River notifies nobody.
func (d *queueDriver) SupportsListenNotify() bool { return false }

// GetListener implements riverdriver.Driver.
func (d *queueDriver) GetListener(p *riverdriver.GetListenenerParams) riverdriver.Listener {
	return &queueListener{schema: p.Schema, woken: d.woken}
}

// queueListener tells River of new jobs when it is woken, and of nothing else.
type queueListener struct {
	schema string
	woken  <-chan struct{}
}

// insertTopic is River's, for jobs that were inserted.
const insertTopic = "river_insert"

// Close implements riverdriver.Listener.
func (l *queueListener) Close(context.Context) error { return nil }

// Connect implements riverdriver.Listener.
func (l *queueListener) Connect(context.Context) error { return nil }

// Listen implements riverdriver.Listener.
func (l *queueListener) Listen(context.Context, string) error { return nil }

// Unlisten implements riverdriver.Listener.
func (l *queueListener) Unlisten(context.Context, string) error { return nil }

// Ping implements riverdriver.Listener.
func (l *queueListener) Ping(context.Context) error { return nil }

// Schema implements riverdriver.Listener.
func (l *queueListener) Schema() string { return l.schema }

// SetAfterConnectExec implements riverdriver.Listener.
func (l *queueListener) SetAfterConnectExec(string) {}

// WaitForNotification implements riverdriver.Listener.
func (l *queueListener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.woken:
		payload, err := json.Marshal(map[string]string{"queue": river.QueueDefault})
		return &riverdriver.Notification{Topic: insertTopic, Payload: string(payload)}, err
	}
}
