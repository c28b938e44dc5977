package ipfilter

import (
	"net/netip"
	"slices"

	"go.uber.org/zap"
)

// globalUnicast is the part of IPv6 from which IANA allocates addresses.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// specialPurpose are the blocks of IPv4 and of globalUnicast in which no host on
// the internet has an address: IANA's special-purpose registries (RFC 6890),
// multicast and class E.
var specialPurpose = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	sharedAddressSpace,
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("2001::/23"), // Teredo, benchmarking, ORCHID
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("3fff::/20"),
}

// public reports whether the address, in its plain form, can be Jumio's.
func public(addr netip.Addr) bool {
	return (addr.Is4() || globalUnicast.Contains(addr)) && !contains(specialPurpose, addr)
}

// believable reports whether to accept an address from DNS or from the memory: it
// is public, or in AllowedCIDRs anyway.
func (f *Filter) believable(addr netip.Addr) bool {
	return public(addr) || contains(f.cfg.AllowedCIDRs, addr)
}

// maxLoggedAddresses is how many addresses one log line names.
const maxLoggedAddresses = 16

// logIgnored logs the addresses in a host's answers that are ignored, unless they
// are the same as in its last such line.
func (f *Filter) logIgnored(host string, addrs []netip.Addr) {
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	if len(addrs) == 0 || slices.Equal(addrs, f.ignored[host]) {
		return
	}
	f.ignored[host] = addrs
	f.log.Warn("addresses in DNS are ignored: they are not public", append(logged(addrs), zap.String("host", host))...)
}

func logged(addrs []netip.Addr) []zap.Field {
	return []zap.Field{
		zap.Stringers("addresses", addrs[:min(len(addrs), maxLoggedAddresses)]),
		zap.Int("count", len(addrs)),
	}
}
