package ipfilter

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

const (
	rejectedPerSecond = 5
	// maxLoggedHeader is how many bytes of a header are logged, from its right
	// end, because that decides.
	maxLoggedHeader = 512
)

// rejectionLog writes a few lines a second and counts the rest, so that a flood of
// rejected requests does not flood the log.
type rejectionLog struct {
	log        *zap.Logger
	limiter    *rate.Limiter
	suppressed atomic.Int64
}

func newRejectionLog(log *zap.Logger) *rejectionLog {
	return &rejectionLog{log: log, limiter: rate.NewLimiter(rejectedPerSecond, rejectedPerSecond)}
}

// warn logs the message unless there are too many; only then does it call fields.
func (l *rejectionLog) warn(message string, fields func() []zap.Field) {
	if !l.limiter.Allow() {
		l.suppressed.Add(1)
		return
	}
	l.log.Warn(message, append(fields(), zap.Int64("suppressed", l.suppressed.Swap(0)))...)
}

func (f *Filter) logRejected(r *http.Request, d Decision, peer netip.Addr, detail, advice string) {
	f.rejected.warn("request rejected", func() []zap.Field {
		believed := contains(f.client.trusted, peer)
		fields := []zap.Field{
			zap.String("reason", d.Reason),
			zap.String("peer", r.RemoteAddr),
			zap.Stringer("address", d.Addr),
			zap.String("header", f.client.header),
			zap.String("header_value", rightEnd(printable(strings.Join(r.Header[f.client.header], ", ")))),
			zap.Bool("header_believed", believed),
			zap.String("chain", rightEnd(strings.Join(f.client.chain(r.Header), ", "))),
		}
		if detail != "" {
			fields = append(fields, zap.String("detail", detail))
		}
		return append(fields, hint(d.Addr, advice)...)
	})
}

// advice returns what to do if addr, which is rejected, is a load balancer's;
// empty if addr is not private.
func (f *Filter) advice(r *http.Request, peer, addr netip.Addr) string {
	if !private(addr) {
		return ""
	}
	if f.cfg.ProxyProtocol {
		return adviceProxyHeader
	}
	named := f.client.chain(r.Header)
	if addr != peer {
		// Its clients are to the left of it.
		i := len(named) - 1
		for i > 0 && named[i] != addr.String() {
			i--
		}
		named = named[:i]
	}
	if len(named) > 0 {
		return adviceDeclare
	}
	return adviceForward
}

// hint names the most common mistake, if this may be it.
func hint(addr netip.Addr, advice string) []zap.Field {
	if advice == "" {
		return nil
	}
	return []zap.Field{zap.String("hint", "if this is a load balancer: "+fmt.Sprintf(advice, addr))}
}

// printable escapes, as in a Go string, everything that a terminal may obey or
// display misleadingly: the log's JSON encoder lets most of Unicode through.
func printable(s string) string {
	special := func(r rune) bool { return r < ' ' || r > '~' }
	if !strings.ContainsFunc(s, special) {
		return s
	}
	quoted := strconv.QuoteToASCII(s)
	return quoted[1 : len(quoted)-1]
}

func rightEnd(s string) string {
	if len(s) <= maxLoggedHeader {
		return s
	}
	return "…" + s[len(s)-maxLoggedHeader:]
}
