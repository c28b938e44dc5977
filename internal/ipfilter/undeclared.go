package ipfilter

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

const (
	// suspectAfter is how many rejected requests make an address a suspect.
	suspectAfter = 3
	// maxSuspects limits how many addresses are counted. A load balancer has one
	// in each zone, or for each node.
	maxSuspects = 16
	// forgiveAfter is how long an address must not have been rejected before an
	// allowed request clears it. While only one of two balancers is undeclared,
	// requests are allowed all the time.
	forgiveAfter = 10 * time.Minute
	// suspicionLines is the time between two log lines about suspects.
	suspicionLines = time.Minute
)

// What to do about a load balancer whose address, %s, is rejected.
const (
	// It names the client, but is not believed.
	adviceDeclare = "CALLBACKD_TRUSTED_PROXIES probably lacks %s"
	// It does not name the client.
	adviceForward = "CALLBACKD_TRUSTED_PROXIES probably lacks %s, which must also pass the client's address on (a client address header, the PROXY protocol, or in Kubernetes externalTrafficPolicy: Local)"
	// It sends no PROXY header, or is in front of a proxy that does.
	adviceProxyHeader = "CALLBACKD_TRUSTED_PROXIES probably lacks %s, which must also send a PROXY header that names the client"
)

// sharedAddressSpace is meant for carrier-grade NAT (RFC 6598). Clouds use it for
// nodes and pods.
var sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10")

// private reports whether an address cannot be Jumio's but may be a load
// balancer's: RFC 1918, RFC 4193, RFC 6598, link-local or loopback.
func private(addr netip.Addr) bool {
	return addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || sharedAddressSpace.Contains(addr)
}

// undeclaredProxies detects the classic mistake: a load balancer that is not in
// CALLBACKD_TRUSTED_PROXIES is taken for the client, so everything that Jumio sends
// is rejected, with the balancer's private address.
//
// A private address is a suspect if it is rejected three times and nothing but
// private addresses is rejected in between: a declared balancer would show public
// ones. There may be several suspects, because a balancer has several addresses.
type undeclaredProxies struct {
	log    *zap.Logger
	metric *prometheus.GaugeVec
	lines  *rate.Limiter

	// watching is false if rejected is empty, so that allowed requests need no lock.
	watching atomic.Bool

	mu       sync.Mutex
	rejected map[netip.Addr]*suspect
}

type suspect struct {
	rejections int
	last       time.Time
	advice     string
	logged     bool
}

func (s *suspect) proven() bool { return s.rejections >= suspectAfter }

func newUndeclaredProxies(log *zap.Logger, m *Metrics) *undeclaredProxies {
	return &undeclaredProxies{
		log: log, metric: m.undeclared, lines: rate.NewLimiter(rate.Every(suspicionLines), maxSuspects),
		rejected: make(map[netip.Addr]*suspect),
	}
}

// reject counts a rejected request. The address is zero if there was none; advice
// is a format for the address, and empty unless it is private.
func (u *undeclaredProxies) reject(addr netip.Addr, advice string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !private(addr) {
		// Behind an undeclared balancer, no client has a public address.
		for a := range u.rejected {
			u.forget(a, "a public or unknown address is rejected", now)
		}
		return
	}
	s := u.rejected[addr]
	if s == nil {
		if len(u.rejected) >= maxSuspects {
			return
		}
		s = &suspect{}
		u.rejected[addr] = s
		u.watching.Store(true)
	}
	s.rejections++
	s.last, s.advice = now, fmt.Sprintf(advice, addr)
	if !s.proven() {
		return
	}
	if !s.logged && u.lines.AllowN(now, 1) {
		s.logged = true
		u.log.Warn("a trusted proxy is probably not declared", zap.Stringer("address", addr),
			zap.Int("rejected", s.rejections), zap.String("advice", s.advice))
	}
	u.metric.WithLabelValues(addr.String()).Set(1)
}

// accept is told of a request from an allowed address: where everything was
// rejected, something has been fixed.
func (u *undeclaredProxies) accept(now time.Time) {
	if !u.watching.Load() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for a, s := range u.rejected {
		if now.Sub(s.last) >= forgiveAfter {
			u.forget(a, "callbacks are accepted", now)
		}
	}
}

// forget removes an address; u.mu is held.
func (u *undeclaredProxies) forget(addr netip.Addr, why string, now time.Time) {
	s := u.rejected[addr]
	delete(u.rejected, addr)
	u.watching.Store(len(u.rejected) > 0)
	if !s.proven() {
		return
	}
	u.metric.DeleteLabelValues(addr.String())
	if s.logged {
		u.log.Info("no longer suspected of being an undeclared proxy", zap.Stringer("address", addr),
			zap.String("why", why), zap.Duration("since_last_rejected", now.Sub(s.last)))
	}
}

// note says which proxies are probably not declared; empty if there are none.
func (u *undeclaredProxies) note() string {
	if !u.watching.Load() {
		return ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	var advice []string
	for _, a := range slices.SortedFunc(maps.Keys(u.rejected), netip.Addr.Compare) {
		if s := u.rejected[a]; s.proven() {
			advice = append(advice, s.advice)
		}
	}
	if len(advice) == 0 {
		return ""
	}
	return "callbacks are rejected, a trusted proxy is probably not declared: " + strings.Join(advice, "; ")
}

// UndeclaredProxies tells an operator, in one line, which load balancers are
// probably missing from CALLBACKD_TRUSTED_PROXIES; empty if none are.
func (f *Filter) UndeclaredProxies() string { return f.undeclared.note() }
