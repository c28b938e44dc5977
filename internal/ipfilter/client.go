package ipfilter

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	realclientip "github.com/realclientip/realclientip-go"
)

const (
	headerXForwardedFor = "X-Forwarded-For"
	headerForwarded     = "Forwarded"
	// unreadable stands for an element of the header that is not an address.
	unreadable = "unreadable"
)

// Why there is no client address, for the log.
const (
	detailPeerUnreadable = "the peer's address is unreadable"
	detailHeaderMissing  = "a trusted proxy sent no client address header"
	detailUnreadable     = "the client address header holds something unreadable where the address should stand"
	detailAllTrusted     = "the client address header names only trusted proxies"
	detailNoSource       = "a trusted proxy named no client in a PROXY header"
)

// clientResolver finds a request's client address. It reads the header's
// elements strictly and leaves the walk over the trusted proxies to realclientip.
// On its own, that library would split Forwarded at a quoted comma, accept any
// text as a port, and use the last of several single-address headers.
type clientResolver struct {
	header  string
	trusted []netip.Prefix // whose header is believed
	walk    realclientip.RightmostTrustedRangeStrategy
}

func newClientResolver(header string, trusted []netip.Prefix) (*clientResolver, error) {
	if header == "" {
		header = headerXForwardedFor
	}
	ranges := make([]net.IPNet, 0, len(trusted))
	for _, p := range trusted {
		ranges = append(ranges, net.IPNet{
			IP:   p.Addr().AsSlice(),
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		})
	}
	walk, err := realclientip.NewRightmostTrustedRangeStrategy(headerXForwardedFor, ranges)
	if err != nil {
		return nil, fmt.Errorf("client address strategy: %w", err)
	}
	return &clientResolver{header: http.CanonicalHeaderKey(header), trusted: trusted, walk: walk}, nil
}

// resolve returns the TCP peer (which a PROXY protocol header may have replaced)
// and the client address. If there is none, the address is the zero Addr and
// detail says why.
func (c *clientResolver) resolve(r *http.Request) (peer, addr netip.Addr, detail string) {
	peerPort, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, netip.Addr{}, detailPeerUnreadable
	}
	peer = plain(peerPort.Addr())
	if !contains(c.trusted, peer) {
		return peer, peer, ""
	}
	chain := c.chain(r.Header)
	if len(chain) == 0 {
		return peer, netip.Addr{}, detailHeaderMissing
	}
	// To the library, one element per line is the same as all on one line.
	found := c.walk.ClientIP(http.Header{headerXForwardedFor: chain}, "")
	if addr, err = netip.ParseAddr(found); err == nil {
		return peer, plain(addr), ""
	}
	if slices.Contains(chain, unreadable) {
		return peer, netip.Addr{}, detailUnreadable
	}
	return peer, netip.Addr{}, detailAllTrusted
}

// chain returns the elements of the client address header, all lines joined, from
// left to right: addresses in their plain form, or unreadable.
func (c *clientResolver) chain(h http.Header) []string {
	lines := h[c.header]
	list := c.header == headerXForwardedFor || c.header == headerForwarded
	if list && slices.ContainsFunc(lines, mayBeFolded) || !list && len(lines) > 1 {
		// Several lines of a single-address header mean that not only the proxy
		// wrote one.
		return []string{unreadable}
	}
	var chain []string
	for _, line := range lines {
		switch c.header {
		case headerXForwardedFor:
			for element := range strings.SplitSeq(line, ",") {
				chain = append(chain, readNode(element))
			}
		case headerForwarded:
			for _, element := range splitUnquoted(line, ',') {
				chain = append(chain, readNode(forwardedFor(element)))
			}
		default:
			chain = append(chain, readNode(line))
		}
	}
	return chain
}

// mayBeFolded reports whether there is white space anywhere but after a comma,
// where no proxy writes it. net/http puts a space where a line was folded (RFC
// 9112, section 5.2). What follows the fold may come from the caller, although a
// proxy that saw two lines added the client before it.
func mayBeFolded(line string) bool {
	line = strings.Trim(line, " \t")
	for i := 1; i < len(line); i++ {
		if (line[i] == ' ' || line[i] == '\t') && !strings.ContainsRune(", \t", rune(line[i-1])) {
			return true
		}
	}
	return false
}

// readNode reads one address, with or without a port, brackets, zone and quotes.
func readNode(s string) string {
	s = strings.Trim(s, " \t")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	// A port may be obfuscated (RFC 7239, section 6).
	if i := strings.LastIndex(s, ":_"); i > 0 {
		s = s[:i]
	}
	addr, err := parseNode(s)
	if err != nil || addr.IsUnspecified() {
		return unreadable
	}
	return addr.String()
}

func parseNode(s string) (netip.Addr, error) {
	if addrPort, err := netip.ParseAddrPort(s); err == nil {
		return plain(addrPort.Addr()), nil
	}
	if len(s) >= 2 && s[0] == '[' && s[len(s)-1] == ']' {
		s = s[1 : len(s)-1]
	}
	addr, err := netip.ParseAddr(s)
	return plain(addr), err
}

// forwardedFor returns the value of the element's "for" parameter (RFC 7239,
// section 4), or "" if it is absent or given twice.
func forwardedFor(element string) string {
	value, count := "", 0
	for _, pair := range splitUnquoted(element, ';') {
		name, v, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
		if strings.EqualFold(name, "for") {
			value = v
			count++
		}
	}
	if count != 1 {
		return ""
	}
	return value
}

// splitUnquoted splits s at the separators outside quoted strings. It reads from
// the right, so that what the nearest proxy appended means what that proxy meant,
// even if a caller left a quote open to the left of it.
func splitUnquoted(s string, separator byte) []string {
	var parts []string
	end, quoted := len(s), false
	for i := len(s) - 1; i >= 0; i-- {
		switch {
		case s[i] == '"' && !escaped(s, i):
			quoted = !quoted
		case s[i] == separator && !quoted:
			parts = append(parts, s[i+1:end])
			end = i
		}
	}
	parts = append(parts, s[:end])
	slices.Reverse(parts)
	return parts
}

// escaped reports whether an odd number of backslashes precedes s[i].
func escaped(s string, i int) bool {
	before := s[:i]
	return (len(before)-len(strings.TrimRight(before, `\`)))%2 == 1
}

// plain returns the form in which addresses are compared: IPv4 is never mapped,
// IPv6 has no zone.
func plain(addr netip.Addr) netip.Addr {
	return addr.Unmap().WithZone("")
}
