package intake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/spool"
	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// start returns an intake whose database is down.
func start(t *testing.T, dir string, maxBytes int64) (*Intake, error) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr()
	if err := l.Close(); err != nil { // now nobody answers there
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	s := storetest.OpenWithTimeout(t, fmt.Sprintf("postgres://u:p@%s/d?sslmode=disable", address), time.Minute)
	i, err := New(Options{Store: s.Receiving(), SpoolDir: dir, SpoolMaxBytes: maxBytes, StoreTimeout: time.Minute, Check: s.CheckSchema, Log: zap.NewNop(), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return i, i.Start(t.Context())
}

func newCallback() *callback.Callback {
	return &callback.Callback{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), Body: make([]byte, 1000), WorkflowExecutionID: "w"}
}

func TestWithoutSpoolAndDatabase(t *testing.T) {
	i, err := start(t, "", 1<<20)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the start: %v", err)
	}
	if spooled, err := i.InsertCallback(t.Context(), newCallback()); spooled || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a callback: %v, %v", spooled, err)
	}
	if note, err := i.Ready(t.Context()); note != "" || err == nil {
		t.Errorf("ready: %q, %v", note, err)
	}
	i.Run(t.Context()) // has nothing to do
}

// During an outage the spool takes callbacks until it is full, and a rejected
// callback fails at once.
func TestWithSpoolWithoutDatabase(t *testing.T) {
	i, err := start(t, t.TempDir(), 10_000)
	if err != nil {
		t.Fatalf("the start: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); i.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	taken := 0
	for spooled := true; spooled && taken < 100; taken++ {
		spooled, err = i.InsertCallback(t.Context(), newCallback())
	}
	if !errors.Is(err, spool.ErrFull) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("after %d callbacks: %v", taken, err)
	}
	if _, err := i.Ready(t.Context()); !errors.Is(err, spool.ErrFull) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("ready with a full spool: %v", err)
	}
	if err := i.InsertRejected(t.Context(), &callback.Rejected{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a rejected callback: %v", err)
	}
	select {
	case <-i.Fit():
		t.Error("the database is taken for fit")
	default:
	}
}

func TestReadyNote(t *testing.T) {
	i, err := start(t, t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if spooled, err := i.InsertCallback(t.Context(), newCallback()); !spooled || err != nil {
		t.Fatalf("a callback: %v, %v", spooled, err)
	}
	note, err := i.Ready(t.Context())
	for _, part := range []string{"callbacks are spooled since 20", "database unavailable", "1 callbacks", "the oldest of 20"} {
		if !strings.Contains(note, part) {
			t.Errorf("the note is %q (%v), want %q in it", note, err, part)
		}
	}
}

// When the outage is over, the database is used even if the spool cannot be read.
func TestBackAlthoughTheSpoolFails(t *testing.T) {
	i, err := start(t, t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	broken, err := spool.Open(spool.Options{Dir: t.TempDir(), MaxBytes: 1 << 20, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	working := i.spool
	i.spool, i.o.Check = broken, func(context.Context) error { return nil }
	pause := i.step(t.Context())
	i.spool = working
	if out := i.outage.Load(); out != nil || pause != checkInterval {
		t.Errorf("the outage goes on: %v, next step after %s", out, pause)
	}
}
