package ipfilter

import (
	"fmt"
	"net/netip"
	"time"
)

// builtIn holds, by data center, the addresses in the guide ("Jumio Callback IP
// Addresses"), then those that Jumio published later. Addresses that Jumio no
// longer uses stay in, because the guide still lists them.
var builtIn = map[string][]string{
	"us": {
		"34.202.241.227", "34.226.103.119", "34.226.254.127",
		"52.52.51.178", "52.53.95.123", "54.67.101.173",
		"52.8.136.236", "54.177.61.57", "54.183.15.212",
	},
	"eu": {
		"34.253.41.236", "35.157.27.193", "52.48.0.25",
		"52.57.194.92", "52.58.113.86", "52.209.180.134",
	},
	"sg": {
		"3.0.109.121", "52.76.184.73", "52.77.102.92",
		"13.238.100.17", "13.238.203.238", "52.64.132.26",
	},
}

// builtInAddrs returns the addresses of the named lists and counts them.
func builtInAddrs(regions []string, m *Metrics) (map[netip.Addr]struct{}, error) {
	addrs := make(map[netip.Addr]struct{})
	for _, region := range regions {
		list, ok := builtIn[region]
		if !ok {
			return nil, fmt.Errorf("no built-in address list %q: want us, eu or sg", region)
		}
		for _, s := range list {
			addrs[netip.MustParseAddr(s)] = struct{}{}
		}
		m.addresses.WithLabelValues(region).Set(float64(len(list)))
	}
	return addrs, nil
}

// allowlist never changes once it is published, so requests read it without a
// lock.
type allowlist struct {
	// addrs holds the time until which an address is allowed; zero means no limit.
	addrs    map[netip.Addr]time.Time
	prefixes []netip.Prefix
	// replaced is closed when a newer list takes effect.
	replaced chan struct{}
}

func (l *allowlist) allows(addr netip.Addr, now time.Time) bool {
	if until, ok := l.addrs[addr]; ok && (until.IsZero() || now.Before(until)) {
		return true
	}
	return contains(l.prefixes, addr)
}

// add allows addr until the given time; the longest permission wins.
func (l *allowlist) add(addr netip.Addr, until time.Time) {
	if old, ok := l.addrs[addr]; ok && (old.IsZero() || (!until.IsZero() && old.After(until))) {
		return
	}
	l.addrs[addr] = until
}

// publish puts a new list into effect and wakes the requests that wait for one.
func (f *Filter) publish() {
	list := &allowlist{
		addrs:    make(map[netip.Addr]time.Time, len(f.static)+len(f.known)),
		prefixes: f.cfg.AllowedCIDRs,
		replaced: make(chan struct{}),
	}
	for addr := range f.static {
		list.add(addr, time.Time{})
	}
	current, grace := make(map[netip.Addr]bool), make(map[netip.Addr]bool)
	for key, known := range f.known {
		list.add(key.addr, allowedUntil(known, f.cfg.DNSGrace))
		if known.MissingSince.IsZero() {
			current[key.addr] = true
		} else {
			grace[key.addr] = true
		}
	}
	for addr := range current {
		delete(grace, addr)
	}
	f.metrics.addresses.WithLabelValues("dns").Set(float64(len(current)))
	f.metrics.addresses.WithLabelValues("dns_grace").Set(float64(len(grace)))
	if old := f.list.Swap(list); old != nil {
		close(old.replaced)
	}
}
