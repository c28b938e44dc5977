package handler

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"

	"callbackd/internal/callback"
)

const (
	// retryAfter is how many seconds the sender is asked to wait after a 503.
	retryAfter = "10"
	// reasonMalformed begins the reason for rejecting a body that is not a callback.
	reasonMalformed = "malformed: "
)

// callback handles one callback: it checks the address, reads, decodes and stores
// the body, and answers 200 once it is durable.
func (h *Handler) callback(w http.ResponseWriter, r *http.Request) {
	x := exchangeOf(w)
	x.outcome = outcomeUnavailable // unless the code below gets further

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

	// A callback that has arrived is stored even if nobody waits for the answer
	// any more.
	c.ID, c.ReceivedAt, c.SourceIP = x.id, x.start, x.addr
	c.ContentType, c.Body = callback.CleanText(r.Header.Get("Content-Type")), body
	spooled, err := h.opt.Store.InsertCallback(context.WithoutCancel(r.Context()), c)
	if err != nil {
		x.err = err
		x.Header().Set("Retry-After", retryAfter)
		x.problem(http.StatusServiceUnavailable, "")
		return
	}
	x.outcome = outcomeStored
	if spooled {
		x.outcome = outcomeSpooled
	}
	x.WriteHeader(http.StatusOK)
}

// readBody returns the whole body; or it answers and returns false.
func (h *Handler) readBody(x *exchange, r *http.Request) ([]byte, bool) {
	if r.ContentLength > h.opt.MaxBodyBytes {
		x.Header().Set("Connection", "close")
		h.tooLarge(x)
		return nil, false
	}
	// Given the server's own ResponseWriter, MaxBytesReader makes it close the
	// connection if the body is larger.
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

// readAll is io.ReadAll with a buffer of the announced size, up to 64 KiB.
func readAll(r io.Reader, announced int64) ([]byte, error) {
	const largest = 64 << 10
	var buf bytes.Buffer
	if announced > 0 {
		// ReadFrom needs MinRead more bytes to find the end.
		buf.Grow(int(min(announced, largest)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(r)
	return buf.Bytes(), err
}

func (h *Handler) tooLarge(x *exchange) {
	x.outcome = outcomeTooLarge
	x.problem(http.StatusRequestEntityTooLarge, "")
}

// malformed answers 400, or 408 if the body was too slow.
func (h *Handler) malformed(x *exchange, r *http.Request, body []byte, status int, err error) {
	x.outcome, x.reason = outcomeMalformed, reasonMalformed+err.Error()
	// If nothing arrived of an incomplete body, there is nothing to keep.
	if len(body) > 0 || !errors.Is(err, callback.ErrIncompleteBody) {
		h.keepRejected(x, r, body)
	}
	x.problem(status, err.Error())
}

// forbidden rejects a client by its address. It reads the body only if it keeps
// it, so that a flood costs little.
func (h *Handler) forbidden(x *exchange, r *http.Request) {
	x.outcome = outcomeForbidden
	if h.ofOthers.take(x.start, x.addr) {
		// Whatever arrived before an error is kept.
		body, _ := readAll(io.LimitReader(r.Body, callback.RejectedBodyLimit), r.ContentLength)
		x.bytes = len(body)
		h.insertRejected(x, r, body)
	}
	x.problem(http.StatusForbidden, "")
}
