package handler

import (
	"context"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/store"
)

// keepRejected keeps a refused request before it is answered, if this hour's
// limit allows.
func (h *Handler) keepRejected(x *exchange, r *http.Request, body []byte) {
	if h.mayKeepRejected(x) {
		h.insertRejected(x, r, body)
	}
}

func (h *Handler) mayKeepRejected(x *exchange) bool {
	kept, last := h.rejected.take(x.start)
	if last {
		h.opt.Logger.Warn("no more rejected callbacks are kept in this hour",
			zap.Int("limit", h.opt.RejectedPerHour))
	}
	return kept
}

// insertRejected stores a refused request. That it fails is logged; the answer
// stays what it is.
func (h *Handler) insertRejected(x *exchange, r *http.Request, body []byte) {
	err := h.opt.Store.InsertRejected(context.WithoutCancel(r.Context()), &store.Rejected{
		ID:          x.id,
		ReceivedAt:  x.start,
		SourceIP:    x.addr,
		Reason:      store.CleanText(x.reason),
		ContentType: store.CleanText(r.Header.Get("Content-Type")),
		Body:        body[:min(len(body), store.RejectedBodyLimit)],
	})
	if err != nil {
		h.opt.Logger.Error("a rejected callback could not be kept",
			zap.Stringer("request_id", x.id), zap.Error(err))
	}
}

// hourlyLimit counts in clock hours.
type hourlyLimit struct {
	perHour int

	mu    sync.Mutex
	hour  time.Time
	taken int
}

// take reports whether one more is allowed in the hour of now, and whether it
// was the last.
func (l *hourlyLimit) take(now time.Time) (ok, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hour := now.UTC().Truncate(time.Hour); !hour.Equal(l.hour) {
		l.hour, l.taken = hour, 0
	}
	if l.taken >= l.perHour {
		return false, false
	}
	l.taken++
	return true, l.taken == l.perHour
}
