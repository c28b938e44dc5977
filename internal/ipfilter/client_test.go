package ipfilter

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Trusted in these tests: the load balancers in 10.0.0.0/8 and 2001:db8:aaaa::/48.
var testTrusted = []string{"10.0.0.0/8", "2001:db8:aaaa::/48"}

const (
	lb       = "10.0.0.1:4711"
	stranger = "203.0.113.66:4711"
	jumio    = "34.202.241.227"
)

func TestClientAddress(t *testing.T) {
	const (
		xff     = "X-Forwarded-For"
		fwd     = "Forwarded"
		real    = "X-Real-IP"
		none    = "" // no client address
		missing = detailHeaderMissing
		garbage = detailUnreadable
		trusted = detailAllTrusted
	)
	tests := []struct {
		name   string
		header string
		peer   string
		lines  []string
		want   string
		detail string
	}{
		// The TCP peer.
		{"the peer when it is no trusted proxy", xff, stranger, nil, "203.0.113.66", ""},
		{"IPv6 peer", xff, "[2001:db8::7]:80", nil, "2001:db8::7", ""},
		{"IPv6 peer with a zone", xff, "[fe80::7%eth0]:80", nil, "fe80::7", ""},
		{"IPv4-mapped peer", xff, "[::ffff:203.0.113.66]:80", nil, "203.0.113.66", ""},
		{"peer without an address (Unix socket)", xff, "@", nil, none, detailPeerUnreadable},
		{"header from an untrusted peer is not believed", xff, stranger, []string{jumio}, "203.0.113.66", ""},
		{"Forwarded from an untrusted peer is not believed", fwd, stranger, []string{"for=" + jumio}, "203.0.113.66", ""},
		{"X-Real-IP from an untrusted peer is not believed", real, stranger, []string{jumio}, "203.0.113.66", ""},
		{"untrusted peer may send garbage", xff, stranger, []string{"\x00,,"}, "203.0.113.66", ""},

		// X-Forwarded-For.
		{"one address", xff, lb, []string{jumio}, jumio, ""},
		{"IPv4-mapped trusted peer", xff, "[::ffff:10.0.0.1]:80", []string{jumio}, jumio, ""},
		{"IPv6 trusted peer", xff, "[2001:db8:aaaa::1]:80", []string{jumio}, jumio, ""},
		{"spoofed leftmost address is ignored", xff, lb, []string{jumio + ", 203.0.113.66"}, "203.0.113.66", ""},
		{"trusted proxies at the right are passed over", xff, lb, []string{"198.51.100.1, " + jumio + ", 10.0.0.2, 10.9.9.9"}, jumio, ""},
		{"several header lines are joined", xff, lb, []string{"198.51.100.1", jumio, "10.0.0.2"}, jumio, ""},
		{"spoofed first line is ignored", xff, lb, []string{jumio, "203.0.113.66"}, "203.0.113.66", ""},
		{"lists on several lines", xff, lb, []string{"198.51.100.1, 198.51.100.2", jumio + ",10.0.0.2"}, jumio, ""},
		{"IPv4-mapped address is unmapped", xff, lb, []string{"::ffff:34.202.241.227"}, jumio, ""},
		{"IPv4-mapped address in hexadecimal", xff, lb, []string{"::ffff:22ca:f1e3"}, jumio, ""},
		{"IPv4-mapped trusted proxy is passed over", xff, lb, []string{jumio + ", ::ffff:10.0.0.2"}, jumio, ""},
		{"port (Azure)", xff, lb, []string{jumio + ":5678"}, jumio, ""},
		{"port on a trusted proxy", xff, lb, []string{jumio + ", 10.0.0.2:5678"}, jumio, ""},
		{"IPv6", xff, lb, []string{"2001:DB8::17"}, "2001:db8::17", ""},
		{"IPv6 in brackets", xff, lb, []string{"[2001:db8::17]"}, "2001:db8::17", ""},
		{"IPv6 in brackets with a port", xff, lb, []string{"[2001:db8::17]:443"}, "2001:db8::17", ""},
		{"IPv6 with a zone", xff, lb, []string{"fe80::17%eth0"}, "fe80::17", ""},
		{"IPv6 with brackets, zone and port", xff, lb, []string{"[fe80::17%eth0]:443"}, "fe80::17", ""},
		{"IPv4-mapped with a zone", xff, lb, []string{"[::ffff:34.202.241.227%eth0]:443"}, jumio, ""},
		{"quotes", xff, lb, []string{`"[2001:db8::17]:443"`}, "2001:db8::17", ""},
		{"blanks and tabs", xff, lb, []string{" \t" + jumio + "\t "}, jumio, ""},
		{"no header from a trusted proxy", xff, lb, nil, none, missing},
		{"another header than the configured one", real, lb, nil, none, missing},
		{"all-trusted chain", xff, lb, []string{"10.0.0.3, 10.0.0.2"}, none, trusted},
		{"garbage at the deciding place", xff, lb, []string{jumio + ", unknown"}, none, garbage},
		{"garbage at the deciding place, behind a trusted proxy", xff, lb, []string{jumio + ", unknown, 10.0.0.2"}, none, garbage},
		{"garbage left of the deciding place does not matter", xff, lb, []string{`unknown, "`, jumio}, jumio, ""},
		{"empty line", xff, lb, []string{""}, none, garbage},
		{"empty last element", xff, lb, []string{jumio + ", "}, none, garbage},
		{"empty last line", xff, lb, []string{jumio, ""}, none, garbage},
		{"blank before a comma", xff, lb, []string{"198.51.100.1 ," + jumio}, none, garbage},
		{"blank before a comma, far left, on another line", xff, lb, []string{"198.51.100.1 , 198.51.100.2", jumio}, none, garbage},
		{"blanks and tabs behind a comma", xff, lb, []string{"198.51.100.1, \t " + jumio}, jumio, ""},
		{"two addresses without a comma", xff, lb, []string{jumio + " " + jumio}, none, garbage},
		{"port that is no number", xff, lb, []string{jumio + ":https"}, none, garbage},
		{"port out of range", xff, lb, []string{jumio + ":70000"}, none, garbage},
		{"port missing", xff, lb, []string{jumio + ":"}, none, garbage},
		{"leading zeros", xff, lb, []string{"034.202.241.227"}, none, garbage},
		{"three octets", xff, lb, []string{"34.202.241"}, none, garbage},
		{"zone on IPv4", xff, lb, []string{jumio + "%eth0"}, none, garbage},
		{"open bracket", xff, lb, []string{"[2001:db8::17"}, none, garbage},
		{"open quote", xff, lb, []string{`"` + jumio}, none, garbage},
		{"unspecified address", xff, lb, []string{jumio + ", 0.0.0.0"}, none, garbage},
		{"unspecified IPv6 address", xff, lb, []string{jumio + ", ::"}, none, garbage},
		{"CIDR", xff, lb, []string{jumio + "/32"}, none, garbage},
		{"host name", xff, lb, []string{"callback.jumio.com"}, none, garbage},
		{"control characters", xff, lb, []string{jumio + "\x00"}, none, garbage},

		// Forwarded, RFC 7239.
		{"Forwarded: IPv4", fwd, lb, []string{"for=" + jumio}, jumio, ""},
		{"Forwarded: parameter name in any case", fwd, lb, []string{"FoR=" + jumio}, jumio, ""},
		{"Forwarded: other parameters", fwd, lb, []string{"proto=https;by=10.0.0.1;for=" + jumio + ";host=example.com"}, jumio, ""},
		{"Forwarded: quoted IPv4 with a port", fwd, lb, []string{`for="` + jumio + `:47011"`}, jumio, ""},
		{"Forwarded: quoted IPv6", fwd, lb, []string{`for="[2001:db8:cafe::17]"`}, "2001:db8:cafe::17", ""},
		{"Forwarded: quoted IPv6 with a port", fwd, lb, []string{`For="[2001:db8:cafe::17]:4711"`}, "2001:db8:cafe::17", ""},
		{"Forwarded: quoted IPv6 with zone and port", fwd, lb, []string{`for="[fe80::17%eth0]:4711"`}, "fe80::17", ""},
		{"Forwarded: hidden port", fwd, lb, []string{`for="[2001:db8:cafe::17]:_p4711"`}, "2001:db8:cafe::17", ""},
		{"Forwarded: IPv4-mapped IPv6", fwd, lb, []string{`for="[::ffff:34.202.241.227]:4711"`}, jumio, ""},
		{"Forwarded: spoofed leftmost address", fwd, lb, []string{"for=" + jumio + ", for=203.0.113.66"}, "203.0.113.66", ""},
		{"Forwarded: trusted proxies passed over, several lines", fwd, lb, []string{"for=198.51.100.1", "for=" + jumio + ";proto=https", `for="10.0.0.2:80", for="[2001:db8:aaaa::2]"`}, jumio, ""},
		{"Forwarded: blanks behind commas and at the end", fwd, lb, []string{"proto=https;for=" + jumio + ", \tfor=10.0.0.2 "}, jumio, ""},
		{"Forwarded: blank before a comma", fwd, lb, []string{"for=198.51.100.1 , for=" + jumio}, none, garbage},
		{"Forwarded: blank at a semicolon", fwd, lb, []string{"proto=https; for=" + jumio}, none, garbage},
		{"Forwarded: blank in quotes", fwd, lb, []string{`host="a b", for=` + jumio}, none, garbage},
		{"Forwarded: all-trusted chain", fwd, lb, []string{"for=10.0.0.3, for=10.0.0.2"}, none, trusted},
		{"Forwarded: unknown", fwd, lb, []string{"for=" + jumio + ", for=unknown"}, none, garbage},
		{"Forwarded: hidden node", fwd, lb, []string{"for=" + jumio + ", for=_hidden"}, none, garbage},
		{"Forwarded: element without for", fwd, lb, []string{"for=" + jumio + ", proto=https"}, none, garbage},
		{"Forwarded: for given twice", fwd, lb, []string{"for=203.0.113.66;for=" + jumio}, none, garbage},
		{"Forwarded: plain address without for", fwd, lb, []string{jumio}, none, garbage},
		{"Forwarded: blank before the value", fwd, lb, []string{"for =" + jumio}, none, garbage},
		{"Forwarded: comma in quotes forges no element", fwd, lb, []string{`for=203.0.113.66;host="x,for=` + jumio + `;y="`}, "203.0.113.66", ""},
		{"Forwarded: semicolon in quotes forges no parameter", fwd, lb, []string{`host="x;for=` + jumio + `";for=203.0.113.66`}, "203.0.113.66", ""},
		{"Forwarded: escaped quote in quotes", fwd, lb, []string{`for=203.0.113.66;host="x\",for=` + jumio + `;y=\""`}, "203.0.113.66", ""},
		{"Forwarded: quote left open by the caller", fwd, lb, []string{`for=` + jumio + `;x=", for=203.0.113.66;host="a"`}, "203.0.113.66", ""},
		{"Forwarded: quote left open on the caller's line", fwd, lb, []string{`for=` + jumio + `;x="`, `for=203.0.113.66`}, "203.0.113.66", ""},
		{"Forwarded: quote left open at the deciding place", fwd, lb, []string{`for=` + jumio + `;x="`}, none, garbage},
		{"Forwarded: empty", fwd, lb, []string{""}, none, garbage},
		{"Forwarded: X-Forwarded-For is not looked at", fwd, lb, nil, none, missing},

		// A single-address header.
		{"X-Real-IP", real, lb, []string{jumio}, jumio, ""},
		{"X-Real-IP in another case", "x-real-ip", lb, []string{jumio}, jumio, ""},
		{"X-Real-IP with a port", real, lb, []string{jumio + ":5678"}, jumio, ""},
		{"X-Real-IP with IPv6 in brackets", real, lb, []string{"[2001:db8::17]"}, "2001:db8::17", ""},
		{"X-Real-IP given twice", real, lb, []string{jumio, jumio}, none, garbage},
		{"X-Real-IP with a list", real, lb, []string{"203.0.113.66, " + jumio}, none, garbage},
		{"X-Real-IP empty", real, lb, []string{""}, none, garbage},
		{"X-Real-IP names a trusted proxy", real, lb, []string{"10.0.0.2"}, none, trusted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := newClientResolver(tt.header, prefixes(t, testTrusted...))
			if err != nil {
				t.Fatal(err)
			}
			r := request(tt.peer)
			if tt.lines != nil {
				r.Header[http.CanonicalHeaderKey(tt.header)] = tt.lines
			}
			if tt.header != xff {
				r.Header[xff] = []string{"192.0.2.99"} // must not matter
			}
			_, addr, detail := c.resolve(r)
			got := ""
			if addr.IsValid() {
				got = addr.String()
			}
			if got != tt.want || detail != tt.detail {
				t.Errorf("got %q (%s), want %q (%s)", got, detail, tt.want, tt.detail)
			}
		})
	}
}

