package budget

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/store/storetest"
)

// TestCanceled: a wait ends with its context, and leaves the queue.
func TestCanceled(t *testing.T) {
	t.Parallel()
	b := New(Options{DB: storetest.New(t).DB, RetrievalRPS: 0.001, Log: zap.NewNop()})
	t.Cleanup(b.Close)
	if err := b.Wait(t.Context(), "amer-1", jumio.ClassRetrieval); err != nil {
		t.Fatalf("wait: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for range cap(ended) {
		go func() { ended <- b.Wait(ctx, "amer-1", jumio.ClassRetrieval) }()
	}
	l := b.lane("amer-1", jumio.ClassRetrieval)
	waiting := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.waiting)
	}
	storetest.Eventually(t, "three that wait", func() bool { return waiting() == cap(ended) })
	cancel()
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	}
	if n := waiting(); n > 0 {
		t.Errorf("%d still wait", n)
	}
}

// TestTooLate: a slot is lost once its lateness is over, and all of them if the
// reservation took longer than that.
func TestTooLate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const spacing, late = 100 * time.Millisecond, 50 * time.Millisecond
	for _, test := range []struct {
		begun time.Duration
		late  time.Duration
		want  int
	}{
		{-time.Second, late, 0},
		{0, late, 0},
		{late, late, 0},
		{late + 1, late, 1},
		{late + spacing, late, 2},
		{time.Hour, late, 5},
		{-time.Second, -1, 5},
	} {
		b := block{next: now.Add(-test.begun), left: 5, late: test.late}
		if got := b.tooLate(now, spacing); got != test.want {
			t.Errorf("begun %s ago, late %s: %d slots are lost, want %d", test.begun, test.late, got, test.want)
		}
	}
}

// TestResumption: the share grows evenly from a tenth to the whole within a minute.
func TestResumption(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]float64{0: 0.1, 30 * time.Second: 0.55, time.Minute: 1, time.Hour: 1} {
		if got := resumedShare(after); got < want-1e-9 || got > want+1e-9 {
			t.Errorf("after %s: %v of the rate, want %v", after, got, want)
		}
	}
}
