package ipfilter

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestNewAddressWorksFromItsFirstRequest(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	f, _ := dnsFilter(t, server, nil)
	f.maxWait = 30 * time.Second
	start(t, f)
	if d := check(f, oldV4); !d.Allowed {
		t.Fatalf("the first refresh was not waited for: %+v", d)
	}
	eventually(t, "end of the first refresh", func() bool { return !refreshing(f) })
	server.set(dns.TypeA, modeAnswer, oldV4, newV4)
	if d := check(f, newV4); !d.Allowed {
		t.Errorf("rejected: %+v", d)
	}
}

// A refresh that ends just before a request would wait for it is enough.
func TestAddressThatJustBecameKnownCostsNoRefresh(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	f, _ := dnsFilter(t, server, nil)
	f.refresh(t.Context())
	if !f.awaitAddress(t.Context(), addrs(oldV4)[0]) {
		t.Error("rejected")
	}
	if len(f.wanted) != 0 || f.current != nil {
		t.Error("another refresh was asked for")
	}
}

// A good A record takes effect at once, even if the AAAA question is never answered.
func TestNewAddressDoesNotWaitForTheOtherFamily(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	server.set(dns.TypeAAAA, modeDrop)
	f, _ := dnsFilter(t, server, nil)
	f.maxWait = 24 * time.Hour
	start(t, f)
	if d := check(f, oldV4); !d.Allowed {
		t.Errorf("rejected: %+v", d)
	}
	if !refreshing(f) {
		t.Error("the request waited for the whole refresh")
	}
}

func refreshing(f *Filter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current != nil
}

// startIdle starts f and waits until its first refresh is over.
func startIdle(t *testing.T, f *Filter) {
	t.Helper()
	start(t, f)
	eventually(t, "end of the first refresh", func() bool { return !refreshing(f) })
}

// waitingContext signals when its request begins to wait.
type waitingContext struct {
	context.Context
	once    sync.Once
	waiting func()
}

func (c *waitingContext) Done() <-chan struct{} {
	c.once.Do(c.waiting)
	return c.Context.Done()
}

func TestThousandWaitingRequestsShareOneLookup(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	f, _ := dnsFilter(t, server, nil)
	f.lookupTimeout, f.maxWait = 4*time.Second, time.Minute
	startIdle(t, f)
	before := server.count(host + ". A")
	server.set(dns.TypeA, modeAnswer, oldV4, newV4)
	release := server.holdAnswers()
	defer release()

	const requests = 1000
	var waiting, finished sync.WaitGroup
	var mu sync.Mutex
	allowed := 0
	waiting.Add(requests)
	for i := range requests {
		finished.Go(func() {
			addr := newV4
			if i%2 == 1 {
				addr = "203.0.113.66" // stays unknown
			}
			r := request(addr + ":40000")
			d := f.Check(r.WithContext(&waitingContext{Context: r.Context(), waiting: waiting.Done}))
			mu.Lock()
			defer mu.Unlock()
			if d.Allowed {
				allowed++
			}
		})
	}
	waiting.Wait()
	release()
	finished.Wait()
	if allowed != requests/2 {
		t.Errorf("%d requests allowed, want %d", allowed, requests/2)
	}
	if got := server.count(host+". A") - before; got != 1 {
		t.Errorf("%d look-ups, want 1", got)
	}
}

func TestUnknownAddressesRefreshAtMostEveryTenSeconds(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	f, c := dnsFilter(t, server, nil)
	f.maxWait = 30 * time.Second
	startIdle(t, f)
	steps := []struct {
		after   time.Duration
		lookups int
	}{{0, 2}, {0, 2}, {missInterval - 1, 2}, {1, 3}, {1, 3}, {missInterval, 4}}
	for i, step := range steps {
		c.advance(step.after)
		if d := check(f, "203.0.113.66"); d.Reason != ReasonNotAllowed {
			t.Fatalf("step %d: %+v", i, d)
		}
		eventually(t, "end of the refresh", func() bool { return !refreshing(f) })
		if got := server.count(host + ". A"); got != step.lookups {
			t.Errorf("step %d: %d look-ups, want %d", i, got, step.lookups)
		}
	}
}

func TestDNSDownBlocksNoRequestFromAKnownAddress(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeDrop)
	server.set(dns.TypeAAAA, modeDrop)
	f, _ := dnsFilter(t, server, nil)
	f.maxWait = 24 * time.Hour
	start(t, f)
	eventually(t, "first look-up", func() bool { return server.count(host+". A") > 0 })
	if d := check(f, jumio); !d.Allowed {
		t.Errorf("built-in address rejected: %+v", d)
	}
	if !refreshing(f) {
		t.Error("the request waited for the refresh")
	}
}

func TestRefusedRequestWaitsAShortTime(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeDrop)
	server.set(dns.TypeAAAA, modeDrop)
	f, _ := dnsFilter(t, server, nil)
	f.maxWait = 50 * time.Millisecond
	start(t, f)
	if d := check(f, newV4); d.Reason != ReasonNotAllowed {
		t.Errorf("got %+v", d)
	}
	if !refreshing(f) {
		t.Error("the request waited for the whole refresh")
	}
}

// A client that gives up stops waiting, and the refresh goes on for the others.
func TestRequesterLeaves(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	f, _ := dnsFilter(t, server, nil)
	f.lookupTimeout, f.maxWait = 4*time.Second, 24*time.Hour
	startIdle(t, f)
	server.set(dns.TypeA, modeAnswer, newV4)
	release := server.holdAnswers()
	defer release()

	ctx, leave := context.WithCancel(t.Context())
	waiting := make(chan struct{})
	left := make(chan Decision)
	go func() {
		left <- f.Check(request(newV4 + ":1").WithContext(
			&waitingContext{Context: ctx, waiting: func() { close(waiting) }}))
	}()
	<-waiting
	leave()
	if d := <-left; d.Allowed {
		t.Error("allowed without an answer")
	}
	release()
	eventually(t, "the answer to be in force", func() bool {
		return slices.Contains(allowed(f, newV4), newV4)
	})
}

func TestRunEndsItsWaiters(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeDrop)
	server.set(dns.TypeAAAA, modeDrop)
	f, _ := dnsFilter(t, server, nil)
	f.lookupTimeout, f.maxWait = 24*time.Hour, 24*time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	waiting := make(chan struct{})
	rejected := make(chan Decision)
	go func() {
		r := request(newV4 + ":1")
		rejected <- f.Check(r.WithContext(&waitingContext{Context: r.Context(), waiting: func() { close(waiting) }}))
	}()
	<-waiting
	cancel()
	if d := <-rejected; d.Allowed {
		t.Error("allowed without an answer")
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if d := check(f, newV4); d.Allowed { // returns at once, or the test hangs
		t.Error("allowed without an answer")
	}
	if n := testutil.CollectAndCount(f.metrics.refreshes); n != 0 {
		t.Error("look-ups that the stop cut short were counted")
	}
}
