package ipfilter

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
)

func TestAllowedAddresses(t *testing.T) {
	all := []string{"us", "eu", "sg"}
	tests := []struct {
		name    string
		regions []string
		cidrs   []string
		addr    string
		want    bool
	}{
		{"US address of the guide", all, nil, "34.226.254.127", true},
		{"US address that left since the guide", all, nil, "52.52.51.178", true},
		{"US address that came later", all, nil, "54.183.15.212", true},
		{"EU address of the guide", all, nil, "52.209.180.134", true},
		{"SG address of the guide", all, nil, "3.0.109.121", true},
		{"SG address that came later", all, nil, "52.64.132.26", true},
		{"built-in address in its IPv4-mapped form", all, nil, "::ffff:3.0.109.121", true},
		{"neighbour of a built-in address", all, nil, "3.0.109.122", false},
		{"region that is not configured", []string{"eu"}, nil, "3.0.109.121", false},
		{"no built-in lists", nil, nil, "34.226.254.127", false},
		{"inside a CIDR", nil, []string{"192.0.2.128/25"}, "192.0.2.200", true},
		{"outside a CIDR", nil, []string{"192.0.2.128/25"}, "192.0.2.100", false},
		{"IPv4-mapped peer inside an IPv4 CIDR", nil, []string{"10.0.0.0/8"}, "::ffff:10.0.0.1", true},
		{"CIDR with host bits", nil, []string{"10.1.2.3/8"}, "10.200.0.1", true},
		{"IPv6 CIDR", nil, []string{"2001:db8::/32"}, "2001:db8::1", true},
		{"IPv6 peer with a zone inside a CIDR", nil, []string{"fe80::/10"}, "fe80::1%eth0", true},
		{"all IPv6 is not all IPv4", nil, []string{"::/0"}, "10.0.0.1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := newFilter(t, Config{JumioIPs: tt.regions, AllowedCIDRs: prefixes(t, tt.cidrs...)}, nil)
			want := Decision{Addr: plain(netip.MustParseAddr(tt.addr)), Allowed: tt.want}
			if !tt.want {
				want.Reason = ReasonNotAllowed
			}
			if got := check(f, tt.addr); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestNoClientAddressIsRejected(t *testing.T) {
	// That the peer itself is allowed and trusted must not help.
	f, _ := newFilter(t, Config{
		TrustedProxies: prefixes(t, "10.0.0.0/8"),
		AllowedCIDRs:   prefixes(t, "0.0.0.0/0"),
	}, nil)
	want := Decision{Reason: ReasonNoAddress}
	if got := check(f, "10.0.0.1"); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestNewRejectsWrongSettings(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"unknown region", Config{JumioIPs: []string{"us", "mars"}}, `"mars"`},
		{"zero trusted proxy", Config{TrustedProxies: []netip.Prefix{{}}}, "invalid Prefix"},
		{"zero CIDR", Config{AllowedCIDRs: []netip.Prefix{{}}}, "invalid Prefix"},
		{"IPv4-mapped CIDR", Config{AllowedCIDRs: prefixes(t, "::ffff:10.0.0.0/104")}, "::ffff:10.0.0.0/104"},
		{"host names without an interval", Config{JumioHosts: []string{"a.test"}}, "interval"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.cfg, nil, zap.NewNop(), NewMetrics(prometheus.NewRegistry()))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not name %s", err, tt.want)
			}
		})
	}
}

func TestAddressMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	_, err := New(Config{JumioIPs: []string{"us", "eu"}, AllowedCIDRs: prefixes(t, "10.0.0.0/8")},
		nil, zap.NewNop(), NewMetrics(reg))
	if err != nil {
		t.Fatal(err)
	}
	want := `
# HELP callbackd_allowlist_addresses Allowed addresses by source: us, eu and sg (built-in lists), cidr (configured CIDRs, each counts once), dns (in the last good answer), dns_grace (left DNS, still allowed).
# TYPE callbackd_allowlist_addresses gauge
callbackd_allowlist_addresses{source="cidr"} 1
callbackd_allowlist_addresses{source="dns"} 0
callbackd_allowlist_addresses{source="dns_grace"} 0
callbackd_allowlist_addresses{source="eu"} 6
callbackd_allowlist_addresses{source="us"} 9
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "callbackd_allowlist_addresses"); err != nil {
		t.Error(err)
	}
}

func TestRejectionIsLogged(t *testing.T) {
	f, logs := newFilter(t, Config{TrustedProxies: prefixes(t, testTrusted...)}, nil)
	r := request(lb)
	r.Header["X-Forwarded-For"] = []string{strings.Repeat("9", 600) + "\r\n\x1b[31m, " + jumio + ", 10.0.0.2:80"}
	f.Check(r)

	lines := logs.FilterMessage("request rejected").All()
	if len(lines) != 1 {
		t.Fatalf("%d lines, want 1", len(lines))
	}
	got := lines[0].ContextMap()
	for field, want := range map[string]any{
		"reason": ReasonNotAllowed, "peer": lb, "address": jumio, "header": "X-Forwarded-For",
		"header_believed": true, "chain": "unreadable, " + jumio + ", 10.0.0.2", "suppressed": int64(0),
	} {
		if got[field] != want {
			t.Errorf("%s: got %v, want %v", field, got[field], want)
		}
	}
	value := got["header_value"].(string)
	if len(value) > maxLoggedHeader+len("…") || !strings.HasSuffix(value, "10.0.0.2:80") {
		t.Errorf("header_value is %d bytes: %q", len(value), value)
	}
	if _, ok := got["hint"]; ok {
		t.Error("a hint, though a proxy is trusted")
	}
}

// Nothing that a stranger writes can control a terminal or a log viewer.
func TestRejectionIsLoggedInPrintableASCII(t *testing.T) {
	for name, text := range map[string]string{
		"CSI, ESC [ in one": "\u009b31m", "OSC": "\u009d0;title\u009c", "escape": "\x1b[31m", "line break": "\r\n{}",
		"right to left": "\u202e", "isolate": "\u2066", "zero width": "\u200b", "line separator": "\u2028",
		"no UTF-8": "\xff\x9b", "delete": "\x7f", "beyond the BMP": "\U000e0041",
		"long": strings.Repeat("\u009b", maxLoggedHeader),
	} {
		t.Run(name, func(t *testing.T) {
			f, logs := newFilter(t, Config{TrustedProxies: prefixes(t, testTrusted...)}, nil)
			r := request(lb)
			r.Header["X-Forwarded-For"] = []string{text + ", 203.0.113.66"}
			f.Check(r)
			for field, value := range logs.FilterMessage("request rejected").All()[0].ContextMap() {
				s, _ := value.(string)
				s = strings.TrimPrefix(s, "…")
				if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) || len(s) > maxLoggedHeader {
					t.Errorf("%s: %d bytes %q", field, len(s), s)
				}
			}
			if value := logs.All()[0].ContextMap()["header_value"].(string); !strings.HasSuffix(value, ", 203.0.113.66") {
				t.Errorf("header_value %q", value)
			}
		})
	}
}

func TestRejectionHintsAtAnUndeclaredLoadBalancer(t *testing.T) {
	for addr, want := range map[string]bool{"10.0.0.1": true, "127.0.0.1": true, "fd00::1": true, "203.0.113.66": false} {
		f, logs := newFilter(t, Config{}, nil)
		check(f, addr)
		_, got := logs.All()[0].ContextMap()["hint"]
		if got != want {
			t.Errorf("%s: hint %v, want %v", addr, got, want)
		}
	}
}

func TestRejectionLinesAreLimited(t *testing.T) {
	f, logs := newFilter(t, Config{}, nil)
	f.rejected.limiter.SetLimit(0) // only the burst
	for range 100 {
		check(f, "203.0.113.66")
	}
	if n := logs.Len(); n != rejectedPerSecond {
		t.Fatalf("%d lines, want %d", n, rejectedPerSecond)
	}
	f.rejected.limiter.SetLimit(1e9)
	eventually(t, "the next line", func() bool {
		check(f, "203.0.113.66")
		return logs.Len() > rejectedPerSecond
	})
	if got := logs.All()[rejectedPerSecond].ContextMap()["suppressed"].(int64); got < 95 {
		t.Errorf("suppressed %d, want at least 95", got)
	}
}

func TestTheLongestPermissionWins(t *testing.T) {
	now := time.Now()
	never, soon, late := time.Time{}, now.Add(time.Second), now.Add(time.Hour)
	for _, order := range [][2]time.Time{{soon, late}, {late, soon}, {never, soon}, {soon, never}} {
		l := &allowlist{addrs: make(map[netip.Addr]time.Time)}
		addr := netip.MustParseAddr(jumio)
		l.add(addr, order[0])
		l.add(addr, order[1])
		if !l.allows(addr, now.Add(time.Minute)) {
			t.Errorf("%v: not allowed after a minute", order)
		}
	}
}
