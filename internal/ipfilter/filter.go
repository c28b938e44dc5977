// Package ipfilter decides who is calling and whether that address may deliver
// callbacks: it finds the client address behind load balancers, holds the list of
// allowed addresses, and keeps that list current from DNS.
//
// It never guesses. It does not believe a header from a peer that is not a trusted
// proxy, an unreadable address is no address, and a failed look-up removes no
// address. It answers no HTTP request and stores nothing: the caller turns a
// Decision into a status, and a Memory keeps the resolved addresses.
package ipfilter

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"callbackd/internal/store/receiving"
)

// Why a request is rejected: the values of Decision.Reason.
const (
	// ReasonNotAllowed: the client address is known but not on the list.
	ReasonNotAllowed = "address_not_allowed"
	// ReasonNoAddress: there is no readable client address. A trusted proxy sent
	// no client address header, an unreadable one, or one that names only trusted
	// proxies; with the PROXY protocol, the source is a Unix socket.
	ReasonNoAddress = "no_client_address"
)

const (
	// lookupTimeout limits one round of look-ups. Go's resolver waits 5 s for a
	// silent name server before it asks the next one, or asks again: in a shorter
	// round, one dead name server or one lost packet would be a failure.
	lookupTimeout = 7 * time.Second
	// maxWait is how long a request from an unknown address waits for a refresh.
	maxWait = 2 * time.Second
	// missInterval is the shortest time between two refreshes caused by unknown
	// addresses.
	missInterval = 10 * time.Second
	// memoryTimeout limits one call of the Memory.
	memoryTimeout = 2 * time.Second
)

// Config holds the settings of a Filter. An IPv4 prefix must not be in its
// IPv6-mapped form.
type Config struct {
	// TrustedProxies are the load balancers whose client address header is
	// believed, or with ProxyProtocol their PROXY protocol header.
	TrustedProxies []netip.Prefix
	// ClientIPHeader is "X-Forwarded-For" (the default), "Forwarded" (RFC 7239), or
	// the name of a header that holds exactly one address.
	ClientIPHeader string
	// ProxyProtocol: connections come through WrapListener. The client is then the
	// one named in the PROXY protocol header, or else the TCP peer; client address
	// headers are never believed.
	ProxyProtocol bool
	// AllowedCIDRs are allowed in addition to Jumio's addresses.
	AllowedCIDRs []netip.Prefix
	// JumioIPs names the built-in address lists to use: "us", "eu", "sg".
	JumioIPs []string
	// JumioHosts are the host names whose addresses (A and AAAA) are allowed.
	JumioHosts []string
	// DNSServer is the host:port of the resolver; if empty, the system's is used.
	DNSServer string
	// DNSRefresh is the time between two look-ups, plus or minus a tenth.
	DNSRefresh time.Duration
	// DNSGrace is how long an address stays allowed after it has left DNS.
	DNSGrace time.Duration
}

// Decision says who is calling and whether that address is allowed.
type Decision struct {
	// Addr is the client address: IPv4 never in its IPv6-mapped form, IPv6 without
	// a zone. It is the zero Addr if there is none.
	Addr    netip.Addr
	Allowed bool
	// Reason is empty if Allowed, otherwise one of the Reason constants.
	Reason string
}

// Filter answers Check from an immutable list that Run replaces. It is safe for
// concurrent use.
type Filter struct {
	cfg      Config
	client   *clientResolver
	hosts    []string
	resolver *net.Resolver
	memory   Memory
	log      *zap.Logger
	rejected *rejectionLog
	metrics  *Metrics
	// undeclared is told of every rejected request and, if there were any, of
	// allowed ones.
	undeclared *undeclaredProxies

	now           func() time.Time
	lookupTimeout time.Duration
	maxWait       time.Duration

	static map[netip.Addr]struct{}
	list   atomic.Pointer[allowlist]

	// Refreshes that requests wait for.
	mu      sync.Mutex
	current chan struct{} // closed when the refresh in progress ends; nil if there is none
	wanted  chan struct{} // wakes Run
	misses  *rate.Limiter // limits the refreshes caused by unknown addresses
	stopped bool

	// Owned by Run's goroutine.
	known    map[hostAddr]receiving.Address
	outcomes map[string]string       // the last outcome of each host
	ignored  map[string][]netip.Addr // the addresses last logged as ignored, by host
	loaded   bool                    // the memory has been read
	unsaved  bool                    // known has changes that the memory lacks
}

// New returns a Filter. The built-in lists and cfg.AllowedCIDRs are in effect at
// once; Run resolves the host names. If mem is nil, nothing is remembered.
func New(cfg Config, mem Memory, log *zap.Logger, m *Metrics) (*Filter, error) {
	for _, p := range slices.Concat(cfg.TrustedProxies, cfg.AllowedCIDRs) {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%v is not an IPv4 or IPv6 prefix", p)
		}
	}
	trusted := cfg.TrustedProxies
	if cfg.ProxyProtocol {
		// A proxy on TCP passes on any header that the caller wrote.
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
		rejected:      newRejectionLog(log),
		metrics:       m,
		undeclared:    newUndeclaredProxies(log, m),
		now:           time.Now,
		lookupTimeout: lookupTimeout,
		maxWait:       maxWait,
		wanted:        make(chan struct{}, 1),
		misses:        rate.NewLimiter(rate.Every(missInterval), 1),
		known:         make(map[hostAddr]receiving.Address),
		outcomes:      make(map[string]string),
		ignored:       make(map[string][]netip.Addr),
	}
	if f.static, err = builtInAddrs(cfg.JumioIPs, m); err != nil {
		return nil, err
	}
	m.addresses.WithLabelValues("cidr").Set(float64(len(cfg.AllowedCIDRs)))
	if len(hosts) > 0 {
		// Requests that arrive before Run's first refresh wait for it.
		f.current = make(chan struct{})
	}
	f.publish()
	return f, nil
}

// Check decides about one request. If the address is unknown, it may wait up to
// 2 s for DNS, or until the request's context ends.
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
	f.undeclared.reject(suspect, advice, now)
	f.logRejected(r, d, peer, detail, advice)
	return d
}

// normalizeHosts returns the names in lower case, without a trailing dot, each
// once, so that they are the same in labels, logs and the memory.
func normalizeHosts(names []string) []string {
	var hosts []string
	for _, name := range names {
		host := strings.ToLower(strings.TrimSuffix(name, "."))
		if host != "" && !slices.Contains(hosts, host) {
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
