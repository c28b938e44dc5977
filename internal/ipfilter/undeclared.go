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
	// suspectAfter is how many refusals make an address a suspect.
	suspectAfter = 3
	// maxSuspects bounds the addresses that are counted. A balancer has one in
	// each zone, or for each node.
	maxSuspects = 16
	// forgiveAfter is how long ago an address's last refusal must be before an
	// accepted callback clears it. While one of two balancers is undeclared,
	// callbacks are accepted all the time.
	forgiveAfter = 10 * time.Minute
	// suspicionLines is the time between two lines of the log about suspects.
	suspicionLines = time.Minute
)

// What to do about a load balancer whose address, %s, is refused.
const (
	// It says on whose behalf it calls, and is not believed.
	adviceDeclare = "CALLBACKD_TRUSTED_PROXIES probably lacks %s"
	// It does not say that.
	adviceForward = "CALLBACKD_TRUSTED_PROXIES probably lacks %s, which must also pass the client's address on (a client address header, the PROXY protocol, or in Kubernetes externalTrafficPolicy: Local)"
	// It sends no PROXY header, or stands before one that does.
	adviceProxyHeader = "CALLBACKD_TRUSTED_PROXIES probably lacks %s, which must also send a PROXY header that names the client"
)

// sharedAddressSpace is that of carrier-grade NAT (RFC 6598), which clouds use
// for nodes and pods.
var sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10")

// private says whether an address cannot be Jumio's, but a load balancer's: RFC
// 1918, RFC 4193, RFC 6598, link-local or loopback.
func private(addr netip.Addr) bool {
	return addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || sharedAddressSpace.Contains(addr)
}

// undeclaredProxies notices the classic mistake: a load balancer that is not in
// CALLBACKD_TRUSTED_PROXIES is taken for the client, so whatever Jumio sends is
// refused, with the balancer's private address.
//
// A private address is a suspect after three refusals without one of any other
// kind in between: a balancer that is declared shows public addresses. Several
// may be suspects at a time, for a balancer has several addresses.
type undeclaredProxies struct {
	log    *zap.Logger
	metric *prometheus.GaugeVec
	lines  *rate.Limiter

	// watching is false when refused is empty: accepted callbacks look no further.
	watching atomic.Bool

	mu      sync.Mutex
	refused map[netip.Addr]*suspect
}

type suspect struct {
	refusals int
	last     time.Time
	advice   string
	logged   bool
}

func (s *suspect) proven() bool { return s.refusals >= suspectAfter }

func newUndeclaredProxies(log *zap.Logger, m *Metrics) *undeclaredProxies {
	return &undeclaredProxies{
		log: log, metric: m.undeclared, lines: rate.NewLimiter(rate.Every(suspicionLines), maxSuspects),
		refused: make(map[netip.Addr]*suspect),
	}
}

// refuse counts a refusal. The address is zero when there was none; advice has a
// place for it, and is empty unless it is private.
func (u *undeclaredProxies) refuse(addr netip.Addr, advice string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !private(addr) {
		// Behind an undeclared balancer nobody has a public address.
		for a := range u.refused {
			u.forget(a, "a refusal of another kind", now)
		}
		return
	}
	s := u.refused[addr]
	if s == nil {
		if len(u.refused) >= maxSuspects {
			return
		}
		s = &suspect{}
		u.refused[addr] = s
		u.watching.Store(true)
	}
	s.refusals++
	s.last, s.advice = now, fmt.Sprintf(advice, addr)
	if !s.proven() {
		return
	}
	if !s.logged && u.lines.AllowN(now, 1) {
		s.logged = true
		u.log.Warn("a trusted proxy is probably not declared", zap.Stringer("address", addr),
			zap.Int("refusals", s.refusals), zap.String("advice", s.advice))
	}
	u.metric.WithLabelValues(addr.String()).Set(1)
}

// accept takes note of a callback from an allowed address: where all was
// refused, something has been mended.
func (u *undeclaredProxies) accept(now time.Time) {
	if !u.watching.Load() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for a, s := range u.refused {
		if now.Sub(s.last) >= forgiveAfter {
			u.forget(a, "callbacks are accepted", now)
		}
	}
}

// forget ends a suspicion; u.mu is held.
func (u *undeclaredProxies) forget(addr netip.Addr, why string, now time.Time) {
	s := u.refused[addr]
	delete(u.refused, addr)
	u.watching.Store(len(u.refused) > 0)
	if !s.proven() {
		return
	}
	u.metric.DeleteLabelValues(addr.String())
	if s.logged {
		u.log.Info("no longer suspected of being an undeclared proxy", zap.Stringer("address", addr),
			zap.String("why", why), zap.Duration("since_last_refusal", now.Sub(s.last)))
	}
}

// note says in words which proxies are probably not declared; empty when none.
func (u *undeclaredProxies) note() string {
	if !u.watching.Load() {
		return ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	var advice []string
	for _, a := range slices.SortedFunc(maps.Keys(u.refused), netip.Addr.Compare) {
		if s := u.refused[a]; s.proven() {
			advice = append(advice, s.advice)
		}
	}
	if len(advice) == 0 {
		return ""
	}
	return "callbacks are refused, a trusted proxy is probably not declared: " + strings.Join(advice, "; ")
}

// UndeclaredProxies says which load balancers are probably missing in
// CALLBACKD_TRUSTED_PROXIES, in one line for an operator; empty when none are.
func (f *Filter) UndeclaredProxies() string { return f.undeclared.note() }
