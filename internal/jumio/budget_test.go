package jumio

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLocalBudget: each data center has its requests a second, and account requests are
// counted apart.
func TestLocalBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewLocalBudget(10)
		start := time.Now()
		var wg sync.WaitGroup
		for _, dataCenter := range []string{"amer-1", "emea-1"} {
			for i := range 21 {
				wg.Go(func() {
					if err := b.Wait(t.Context(), dataCenter, Class(i%2)); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if took := time.Since(start).Round(time.Millisecond); took != 2*time.Second {
			t.Errorf("21 requests took %v, want 2s", took)
		}
		start = time.Now()
		for range 3 {
			if err := b.Wait(t.Context(), "amer-1", ClassAccount); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start).Round(time.Millisecond); took != 2*time.Second {
			t.Errorf("3 account requests took %v, want 2s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := b.Wait(ctx, "amer-1", ClassAccount); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		cancel()
		if err := b.Wait(ctx, "amer-1", ClassAccount); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// recordingBudget records what it is asked, and answers err.
type recordingBudget struct {
	mu    sync.Mutex
	asked []string
	err   error
}

func (b *recordingBudget) Wait(_ context.Context, dataCenter string, class Class) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, fmt.Sprintf("%s %d", dataCenter, class))
	return b.err
}

// TestClasses: which requests take which budget.
func TestClasses(t *testing.T) {
	s := newServer(t, nil, answer(200, "application/json", guideCreation))
	budget := &recordingBudget{}
	cfg := testConfig(s.URL)
	cfg.Budget = budget
	c := newClient(t, cfg)
	_ = call(t.Context(), c, EndpointStatus)
	_ = call(WithClass(t.Context(), ClassReconciliation), c, EndpointDetails)
	_, _ = c.CreateAccount(t.Context(), "emea-1", []byte("{}"))
	_ = c.DeleteAccount(WithClass(t.Context(), ClassReconciliation), "apac-1", "a")
	_, _ = c.Health(t.Context(), "amer-1")
	link := &Link{url: s.URL + "/api/v1/x", token: "t"}
	_, _ = c.Upload(t.Context(), link, newFile(t, drawPNG(t)))
	_, _ = c.Finalize(t.Context(), link)
	want := []string{"amer-1 0", "amer-1 1", "emea-1 2", "apac-1 0"}
	if diff := cmp.Diff(want, budget.asked); diff != "" {
		t.Error(diff)
	}
}

// TestNoBudget: without an answer of the budget nothing is sent, and it is not Jumio that
// is to blame.
func TestNoBudget(t *testing.T) {
	s := newServer(t, nil, answer(200, "application/json", guideCreation))
	down := errors.New("database unavailable")
	cfg := testConfig(s.URL)
	cfg.Budget = &recordingBudget{err: down}
	c := newClient(t, cfg)
	err := call(t.Context(), c, EndpointDetails)
	if e := asError(t, err, CodeNoBudget); !errors.Is(e, down) {
		t.Errorf("got %v", err)
	}
	_, err = c.CreateAccount(t.Context(), "amer-1", []byte("{}"))
	if e := asError(t, err, CodeNoBudget); e.Verdict == OutcomeUnknown {
		t.Error("nothing was sent")
	}
	if n := s.apiRequests.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}
