// Package ipfilter decides who is calling and whether that address may deliver
// callbacks: it works out the client address behind load balancers, holds the
// list of allowed addresses, and keeps that list current from DNS.
//
// It refuses to guess. A header from a peer that is not a trusted proxy is never
// believed, an address that cannot be read is no address, and a failed look-up
// never takes an address away. It answers no HTTP request itself and stores
// nothing: the caller turns a Decision into a status, and a Memory keeps what
// was resolved.
package ipfilter

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Reasons of a refusal, as they stand in Decision.Reason.
const (
	// ReasonNotAllowed: the client address is known and not on the list.
	ReasonNotAllowed = "address_not_allowed"
	// ReasonNoAddress: no client address could be read. A trusted proxy sent no
	// client address header, an unreadable one, or one that names only trusted
	// proxies; with the PROXY protocol, the source is a Unix socket.
	ReasonNoAddress = "no_client_address"
)

const (
	// lookupTimeout bounds one round of look-ups. Go's resolver gives a silent
	// name server 5 s before it asks the next one, or asks again: a shorter
	// round would turn one dead name server, or one lost packet, into a failure.
	lookupTimeout = 7 * time.Second
	// maxWait is how long a request from an unknown address waits for a refresh.
	maxWait = 2 * time.Second
	// missInterval is the shortest time between two refreshes that unknown
	// addresses cause.
	missInterval = 10 * time.Second
	// memoryTimeout bounds one call of the Memory.
	memoryTimeout = 2 * time.Second
)

// Config holds the settings of a Filter.
type Config struct {
	// TrustedProxies are the load balancers whose client address header is
	// believed, or with ProxyProtocol their PROXY protocol header.
	TrustedProxies []netip.Prefix
	// ClientIPHeader is "X-Forwarded-For" (also when empty), "Forwarded"
	// (RFC 7239), or the name of a header that holds exactly one address.
	ClientIPHeader string
	// ProxyProtocol: connections come through WrapListener. Then the client is
	// who the PROXY protocol header names, or else the TCP peer; client address
	// headers are not believed from anybody.
	ProxyProtocol bool
	// AllowedCIDRs are allowed besides Jumio's addresses.
	AllowedCIDRs []netip.Prefix
	// JumioIPs names the built-in address lists that hold: "us", "eu", "sg".
	JumioIPs []string
	// JumioHosts are the host names whose addresses (A and AAAA) are allowed.
	JumioHosts []string
	// DNSServer is the host:port of the resolver; empty means the system's.
	DNSServer string
	// DNSRefresh is the time between two look-ups, give or take a tenth.
	DNSRefresh time.Duration
	// DNSGrace is how long an address that left DNS stays allowed.
	DNSGrace time.Duration
}

// Decision says who called and whether the call may go on.
type Decision struct {
	// Addr is the client address, IPv4 never in its IPv6-mapped form and IPv6
	// without a zone. It is the zero Addr when there is none.
	Addr    netip.Addr
	Allowed bool
	// Reason is empty when Allowed, else one of the Reason constants.
	Reason string
}

// Filter answers Check from an immutable list that Run replaces. All methods may
// be called at the same time.
type Filter struct {
	cfg      Config
	client   *clientResolver
	hosts    []string
	resolver *net.Resolver
	memory   Memory
	log      *zap.Logger
	refusals *refusalLog
	metrics  *Metrics
	// undeclared learns of every refusal and, when there were any, of what is
	// allowed.
	undeclared *undeclaredProxies

	now           func() time.Time
	lookupTimeout time.Duration
	maxWait       time.Duration

	static map[netip.Addr]struct{}
	list   atomic.Pointer[allowlist]

	// Refreshes that requests wait for.
	mu      sync.Mutex
	current chan struct{} // closed when the refresh under way ends; nil while none is
	wanted  chan struct{} // wakes Run
	misses  *rate.Limiter // spaces the refreshes that unknown addresses cause
	stopped bool

	// Owned by Run's goroutine.
	known    map[hostAddr]Address
	outcomes map[string]string       // the last outcome of each host
	leftOut  map[string][]netip.Addr // of each host, as last logged
	loaded   bool                    // the memory has been read
	unsaved  bool                    // known holds what the memory does not
}

