package ipfilter

import (
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// BenchmarkCheck decides about one address, without DNS: even if host names are
// configured, an unknown address causes no refresh.
func BenchmarkCheck(b *testing.B) {
	forwarded := func(addr string) *http.Request {
		r := request(lb)
		r.Header.Set("X-Forwarded-For", "198.51.100.7, "+addr)
		return r
	}
	for _, bench := range []struct {
		name    string
		request *http.Request
		want    bool
	}{
		{"BuiltIn", request(netip.AddrPortFrom(netip.MustParseAddr(jumio), 40000).String()), true},
		{"CIDR", request("203.0.113.99:40000"), true},
		{"TrustedProxy", forwarded(jumio), true},
		{"Rejected", request("192.0.2.1:40000"), false},
		{"RejectedThroughProxy", forwarded("192.0.2.1"), false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			f, _ := newFilter(b, Config{
				TrustedProxies: prefixes(b, testTrusted...),
				AllowedCIDRs:   prefixes(b, "2001:db8::/32", "203.0.113.0/24"),
				JumioIPs:       []string{"us", "eu", "sg"},
				JumioHosts:     []string{"callback.jumio.com"},
				DNSRefresh:     time.Hour,
			}, nil)
			f.end()                            // of the first refresh, which Run would do
			f.misses.SetLimitAt(time.Now(), 0) // and no other one
			f.misses.SetBurstAt(time.Now(), 0)
			b.ReportAllocs()
			for b.Loop() {
				if d := f.Check(bench.request); d.Allowed != bench.want {
					b.Fatalf("%+v", d)
				}
			}
		})
	}
}
