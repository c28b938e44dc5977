package handler

import (
	"context"
	"net/http"

	"go.uber.org/zap"

	"callbackd/internal/callback"
)

// keepRejected keeps a rejected request from an allowed address, if there is room.
func (h *Handler) keepRejected(x *exchange, r *http.Request, body []byte) {
	if h.ofAllowed.take(x.start, x.addr) {
		h.insertRejected(x, r, body)
	}
}

// insertRejected stores a rejected request. A failure is logged and does not change
// the answer.
func (h *Handler) insertRejected(x *exchange, r *http.Request, body []byte) {
	err := h.opt.Store.InsertRejected(context.WithoutCancel(r.Context()), &callback.Rejected{
		ID:          x.id,
		ReceivedAt:  x.start,
		SourceIP:    x.addr,
		Reason:      callback.CleanText(x.reason),
		ContentType: callback.CleanText(r.Header.Get("Content-Type")),
		Body:        body[:min(len(body), callback.RejectedBodyLimit)],
	})
	if err != nil {
		h.opt.Logger.Error("a rejected callback could not be kept",
			zap.Stringer("request_id", x.id), zap.Error(err))
	}
}
