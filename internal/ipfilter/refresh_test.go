package ipfilter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"callbackd/internal/store/receiving"
)

const (
	// Public ones, because those for documentation are not believed from DNS.
	oldV4 = "34.192.0.1"
	newV4 = "34.192.0.2"
	oldV6 = "2600:1f18::1"
	newV6 = "2600:1f18::2"
	host  = "callback.test"
	grace = time.Hour
)

// dnsFilter returns a Filter that asks server for one host name. The test calls its
// refresh and sets its clock.
func dnsFilter(t *testing.T, server *nameServer, mem Memory) (*Filter, *clock) {
	t.Helper()
	f, _ := newFilter(t, Config{
		JumioIPs: []string{"us"}, JumioHosts: []string{host}, DNSServer: server.addr,
		DNSRefresh: time.Hour, DNSGrace: grace,
	}, mem)
	c := newClock()
	f.now = c.now
	f.lookupTimeout = 10 * time.Second
	return f, c
}

// allowed returns which of the addresses the current list allows.
func allowed(f *Filter, list ...string) []string {
	got := []string{}
	for _, s := range list {
		if f.list.Load().allows(addrs(s)[0], f.now()) {
			got = append(got, s)
		}
	}
	return got
}

func wantAllowed(t *testing.T, f *Filter, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, allowed(f, oldV4, newV4, oldV6, newV6)); diff != "" {
		t.Errorf("allowed addresses (-want +got):\n%s", diff)
	}
}

func outcomes(f *Filter, outcome string) float64 {
	return testutil.ToFloat64(f.metrics.refreshes.WithLabelValues(host, outcome))
}

// The outcome of a host from those of its A and AAAA look-ups.
func TestCombine(t *testing.T) {
	tests := []struct{ a, b, want string }{
		{outcomeOK, outcomeOK, outcomeOK},
		{outcomeOK, outcomeNotFound, outcomeOK},
		{outcomeOK, outcomeTimeout, outcomePartial},
		{outcomeOK, outcomeServerFailure, outcomePartial},
		{outcomeNotFound, outcomeNotFound, outcomeNotFound},
		{outcomeNotFound, outcomeTimeout, outcomeTimeout},
		{outcomeNotFound, outcomeServerFailure, outcomeServerFailure},
		{outcomeTimeout, outcomeTimeout, outcomeTimeout},
	}
	for _, tt := range tests {
		a, b := lookup{outcome: tt.a}, lookup{outcome: tt.b}
		if got := combine(a, b); got != tt.want {
			t.Errorf("%s and %s: got %s, want %s", tt.a, tt.b, got, tt.want)
		}
		if got := combine(b, a); got != tt.want {
			t.Errorf("%s and %s: got %s, want %s", tt.b, tt.a, got, tt.want)
		}
	}
}

func TestResolvesAandAAAA(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4, newV4)
	server.set(dns.TypeAAAA, modeAnswer, oldV6)
	f, c := dnsFilter(t, server, nil)
	f.refresh(t.Context())

	wantAllowed(t, f, oldV4, newV4, oldV6)
	if got := outcomes(f, outcomeOK); got != 1 {
		t.Errorf("outcome ok counted %v times, want 1", got)
	}
	if got := testutil.ToFloat64(f.metrics.lastSuccess.WithLabelValues(host)); got != float64(c.now().Unix()) {
		t.Errorf("last success %v, want %v", got, c.now().Unix())
	}
	if got := testutil.ToFloat64(f.metrics.addresses.WithLabelValues("dns")); got != 3 {
		t.Errorf("dns addresses %v, want 3", got)
	}
}

func TestTruncatedAnswerIsReadOverTCP(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeTruncated, oldV4)
	f, _ := dnsFilter(t, server, nil)
	f.refresh(t.Context())
	wantAllowed(t, f, oldV4)
	if server.overTCP == 0 {
		t.Error("nothing was asked over TCP")
	}
}

// After a failed look-up, the last good answer stays in effect without end.
func TestFailedLookupKeepsTheLastGoodAnswer(t *testing.T) {
	tests := []struct {
		name    string
		mode    int
		outcome string
	}{
		{"NXDOMAIN", modeNXDOMAIN, outcomeNotFound},
		{"empty answer", modeAnswer, outcomeNotFound},
		{"SERVFAIL", modeSERVFAIL, outcomeServerFailure},
		{"REFUSED", modeREFUSED, outcomeServerFailure},
		{"time-out", modeDrop, outcomeTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := startNameServer(t)
			server.set(dns.TypeA, modeAnswer, oldV4)
			server.set(dns.TypeAAAA, modeAnswer, oldV6)
			f, c := dnsFilter(t, server, nil)
			f.refresh(t.Context())

			server.set(dns.TypeA, tt.mode)
			server.set(dns.TypeAAAA, tt.mode)
			if tt.mode == modeDrop {
				f.lookupTimeout = 100 * time.Millisecond
			}
			for range 2 {
				c.advance(10 * grace)
				f.refresh(t.Context())
			}
			wantAllowed(t, f, oldV4, oldV6)
			if got := outcomes(f, tt.outcome); got != 2 {
				t.Errorf("outcome %s counted %v times, want 2", tt.outcome, got)
			}
			if got := outcomes(f, outcomeOK); got != 1 {
				t.Errorf("outcome ok counted %v times, want 1", got)
			}
		})
	}
}