// New builds a Filter. The built-in lists and cfg.AllowedCIDRs hold at once; the
// host names are resolved by Run. mem may be nil: then nothing is remembered.
func New(cfg Config, mem Memory, log *zap.Logger, m *Metrics) (*Filter, error) {
	trusted, err := normalizePrefixes(cfg.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("trusted proxies: %w", err)
	}
	allowed, err := normalizePrefixes(cfg.AllowedCIDRs)
	if err != nil {
		return nil, fmt.Errorf("allowed CIDRs: %w", err)
	}
	cfg.TrustedProxies, cfg.AllowedCIDRs = trusted, allowed
	if cfg.ProxyProtocol {
		// A proxy that works on TCP passes on whatever header the caller wrote.
		trusted = nil
	}
	client, err := newClientResolver(cfg.ClientIPHeader, trusted)
	if err != nil {
		return nil, err
	}
	hosts := normalizeHosts(cfg.JumioHosts)
	if len(hosts) > 0 && cfg.DNSRefresh <= 0 {
		return nil, errors.New("the DNS refresh interval must be positive")
	}

	f := &Filter{
		cfg:           cfg,
		client:        client,
		hosts:         hosts,
		resolver:      newResolver(cfg.DNSServer),
		memory:        mem,
		log:           log,
		refusals:      newRefusalLog(log),
		metrics:       m,
		undeclared:    newUndeclaredProxies(log, m),
		now:           time.Now,
		lookupTimeout: lookupTimeout,
		maxWait:       maxWait,
		wanted:        make(chan struct{}, 1),
		misses:        rate.NewLimiter(rate.Every(missInterval), 1),
		known:         make(map[hostAddr]Address),
		outcomes:      make(map[string]string),
		leftOut:       make(map[string][]netip.Addr),
	}
	if f.static, err = builtInAddrs(cfg.JumioIPs, m); err != nil {
		return nil, err
	}
	m.addresses.WithLabelValues("cidr").Set(float64(len(allowed)))
	if len(hosts) > 0 {
		// Requests that come before Run's first refresh wait for it.
		f.current = make(chan struct{})
	}
	f.publish()
	return f, nil
}

// Check decides about one request. It may wait for DNS, at most 2 s and only
// when the address is unknown; it gives up when the request's context ends.
func (f *Filter) Check(r *http.Request) Decision {
	peer, addr, detail := f.client.resolve(r)
	d := Decision{Addr: addr}
	now := f.now()
	switch {
	case !addr.IsValid():
		d.Reason = ReasonNoAddress
	case f.list.Load().allows(addr, now), f.awaitAddress(r.Context(), addr):
		d.Allowed = true
		f.undeclared.accept(now)
		return d
	default:
		d.Reason = ReasonNotAllowed
	}
	suspect := addr
	if f.cfg.ProxyProtocol && contains(f.cfg.TrustedProxies, addr) {
		suspect, detail = netip.Addr{}, detailNoSource
	}
	advice := f.advice(r, peer, suspect)
	f.undeclared.refuse(suspect, advice, now)
	f.logRefusal(r, d, peer, detail, advice)
	return d
}

// normalizePrefixes masks the prefixes and writes IPv4-mapped ones as IPv4, the
// form in which addresses are compared.
func normalizePrefixes(prefixes []netip.Prefix) ([]netip.Prefix, error) {
	var normalized []netip.Prefix
	for _, p := range prefixes {
		if !p.IsValid() {
			return nil, fmt.Errorf("%v is not a CIDR", p)
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("%v: an IPv4-mapped CIDR must be /96 or longer", p)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		normalized = append(normalized, p.Masked())
	}
	return normalized, nil
}

// normalizeHosts writes the names in lower case without the trailing dot, each
// once, so that they are the same in labels, logs and the memory.
func normalizeHosts(names []string) []string {
	var hosts []string
	seen := make(map[string]bool)
	for _, name := range names {
		host := strings.ToLower(strings.TrimSuffix(name, "."))
		if host != "" && !seen[host] {
			seen[host] = true
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
