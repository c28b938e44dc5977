package ipfilter

import (
	"context"
	"net/netip"
	"time"
)

// awaitAddress waits until a list allows addr, the refresh in progress ends, or
// the request has waited long enough. It reports whether addr is then allowed.
func (f *Filter) awaitAddress(ctx context.Context, addr netip.Addr) bool {
	refresh := f.join(addr)
	if refresh == nil {
		return f.list.Load().allows(addr, f.now())
	}
	timeout := time.NewTimer(f.maxWait)
	defer timeout.Stop()
	for waiting := true; waiting; {
		list := f.list.Load()
		if list.allows(addr, f.now()) {
			return true
		}
		select {
		case <-list.replaced:
		case <-refresh:
			waiting = false
		case <-timeout.C:
			waiting = false
		case <-ctx.Done():
			return false
		}
	}
	return f.list.Load().allows(addr, f.now())
}

// join returns the refresh in progress, or wakes Run for one. It returns nil if
// there are no host names, the last refresh was too recent, or Run has ended; and
// also if a refresh that has just ended made addr known, because that must not use
// up the one refresh of the next 10 s.
func (f *Filter) join(addr netip.Addr) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil {
		return f.current
	}
	now := f.now()
	if len(f.hosts) == 0 || f.stopped || f.list.Load().allows(addr, now) || !f.misses.AllowN(now, 1) {
		return nil
	}
	f.wake()
	return f.current
}

// Refresh wakes Run for a refresh, which also reads the memory if that was not
// possible before.
func (f *Filter) Refresh() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current == nil && len(f.hosts) > 0 && !f.stopped {
		f.wake()
	}
}

// wake has Run begin a refresh; f.mu is held, and none is in progress.
func (f *Filter) wake() {
	f.current = make(chan struct{})
	f.wanted <- struct{}{}
}

// begin marks a refresh as in progress; from now on, requests join it.
func (f *Filter) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current == nil {
		f.current = make(chan struct{})
	}
	// If a request has asked for a refresh, this is it.
	select {
	case <-f.wanted:
	default:
	}
}

// end releases the requests that wait for the refresh.
func (f *Filter) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil {
		close(f.current)
		f.current = nil
	}
}

// stop releases all requests, for good.
func (f *Filter) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.end()
}
