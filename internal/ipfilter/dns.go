package ipfilter

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Outcomes of resolving a host name, as in callbackd_dns_refresh_total.
const (
	outcomeOK            = "ok"
	outcomePartial       = "partial"
	outcomeNotFound      = "not_found"
	outcomeTimeout       = "timeout"
	outcomeServerFailure = "server_failure"
	outcomeNotPublic     = "not_public"
)

// lookup is the answer to one question: the A records ("ip4") or AAAA records
// ("ip6") of host.
type lookup struct {
	host    string
	network string
	addrs   []netip.Addr
	ignored []netip.Addr // in the answer, but not in addrs
	outcome string       // never outcomePartial
	err     error
}

var errNotPublic = errors.New("no address in the answer is public")

// newResolver returns Go's own resolver. If server (host:port) is not empty, it is
// asked instead of the system's name servers.
func newResolver(server string) *net.Resolver {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if server != "" {
			address = server
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// The resolver lets a cancelled look-up run into its own time-out.
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		return conn, nil
	}
	return &net.Resolver{PreferGo: true, Dial: dial}
}

func (f *Filter) lookUp(ctx context.Context, network, host string) lookup {
	// The dot makes the name absolute, so the system's search list is not used.
	addrs, err := f.resolver.LookupNetIP(ctx, network, host+".")
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok && f.cfg.DNSServer != "" {
		dnsErr.Server = f.cfg.DNSServer // the resolver names the system's
	}
	l := lookup{host: host, network: network, outcome: outcomeOf(err), err: err}
	for _, addr := range addrs {
		if addr = plain(addr); f.believable(addr) {
			l.addrs = append(l.addrs, addr)
		} else {
			l.ignored = append(l.ignored, addr)
		}
	}
	if err == nil && len(l.addrs) == 0 {
		l.outcome, l.err = outcomeNotPublic, errNotPublic
	}
	return l
}

// outcomeOf classifies the resolver's errors. Go does not distinguish NXDOMAIN
// from an answer without records of the wanted type.
func outcomeOf(err error) string {
	var dnsErr *net.DNSError
	var addrErr *net.AddrError // there are only addresses of the other family (hosts file)
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
// addresses of one family is normal; a host without any is not found.
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
