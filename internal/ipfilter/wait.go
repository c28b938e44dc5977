package ipfilter

import (
	"context"
	"net/netip"
	"time"
)

// awaitAddress waits until a list allows addr, the refresh under way ends, or the
// request has waited long enough. It says whether addr is allowed then.
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

// join returns the refresh under way or wakes Run for one. It returns nil when
// none may be had: no host names, too soon after the last one, or Run has ended.
// It is also nil when a refresh that has just ended made addr known: that must
// not cost the one refresh of the next 10 s.
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
	f.current = make(chan struct{})
	f.wanted <- struct{}{}
	return f.current
}

// Refresh wakes Run for a refresh, which also reads the memory if that has not
// been possible yet.
func (f *Filter) Refresh() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current == nil && len(f.hosts) > 0 && !f.stopped {
		f.current = make(chan struct{})
		f.wanted <- struct{}{}
	}
}

// begin marks a refresh as under way; requests join it from here on.
func (f *Filter) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current == nil {
		f.current = make(chan struct{})
	}
	// This refresh is also the one that a request may have asked for.
	select {
	case <-f.wanted:
	default:
	}
}

// end lets the requests go that wait for the refresh.
func (f *Filter) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil {
		close(f.current)
		f.current = nil
	}
}

// stop ends all waiting for good.
func (f *Filter) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.end()
}
