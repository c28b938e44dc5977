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
	// unreadable stands for an element of the header that is no address.
	unreadable = "unreadable"
)

// Why there is no client address, for the log.
const (
	detailPeerUnreadable = "the peer's address is unreadable"
	detailHeaderMissing  = "a trusted proxy sent no client address header"
	detailHeaderRefused  = "the client address header holds something unreadable where the address should stand"
	detailAllTrusted     = "the client address header names only trusted proxies"
	detailNoSource       = "a trusted proxy named no client in a PROXY header"
)

// clientResolver works out a request's client address. Reading the header's
// elements strictly is done here; the walk over the trusted proxies is
// realclientip's. That library alone would split a quoted comma of Forwarded,
// take any text for a port, and use the last of several single-address headers.
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
// and the client address. Without one, the address is the zero Addr and detail
// says why.
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
	// One element a line is the same header to the library as all in one line.
	found := c.walk.ClientIP(http.Header{headerXForwardedFor: chain}, "")
	if addr, err = netip.ParseAddr(found); err == nil {
		return peer, plain(addr), ""
	}
	if slices.Contains(chain, unreadable) {
		return peer, netip.Addr{}, detailHeaderRefused
	}
	return peer, netip.Addr{}, detailAllTrusted
}

// chain returns the elements of the client address header, all lines joined, from
// left to right: addresses in their plain form, or unreadable.
func (c *clientResolver) chain(h http.Header) []string {
	lines := h[c.header]
	var chain []string
	switch {
	case c.isList() && slices.ContainsFunc(lines, mayBeFolded):
		chain = []string{unreadable}
	case c.header == headerXForwardedFor:
		for _, line := range lines {
			for element := range strings.SplitSeq(line, ",") {
				chain = append(chain, readNode(element))
			}
		}
	case c.header == headerForwarded:
		for _, line := range lines {
			for _, element := range splitUnquoted(line, ',') {
				chain = append(chain, readNode(forwardedFor(element)))
			}
		}
	default:
		// Such a header holds one address. Several lines mean that somebody
		// besides the proxy wrote one; a list fails to parse.
		if len(lines) == 1 {
			chain = []string{readNode(lines[0])}
		} else if len(lines) > 1 {
			chain = []string{unreadable}
		}
	}
	return chain
}

func (c *clientResolver) isList() bool {
	return c.header == headerXForwardedFor || c.header == headerForwarded
}

// mayBeFolded says whether white space stands elsewhere than behind a comma,
// where no proxy writes it. net/http puts a space where a line was folded (RFC
// 9112, section 5.2). What follows the fold may be a caller's, though a proxy that
// read two lines appended the client before it.
func mayBeFolded(line string) bool {
	line = strings.Trim(line, " \t")
	for i := 1; i < len(line); i++ {
		if (line[i] == ' ' || line[i] == '\t') && !strings.ContainsRune(", \t", rune(line[i-1])) {
			return true
		}
	}
	return false
}

// readNode reads one address, with or without port, brackets, zone and quotes.
func readNode(s string) string {
	s = strings.Trim(s, " \t")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	// A port may be hidden, RFC 7239 section 6.2.
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

// forwardedFor returns the value of the element's "for" parameter (RFC 7239
// section 4), or nothing when it is absent or given twice.
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
// the right: what the nearest proxy appended is then understood as that proxy
// meant it, even when a caller left a quote open to the left of it.
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

// escaped says whether an odd number of backslashes stands before s[i].
func escaped(s string, i int) bool {
	before := s[:i]
	return (len(before)-len(strings.TrimRight(before, `\`)))%2 == 1
}

// plain returns the form in which addresses are compared: IPv4 unmapped, no zone.
func plain(addr netip.Addr) netip.Addr {
	return addr.Unmap().WithZone("")
}