// Grace counts from the first good answer that lacks the address.
func TestGrace(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	f, c := dnsFilter(t, server, nil)
	f.refresh(t.Context())
	c.advance(5 * grace)
	server.set(dns.TypeA, modeAnswer, newV4)
	f.refresh(t.Context())

	wantAllowed(t, f, oldV4, newV4)
	if got := testutil.ToFloat64(f.metrics.addresses.WithLabelValues("dns_grace")); got != 1 {
		t.Errorf("addresses in grace %v, want 1", got)
	}
	c.advance(grace - 1)
	f.refresh(t.Context()) // a later answer without it does not begin anew
	wantAllowed(t, f, oldV4, newV4)
	c.advance(1)
	wantAllowed(t, f, newV4) // by the clock, before any refresh
	f.refresh(t.Context())
	wantAllowed(t, f, newV4)
	if len(f.known) != 1 {
		t.Errorf("%d addresses known, want 1", len(f.known))
	}
}

func TestGraceEndsWhileDNSIsDown(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4, newV4)
	f, c := dnsFilter(t, server, nil)
	f.refresh(t.Context())
	server.set(dns.TypeA, modeAnswer, newV4)
	f.refresh(t.Context())
	server.set(dns.TypeA, modeSERVFAIL)
	c.advance(grace)
	f.refresh(t.Context())
	wantAllowed(t, f, newV4)
}

func TestAddressThatComesBackStays(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4, newV4)
	f, c := dnsFilter(t, server, nil)
	f.refresh(t.Context())
	server.set(dns.TypeA, modeAnswer, newV4)
	f.refresh(t.Context())
	c.advance(grace / 2)
	server.set(dns.TypeA, modeAnswer, oldV4, newV4)
	f.refresh(t.Context())
	c.advance(10 * grace)
	wantAllowed(t, f, oldV4, newV4)
}

// One family's failure says nothing about that family's addresses, and the other
// family's answer counts.
func TestOneFamilyFails(t *testing.T) {
	for name, mode := range map[string]int{"SERVFAIL": modeSERVFAIL, "time-out": modeDrop} {
		t.Run(name, func(t *testing.T) {
			server := startNameServer(t)
			server.set(dns.TypeA, modeAnswer, oldV4)
			server.set(dns.TypeAAAA, modeAnswer, oldV6)
			f, c := dnsFilter(t, server, nil)
			f.refresh(t.Context())

			server.set(dns.TypeA, modeAnswer, newV4)
			server.set(dns.TypeAAAA, mode)
			if mode == modeDrop {
				f.lookupTimeout = 2 * time.Second
			}
			f.refresh(t.Context())
			if got := outcomes(f, outcomePartial); got != 1 {
				t.Fatalf("outcome partial counted %v times, want 1", got)
			}
			c.advance(grace)
			wantAllowed(t, f, newV4, oldV6)
		})
	}
}

// A host without AAAA records is normal: its good answer lacks the old ones.
func TestOneFamilyIsGone(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	server.set(dns.TypeAAAA, modeAnswer, oldV6)
	f, c := dnsFilter(t, server, nil)
	f.refresh(t.Context())
	server.set(dns.TypeAAAA, modeAnswer)
	f.refresh(t.Context())
	if got := outcomes(f, outcomeOK); got != 2 {
		t.Errorf("outcome ok counted %v times, want 2", got)
	}
	wantAllowed(t, f, oldV4, oldV6)
	c.advance(grace)
	wantAllowed(t, f, oldV4)
}

func TestRefreshesOnTheInterval(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	f, _ := newFilter(t, Config{
		JumioHosts: []string{"A.test.", "a.test", "b.test"}, DNSServer: server.addr,
		DNSRefresh: time.Millisecond, DNSGrace: grace,
	}, nil)
	start(t, f)
	for _, name := range []string{"a.test. A", "b.test. A", "a.test. AAAA", "b.test. AAAA"} {
		eventually(t, "third question for "+name, func() bool { return server.count(name) >= 3 })
	}
}

func TestNoHostNamesMeansNothingToRefresh(t *testing.T) {
	f, _ := newFilter(t, Config{JumioIPs: []string{"us"}}, nil)
	f.maxWait = 24 * time.Hour
	start(t, f)
	if d := check(f, newV4); d.Reason != ReasonNotAllowed {
		t.Errorf("got %+v", d)
	}
}

func TestJitter(t *testing.T) {
	for range 1000 {
		if d := withJitter(time.Minute); d < 54*time.Second || d > 66*time.Second {
			t.Fatalf("%v is more than a tenth off a minute", d)
		}
	}
}

// The log says which addresses are allowed while DNS fails. At a first start no last
// addresses can stay allowed, which one line says for all host names.
func TestLogWhileDNSFails(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeSERVFAIL)
	server.set(dns.TypeAAAA, modeNXDOMAIN)
	known := hostAddr{host, addrs(oldV4)[0]}
	f, logs := newFilter(t, Config{
		JumioIPs: []string{"us"}, JumioHosts: []string{"a.test", "b.test", host}, DNSServer: server.addr, DNSRefresh: time.Hour,
	}, &memory{rows: map[hostAddr]receiving.Address{known: {Host: host, Addr: known.addr, LastSeen: time.Now()}}})
	for range 2 { // only news is logged
		f.refresh(t.Context())
	}
	got := map[string]any{}
	for _, line := range logs.FilterLevelExact(zap.WarnLevel).All() {
		fields := line.ContextMap()
		if got[line.Message] != nil || !strings.Contains(fmt.Sprint(fields["ip4_error"]), server.addr+": server misbehaving") {
			t.Errorf("%s: %v, want one line with the name server's error", line.Message, fields)
		}
		if got[line.Message] = fields["hosts"]; fields["host"] != nil {
			got[line.Message] = fields["host"]
		}
	}
	want := map[string]any{
		"host name not resolved, its last addresses stay allowed":                                                       host,
		"host names not resolved and none of their addresses known: only built-in and configured addresses are allowed": []any{"a.test", "b.test"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}
