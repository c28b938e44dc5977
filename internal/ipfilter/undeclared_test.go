package ipfilter

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap/zaptest/observer"
)

const (
	suspected = "a trusted proxy is probably not declared"
	cleared   = "no longer suspected of being an undeclared proxy"
)

// caller is the peer of a request, and what it writes in the client address header.
type caller struct{ peer, forwarded string }

func call(f *Filter, callers ...caller) {
	for _, c := range callers {
		r := request(netip.AddrPortFrom(netip.MustParseAddr(c.peer), 40000).String())
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		f.Check(r)
	}
}

func times(n int, callers ...caller) []caller { return slices.Repeat(callers, n) }

// wantSuspects: metric, log and note agree on who is suspected.
func wantSuspects(t *testing.T, f *Filter, logs *observer.ObservedLogs, want ...string) {
	t.Helper()
	expected := ""
	if len(want) > 0 {
		expected = "# HELP callbackd_undeclared_proxy 1 for each private address that is rejected and is probably a load balancer missing from CALLBACKD_TRUSTED_PROXIES.\n# TYPE callbackd_undeclared_proxy gauge\n"
	}
	for _, address := range want {
		expected += fmt.Sprintf("callbackd_undeclared_proxy{address=%q} 1\n", address)
	}
	if err := testutil.CollectAndCompare(f.metrics.undeclared, strings.NewReader(expected)); err != nil {
		t.Error(err)
	}
	said := map[string]bool{}
	for _, line := range logs.All() {
		if line.Message == suspected || line.Message == cleared {
			said[line.ContextMap()["address"].(string)] = line.Message == suspected
		}
	}
	note := f.UndeclaredProxies()
	for _, address := range want {
		if !said[address] || !strings.Contains(note, "CALLBACKD_TRUSTED_PROXIES probably lacks "+address) {
			t.Errorf("%s: logged %v, note %q", address, said[address], note)
		}
		delete(said, address)
	}
	for address, still := range said {
		if still {
			t.Errorf("%s is suspected in the log", address)
		}
	}
	if len(want) == 0 && note != "" {
		t.Errorf("note %q, want none", note)
	}
}

func TestUndeclaredProxy(t *testing.T) {
	var (
		balancer = caller{"172.16.0.5", jumio}
		another  = caller{"172.16.0.6", jumio}
		public   = caller{"203.0.113.66", ""}
		allowed  = caller{jumio, ""}
	)
	tests := []struct {
		name  string
		calls []caller
		want  []string
	}{
		{"nobody", nil, nil},
		{"two rejections are too few", times(2, balancer), nil},
		{"three", times(3, balancer), []string{"172.16.0.5"}},
		{"two balancers in turn", times(3, balancer, another), []string{"172.16.0.5", "172.16.0.6"}},
		{"one of them with two rejections", append(times(3, balancer), times(2, another)...), []string{"172.16.0.5"}},
		{"three private addresses, once each", []caller{balancer, another, {"172.16.0.7", ""}}, nil},
		{"a public rejection in between", slices.Concat(times(2, balancer), []caller{public}, times(2, balancer)), nil},
		{"a public rejection afterwards", append(times(9, balancer), public), nil},
		{"a trusted proxy without a client address afterwards", append(times(9, balancer), caller{"10.0.0.1", ""}), nil},
		{"public addresses only", times(9, public), nil},
		{"accepted callbacks through a declared balancer in between", times(3, balancer, caller{"10.0.0.1", jumio}), []string{"172.16.0.5"}},
		{"accepted callbacks only", times(9, allowed), nil},
		{"loopback", times(3, caller{"127.0.0.1", ""}), []string{"127.0.0.1"}},
		{"link-local", times(3, caller{"169.254.7.7", ""}), []string{"169.254.7.7"}},
		{"RFC 1918", times(3, caller{"192.168.1.1", ""}), []string{"192.168.1.1"}},
		{"RFC 4193", times(3, caller{"fd12::1", ""}), []string{"fd12::1"}},
		{"RFC 6598", times(3, caller{"100.64.0.1", ""}), []string{"100.64.0.1"}},
		{"beside RFC 6598", times(3, caller{"100.128.0.1", ""}), nil},
		{"IPv6 link-local", times(3, caller{"fe80::1%eth0", ""}), []string{"fe80::1"}},
		{"IPv4-mapped", times(3, caller{"::ffff:172.16.0.5", ""}), []string{"172.16.0.5"}},
		{"an inner proxy", times(3, caller{"10.0.0.1", jumio + ", 192.168.7.7"}), []string{"192.168.7.7"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, logs := newFilter(t, Config{TrustedProxies: prefixes(t, testTrusted...), JumioIPs: []string{"us"}}, nil)
			call(f, tt.calls...)
			wantSuspects(t, f, logs, tt.want...)
		})
	}
}

