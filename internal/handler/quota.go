package handler

import (
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// quotaLines is the time between two log lines about one quota.
const quotaLines = 10 * time.Minute

// quota limits how many rejected requests are kept: at most limit in any hour, and
// from one source no more than there is still room for. So a single source gets
// half, a second one half of the rest, and none uses it up. The table of sources is
// never larger than the number of kept requests.
type quota struct {
	of    string
	limit int
	log   *zap.Logger
	lines *rate.Limiter

	mu       sync.Mutex
	kept     []keptRequest // within the last hour, oldest first
	bySource map[netip.Prefix]int
	notKept  int64 // since the last log line
}

type keptRequest struct {
	at     time.Time
	source netip.Prefix
}

// newQuota returns a quota; of is what the log calls its requests.
func newQuota(of string, limit int, log *zap.Logger) *quota {
	return &quota{
		of: of, limit: limit, log: log, lines: rate.NewLimiter(rate.Every(quotaLines), 1),
		bySource: make(map[netip.Prefix]int),
	}
}

// take reports whether a request from addr (zero if unknown) may be kept, and if so
// counts it.
func (q *quota) take(now time.Time, addr netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.kept); n > 0 && now.Before(q.kept[n-1].at) {
		// Requests do not get here in the order of their start.
		now = q.kept[n-1].at
	}
	for len(q.kept) > 0 && now.Sub(q.kept[0].at) >= time.Hour {
		source := q.kept[0].source
		if q.bySource[source]--; q.bySource[source] == 0 {
			delete(q.bySource, source)
		}
		q.kept = q.kept[1:]
	}
	source := sourceOf(addr)
	if q.bySource[source] >= q.limit-len(q.kept) {
		q.logFull(now, source)
		return false
	}
	q.kept = append(q.kept, keptRequest{now, source})
	q.bySource[source]++
	return true
}

// logFull counts a request that is not kept; q.mu is held.
func (q *quota) logFull(now time.Time, source netip.Prefix) {
	q.notKept++
	if q.limit == 0 || !q.lines.AllowN(now, 1) {
		return
	}
	fields := []zap.Field{
		zap.String("of", q.of), zap.Int("limit", q.limit), zap.Int("kept", len(q.kept)),
		zap.Int("kept_of_source", q.bySource[source]), zap.Int64("not_kept", q.notKept),
	}
	if source.IsValid() {
		fields = append(fields, zap.Stringer("source", source))
	}
	q.log.Warn("rejected callbacks are not kept", fields...)
	q.notKept = 0
}

// sourceOf returns the unit that shares are counted by: an IPv4 address, or the /64
// of an IPv6 address, which one host commonly has to itself. For the zero Addr it
// is the zero Prefix.
func sourceOf(addr netip.Addr) netip.Prefix {
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	source, _ := addr.Prefix(bits) // cannot fail for a valid address
	return source
}
