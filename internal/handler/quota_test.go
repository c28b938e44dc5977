package handler

import (
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/callback"
)

// from makes the address check see the given addresses in turn, and reject all but
// allowedAddr.
func from(s *setup, address *netip.Addr) {
	s.options.Check = func(*http.Request) (netip.Addr, string) {
		if *address == allowedAddr {
			return allowedAddr, ""
		}
		return *address, "address_not_allowed"
	}
}

func (r *rig) keptFrom(address netip.Addr) int {
	_, rejected := r.store.kept()
	n := 0
	for _, k := range rejected {
		if k.SourceIP == address {
			n++
		}
	}
	return n
}

// However much strangers send, a body from an allowed address that callbackd does not
// understand is kept.
func TestStrangersDoNotUseUpWhatIsKeptOfAllowedAddresses(t *testing.T) {
	var address netip.Addr
	r := start(t, func(s *setup) {
		s.options.RejectedPerHour = 20
		from(s, &address)
	})
	for i := range 50 {
		address = netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
		r.post("{}")
	}
	address = allowedAddr
	r.post("{}").checkProblem(t, http.StatusBadRequest, string(callback.ErrMissingID))
	if n := r.keptFrom(allowedAddr); n != 1 {
		t.Errorf("%d kept of the allowed address, want 1", n)
	}
	if _, rejected := r.store.kept(); len(rejected) != 11 {
		t.Errorf("%d kept, want the strangers' 10 and 1", len(rejected))
	}
}

func TestOneStrangerDoesNotUseUpTheQuota(t *testing.T) {
	flooding, other := netip.MustParseAddr("203.0.113.66"), netip.MustParseAddr("198.51.100.7")
	address := flooding
	r := start(t, func(s *setup) {
		s.options.RejectedPerHour = 40
		from(s, &address)
	})
	for range 50 {
		r.post("{}")
	}
	address = other
	r.post("{}")
	if n := r.keptFrom(other); n != 1 {
		t.Errorf("%d kept of the other address, want 1", n)
	}
	if n := r.keptFrom(flooding); n != 10 {
		t.Errorf("%d kept of the flooding address, want half of the quota", n)
	}
	r.wantQuotaLine(t, "addresses that are not allowed")
}

// wantQuotaLine: one line says that a quota has no room, however much is sent.
func (r *rig) wantQuotaLine(t *testing.T, quota string) {
	t.Helper()
	lines := r.logs.FilterMessage("rejected callbacks are not kept").All()
	if len(lines) != 1 || lines[0].ContextMap()["of"] != quota {
		t.Errorf("%d lines, want one of %s: %v", len(lines), quota, lines)
	}
}

// The limit holds in any hour, even if requests end in a different order than they
// began, around a full hour.
func TestRejectedLimitHoldsOnBothSidesOfAFullHour(t *testing.T) {
	c := newClock(time.Date(2026, 1, 2, 3, 59, 59, 0, time.UTC))
	r := start(t, func(s *setup) {
		s.options.RejectedPerHour = 8
		s.options.Now = c.now
	})
	for range 20 {
		r.post("{}")
		c.add(2 * time.Second)
		r.post("{}")
		c.add(-2 * time.Second)
	}
	if _, rejected := r.store.kept(); len(rejected) > 8 {
		t.Errorf("%d kept within seconds, want at most the limit of 8", len(rejected))
	}
}

func TestQuota(t *testing.T) {
	type call struct {
		after time.Duration // since the first
		from  string
		kept  bool
	}
	calls := func(n int, after time.Duration, from string, kept bool) []call {
		return slices.Repeat([]call{{after, from, kept}}, n)
	}
	const a, b, none = "203.0.113.1", "203.0.113.2", ""
	for name, tc := range map[string]struct {
		limit int
		calls []call
	}{
		"none":                     {0, calls(2, 0, a, false)},
		"one":                      {1, slices.Concat(calls(1, 0, a, true), calls(1, 0, b, false))},
		"half for the first":       {8, slices.Concat(calls(4, 0, a, true), calls(1, 0, a, false), calls(2, 0, b, true), calls(1, 0, b, false), calls(1, 0, a, false))},
		"no address is a source":   {8, slices.Concat(calls(4, 0, none, true), calls(1, 0, none, false), calls(1, 0, a, true))},
		"a /64 is one source":      {2, slices.Concat(calls(1, 0, "2001:db8::1", true), calls(1, 0, "2001:db8::ffff:ffff:ffff:ffff", false), calls(1, 0, "2001:db8:0:1::1", true))},
		"IPv4 neighbours are two":  {2, slices.Concat(calls(1, 0, a, true), calls(1, 0, b, true))},
		"the hour slides":          {2, slices.Concat(calls(1, 0, a, true), calls(1, 59*time.Minute, b, true), calls(1, time.Hour-1, a, false), calls(1, time.Hour, a, true), calls(1, 118*time.Minute, b, false), calls(1, 119*time.Minute, b, true))},
		"a late one frees nothing": {2, slices.Concat(calls(1, time.Hour, a, true), calls(1, 0, b, true), calls(1, time.Hour, b, false), calls(1, 2*time.Hour-1, a, false), calls(1, 2*time.Hour, a, true))},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQuota("x", tc.limit, zap.NewNop())
			first := time.Date(2026, 1, 2, 3, 30, 0, 0, time.UTC)
			for i, c := range tc.calls {
				var addr netip.Addr
				if c.from != none {
					addr = netip.MustParseAddr(c.from)
				}
				if kept := q.take(first.Add(c.after), addr); kept != c.kept {
					t.Errorf("call %d: kept %t, want %t", i, kept, c.kept)
				}
			}
		})
	}
}

// With countless strangers, each with an address of its own, no hour has more than
// the limit, and it bounds the memory.
func TestQuotaIsBounded(t *testing.T) {
	const limit = 100
	q := newQuota("x", limit, zap.NewNop())
	now, addr := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), netip.MustParseAddr("198.18.0.0")
	var kept []time.Time
	for range 100_000 {
		now, addr = now.Add(100*time.Millisecond), addr.Next()
		if q.take(now, addr) {
			kept = append(kept, now)
		}
		if len(q.bySource) > limit || len(q.kept) > limit || cap(q.kept) > 4*limit {
			t.Fatalf("%d sources, %d times", len(q.bySource), cap(q.kept))
		}
	}
	for i := limit; i < len(kept); i++ {
		if kept[i].Sub(kept[i-limit]) < time.Hour {
			t.Fatalf("more than %d within an hour", limit)
		}
	}
	if want := 3 * limit; len(kept) != want { // of almost three hours
		t.Errorf("%d kept, want %d", len(kept), want)
	}
}

// A flood of requests is not a flood of log lines; they say how many were not kept.
func TestQuotaLinesAreLimited(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	q := newQuota("x", 2, zap.New(core))
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	for range 100 {
		q.take(now, allowedAddr)
	}
	q.take(now.Add(quotaLines), allowedAddr)
	lines := logs.All()
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	want := map[string]any{
		"of": "x", "limit": int64(2), "kept": int64(1), "kept_of_source": int64(1),
		"not_kept": int64(99), "source": allowedAddr.String() + "/32",
	}
	if diff := cmp.Diff(want, lines[1].ContextMap()); diff != "" {
		t.Errorf("the second line (-want +got):\n%s", diff)
	}
}