// rightmostStranger skips trusted proxies the way the contract says, for comparison
// with the library.
func rightmostStranger(chain []string, trusted []netip.Prefix) netip.Addr {
	for i := len(chain) - 1; i >= 0; i-- {
		addr, err := netip.ParseAddr(chain[i])
		if err != nil {
			return netip.Addr{}
		}
		if !contains(trusted, addr) {
			return addr
		}
	}
	return netip.Addr{}
}

// Whatever a caller writes, nothing panics, an untrusted peer is its own client, a
// trusted proxy never is a client, and what the trusted proxy appends decides; if a
// line may have been folded, there is no client.
func FuzzClientAddress(f *testing.F) {
	for _, seed := range []string{
		"", jumio, jumio + ", 10.0.0.2", "\n", "a\nb", `for="[2001:db8::1]:80";host="x,for=1.2.3.4"`,
		`for=1.2.3.4;x="`, `"\`, `\"`, "::ffff:10.0.0.1", "[fe80::1%a]:1", "1.2.3.4:_x", ",,", "0.0.0.0", "for=;for=",
	} {
		f.Add(seed)
	}
	trusted := prefixes(f, testTrusted...)
	appended := map[string][]string{
		"X-Forwarded-For": {"203.0.113.66", "203.0.113.66:80, 10.0.0.2"},
		"Forwarded":       {"for=203.0.113.66", `proto=https;for="203.0.113.66:80";host="a,b", for="[2001:db8:aaaa::1]"`},
		"X-Real-Ip":       nil,
	}
	f.Fuzz(func(t *testing.T, value string) {
		lines := strings.Split(value, "\n")
		for header, suffixes := range appended {
			c, err := newClientResolver(header, trusted)
			if err != nil {
				t.Fatal(err)
			}
			resolve := func(peer string, lines ...string) (netip.Addr, string) {
				r := request(peer)
				r.Header[header] = lines
				_, addr, detail := c.resolve(r)
				return addr, detail
			}
			if addr, _ := resolve(stranger, lines...); addr != netip.MustParseAddr("203.0.113.66") {
				t.Errorf("%s: an untrusted peer became %v", header, addr)
			}
			addr, detail := resolve(lb, lines...)
			if want := rightmostStranger(c.chain(http.Header{header: lines}), trusted); addr != want {
				t.Errorf("%s: %q gave %v, want %v", header, lines, addr, want)
			}
			if addr.IsValid() == (detail != "") {
				t.Errorf("%s: address %v with detail %q", header, addr, detail)
			}
			if contains(trusted, addr) || addr != plain(addr) || (addr.IsValid() && addr.IsUnspecified()) {
				t.Errorf("%s: %v is no client address", header, addr)
			}
			for _, suffix := range suffixes {
				sameLine := append(append([]string(nil), lines[:len(lines)-1]...), lines[len(lines)-1]+", "+suffix)
				ownLine := append(append([]string(nil), lines...), suffix)
				for _, chain := range [][]string{sameLine, ownLine} {
					addr, _ := resolve(lb, chain...)
					if slices.ContainsFunc(chain, mayBeFolded) && !addr.IsValid() {
						continue
					}
					if addr != netip.MustParseAddr("203.0.113.66") {
						t.Errorf("%s: %q forged %v", header, chain, addr)
					}
				}
			}
		}
	})
}
