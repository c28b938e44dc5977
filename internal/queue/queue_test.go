package queue

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
)

// River hears of nothing but that there may be jobs.
func TestQueueListener(t *testing.T) {
	d := &driver{woken: make(chan struct{}, 1)}
	var driver riverdriver.Driver[pgx.Tx] = d
	if driver.SupportsListenNotify() {
		t.Error("River notifies within our transactions")
	}
	l := driver.GetListener(&riverdriver.GetListenenerParams{Schema: schema})
	d.wake()
	d.wake() // two hints are one
	n, err := l.WaitForNotification(t.Context())
	if err != nil || n.Topic != insertTopic || n.Payload != `{"queue":"default"}` {
		t.Errorf("got %+v, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.WaitForNotification(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
