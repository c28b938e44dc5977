package queue

import (
	"context"
	"encoding/json"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// driver is River's driver for Postgres without LISTEN and NOTIFY. A NOTIFY needs no
// right, and River would obey any role that notifies it to cancel a job or to resign.
// Its own NOTIFYs, inside our transactions, fail once the cluster's queue of
// notifications is full. Only one hint is left, wake: fetch now, before the next poll.
type driver struct {
	*riverpgxv5.Driver
	woken chan struct{}
}

// wake makes River fetch jobs now.
func (d *driver) wake() {
	select {
	case d.woken <- struct{}{}:
	default: // woken already
	}
}

// SupportsListener makes River use GetListener's listener.
func (d *driver) SupportsListener() bool { return true }

// SupportsListenNotify makes River notify nobody.
func (d *driver) SupportsListenNotify() bool { return false }

// GetListener returns a listener that hears only wake.
func (d *driver) GetListener(p *riverdriver.GetListenenerParams) riverdriver.Listener {
	return &listener{schema: p.Schema, woken: d.woken}
}

// listener implements riverdriver.Listener without a connection.
type listener struct {
	schema string
	woken  <-chan struct{}
}

func (l *listener) Close(context.Context) error            { return nil }
func (l *listener) Connect(context.Context) error          { return nil }
func (l *listener) Listen(context.Context, string) error   { return nil }
func (l *listener) Unlisten(context.Context, string) error { return nil }
func (l *listener) Ping(context.Context) error             { return nil }
func (l *listener) Schema() string                         { return l.schema }
func (l *listener) SetAfterConnectExec(string)             {}

// insertTopic is River's topic for inserted jobs.
const insertTopic = "river_insert"

// WaitForNotification returns a notification of new jobs after each wake.
func (l *listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.woken:
		payload, err := json.Marshal(map[string]string{"queue": river.QueueDefault})
		return &riverdriver.Notification{Topic: insertTopic, Payload: string(payload)}, err
	}
}
