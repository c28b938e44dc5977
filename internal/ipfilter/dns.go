package ipfilter

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Outcomes of looking a host name up, as in callbackd_dns_refresh_total.
const (
	outcomeOK            = "ok"
	outcomePartial       = "partial"
	outcomeNotFound      = "not_found"
	outcomeTimeout       = "timeout"
	outcomeServerFailure = "server_failure"
	outcomeNotPublic     = "not_public"
)

// lookup is the answer to one question: host's A records ("ip4") or AAAA records
// ("ip6").
type lookup struct {
	host    string
	network string
	addrs   []netip.Addr
	leftOut []netip.Addr // in the answer, not in addrs
	outcome string       // never outcomePartial
	err     error
}

var errNotPublic = errors.New("no address in the answer is public")

// newResolver returns Go's own resolver, which asks server (host:port) instead of
// the system's name servers when it is not empty.
func newResolver(server string) *net.Resolver {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if server != "" {
			address = server
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// The resolver leaves a cancelled look-up to wait for its own time-out.
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		return conn, nil
	}
	return &net.Resolver{PreferGo: true, Dial: dial}
}

func (f *Filter) lookUp(ctx context.Context, network, host string) lookup {
	// The dot makes the name absolute: the system's search list stays out.
	addrs, err := f.resolver.LookupNetIP(ctx, network, host+".")
	l := lookup{host: host, network: network, outcome: outcomeOf(err), err: err}
	for _, addr := range addrs {
		if addr = plain(addr); f.believable(addr) {
			l.addrs = append(l.addrs, addr)
		} else {
			l.leftOut = append(l.leftOut, addr)
		}
	}
	if err == nil && len(l.addrs) == 0 {
		l.outcome, l.err = outcomeNotPublic, errNotPublic
	}
	return l
}

// outcomeOf sorts the resolver's errors. Go does not tell NXDOMAIN from an answer
// without records of the wanted type.
func outcomeOf(err error) string {
	var dnsErr *net.DNSError
	var addrErr *net.AddrError // addresses, but all of the other family (hosts file)
	switch {
	case err == nil:
		return outcomeOK
	case errors.As(err, &dnsErr) && dnsErr.IsNotFound, errors.As(err, &addrErr):
		return outcomeNotFound
	case errors.As(err, &dnsErr) && dnsErr.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return outcomeTimeout
	default:
		return outcomeServerFailure
	}
}

// combine returns a host's outcome from those of its two look-ups. A host without
// addresses of one family is ordinary; without any it is not found.
func combine(a, b lookup) string {
	switch {
	case a.outcome == b.outcome:
		return a.outcome
	case a.outcome != outcomeOK && b.outcome != outcomeOK:
		if a.outcome == outcomeNotFound {
			return b.outcome
		}
		return a.outcome
	case a.outcome == outcomeNotFound, b.outcome == outcomeNotFound:
		return outcomeOK
	default:
		return outcomePartial
	}
}
