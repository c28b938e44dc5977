package handler

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"

	"callbackd/internal/callback"
)

const (
	// retryAfter is what a refused sender is told to wait, in seconds.
	retryAfter = 10
	// reasonMalformed is what the reason of a body that is no callback begins with.
	reasonMalformed = "malformed: "
)

// callback is the way of one callback: who is calling, is it a callback, one
// durable insert, 200.
func (h *Handler) callback(w http.ResponseWriter, r *http.Request) {
	x := exchangeOf(w)
	x.outcome = outcomeUnavailable // what a panic below leaves

	x.addr, x.reason = h.opt.Check(r)
	if x.reason != "" {
		h.forbidden(x, r)
		return
	}
	body, ok := h.readBody(x, r)
	if !ok {
		return
	}
	c, err := callback.Decode(body)
	if err != nil {
		h.malformed(x, r, body, http.StatusBadRequest, err)
		return
	}
	x.workflowExecution = c.WorkflowExecutionID
	if h.opt.UserReferenceKey != "" {
		if err := callback.VerifyUserReference(h.opt.UserReferenceKey, c.UserReference); err != nil {
			x.outcome, x.reason = outcomeForbidden, err.Error()
			h.keepRejected(x, r, body)
			x.problem(http.StatusForbidden, "")
			return
		}
	}

	// A callback that has arrived is stored even when nobody waits for the
	// answer any more.
	c.ID, c.ReceivedAt, c.SourceIP = x.id, x.start, x.addr
	c.ContentType, c.Body = callback.CleanText(r.Header.Get("Content-Type")), body
	spooled, err := h.opt.Store.InsertCallback(context.WithoutCancel(r.Context()), c)
	if err != nil {
		x.err = err
		x.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		x.problem(http.StatusServiceUnavailable, "")
		return
	}
	x.outcome = outcomeStored
	if spooled {
		x.outcome = outcomeSpooled
	}
	x.WriteHeader(http.StatusOK)
}

// readBody returns the whole body, or answers and returns false.
func (h *Handler) readBody(x *exchange, r *http.Request) ([]byte, bool) {
	if r.ContentLength > h.opt.MaxBodyBytes {
		x.Header().Set("Connection", "close")
		h.tooLarge(x)
		return nil, false
	}
	// With the server's own ResponseWriter, MaxBytesReader makes it close the
	// connection when there is more than the limit.
	body, err := readAll(http.MaxBytesReader(x.ResponseWriter, r.Body, h.opt.MaxBodyBytes), r.ContentLength)
	x.bytes = len(body)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, true
	case errors.As(err, &tooLarge):
		h.tooLarge(x)
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.Header().Set("Connection", "close")
		h.malformed(x, r, body, http.StatusRequestTimeout, callback.ErrIncompleteBody)
	default:
		// The client is gone, or its framing is broken.
		x.Header().Set("Connection", "close")
		h.malformed(x, r, body, http.StatusBadRequest, callback.ErrIncompleteBody)
	}
	return nil, false
}

// readAll is io.ReadAll with a buffer of the announced size, as far as an
// announcement is to be believed.
func readAll(r io.Reader, announced int64) ([]byte, error) {
	const mostBelieved = 64 << 10
	var buf bytes.Buffer
	if announced > 0 {
		// ReadFrom wants MinRead bytes more to find the end.
		buf.Grow(int(min(announced, mostBelieved)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(r)
	return buf.Bytes(), err
}

func (h *Handler) tooLarge(x *exchange) {
	x.outcome = outcomeTooLarge
	x.problem(http.StatusRequestEntityTooLarge, "")
}

// malformed answers 400, or 408 to a body that was too slow.
func (h *Handler) malformed(x *exchange, r *http.Request, body []byte, status int, err error) {
	x.outcome, x.reason = outcomeMalformed, reasonMalformed+err.Error()
	// Of a body that was cut off, only what came is worth keeping.
	if len(body) > 0 || !errors.Is(err, callback.ErrIncompleteBody) {
		h.keepRejected(x, r, body)
	}
	x.problem(status, err.Error())
}

// forbidden refuses a client by its address. The body is read only when it will
// be kept, so that a flood costs little.
func (h *Handler) forbidden(x *exchange, r *http.Request) {
	x.outcome = outcomeForbidden
	if h.ofOthers.take(x.start, x.addr) {
		// Whatever came before an error is kept.
		body, _ := readAll(io.LimitReader(r.Body, callback.RejectedBodyLimit), r.ContentLength)
		x.bytes = len(body)
		h.insertRejected(x, r, body)
	}
	x.problem(http.StatusForbidden, "")
}