// Accepted callbacks clear an address that has not been rejected for a while,
// and only then: while one of two balancers is undeclared, some are accepted.
func TestSuspicionEnds(t *testing.T) {
	f, logs := newFilter(t, Config{TrustedProxies: prefixes(t, testTrusted...), JumioIPs: []string{"us"}}, nil)
	c := newClock()
	f.now = c.now
	balancer, stray, allowed := caller{"172.16.0.5", ""}, caller{"172.16.0.9", ""}, caller{"10.0.0.1", jumio}

	call(f, times(3, balancer)...)
	call(f, stray)
	c.advance(forgiveAfter - time.Second)
	call(f, allowed)
	wantSuspects(t, f, logs, "172.16.0.5")
	call(f, balancer)
	c.advance(time.Second)
	call(f, allowed) // forgets the stray one
	wantSuspects(t, f, logs, "172.16.0.5")
	c.advance(forgiveAfter)
	wantSuspects(t, f, logs, "172.16.0.5") // time alone mends nothing
	call(f, allowed)
	wantSuspects(t, f, logs)
	if n := logs.FilterMessage(cleared).Len(); n != 1 {
		t.Errorf("%d lines say that a suspicion ended, want 1", n)
	}
	if f.undeclared.watching.Load() {
		t.Error("accepted callbacks are still looked at")
	}
	call(f, times(2, stray)...)
	wantSuspects(t, f, logs)
}

// The log gives the advice once, however many rejections follow, and the advice fits
// what was seen.
func TestUndeclaredProxyAdvice(t *testing.T) {
	const address, alsoForward = "172.16.0.5", "pass the client's address on"
	tests := []struct {
		name    string
		caller  caller
		forward bool
	}{
		{"the peer forwards", caller{address, jumio}, false},
		{"the peer does not forward", caller{address, ""}, true},
		{"a hop that forwards", caller{"10.0.0.1", jumio + ", " + address}, false},
		{"a hop that forwards, behind a trusted one", caller{"10.0.0.1", jumio + ", " + address + ", 10.0.0.2"}, false},
		{"a hop that does not forward", caller{"10.0.0.1", address}, true},
		{"a hop that does not forward, behind a trusted one", caller{"10.0.0.1", address + ", 10.0.0.2"}, true},
		{"a hop with its own address before it", caller{"10.0.0.1", address + ", " + jumio + ", " + address}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, logs := newFilter(t, Config{TrustedProxies: prefixes(t, testTrusted...)}, nil)
			call(f, times(20, tt.caller)...)
			wantSuspects(t, f, logs, address)
			lines := logs.FilterMessage(suspected).All()
			if len(lines) != 1 {
				t.Fatalf("%d lines, want 1", len(lines))
			}
			hint := logs.FilterMessage("request rejected").All()[0].ContextMap()["hint"].(string)
			for _, text := range []string{lines[0].ContextMap()["advice"].(string), f.UndeclaredProxies(), hint} {
				if strings.Contains(text, alsoForward) != tt.forward {
					t.Errorf("%q", text)
				}
			}
		})
	}
}

// With the PROXY protocol a client address header does not help, so the advice does
// not ask for one; a declared proxy that names nobody is not suspected.
func TestUndeclaredProxyAdviceWithTheProxyProtocol(t *testing.T) {
	f, logs := newFilter(t, Config{ProxyProtocol: true, TrustedProxies: prefixes(t, testTrusted...)}, nil)
	call(f, times(3, caller{"172.16.0.5", jumio})...)
	wantSuspects(t, f, logs, "172.16.0.5")
	if note := f.UndeclaredProxies(); !strings.HasSuffix(note, "which must also send a PROXY header that names the client") {
		t.Errorf("note %q", note)
	}
	logs.TakeAll()

	call(f, times(3, caller{"10.0.0.1", jumio})...)
	wantSuspects(t, f, logs)
	line := logs.FilterMessage("request rejected").All()[0].ContextMap()
	if line["detail"] != detailNoSource || line["header_believed"] != false || line["hint"] != nil || line["address"] != "10.0.0.1" {
		t.Errorf("logged %v", line)
	}
}

// If an undeclared balancer speaks the PROXY protocol, its connection is closed before
// there is a request.
func TestUndeclaredProxyOfTheProxyProtocol(t *testing.T) {
	f, logs := newFilter(t, Config{}, nil)
	for range suspectAfter {
		if err := f.checkProxySender(&net.TCPAddr{IP: net.ParseIP("172.16.0.5"), Port: 1}); err == nil {
			t.Fatal("not closed")
		}
	}
	wantSuspects(t, f, logs, "172.16.0.5")
	_ = f.checkProxySender(&net.TCPAddr{IP: net.ParseIP("203.0.113.66"), Port: 1})
	wantSuspects(t, f, logs)
}

// Neither the log nor the labels grow with what strangers do.
func TestSuspicionsAreBounded(t *testing.T) {
	f, logs := newFilter(t, Config{}, nil)
	c := newClock()
	f.now = c.now
	first := netip.MustParseAddr("172.16.0.0")
	for range suspectAfter {
		addr := first
		for range 1000 {
			addr = addr.Next()
			call(f, caller{addr.String(), ""})
		}
	}
	if n := testutil.CollectAndCount(f.metrics.undeclared); n != maxSuspects {
		t.Errorf("%d samples, want %d", n, maxSuspects)
	}
	for range 100 {
		call(f, caller{"203.0.113.66", ""})
		call(f, times(3, caller{"172.16.0.5", ""})...)
	}
	if n := logs.FilterMessage(suspected).Len(); n != maxSuspects {
		t.Errorf("%d lines, want %d", n, maxSuspects)
	}
	// A suppressed line is logged as soon as the limit allows.
	c.advance(suspicionLines)
	call(f, caller{"172.16.0.5", ""})
	wantSuspects(t, f, logs, "172.16.0.5")
}
