package handler

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// exchange is one request and its answer: the ResponseWriter that the handlers
// get, and the event that is logged once, at the end. It holds only what may be
// logged.
type exchange struct {
	http.ResponseWriter
	id    uuid.UUID
	start time.Time
	// status is 0 until the answer begins.
	status     int
	lateAnswer time.Duration

	// For requests on the callback path: the outcome (empty for others), the
	// client's address, and what is known of the body.
	outcome           string
	addr              netip.Addr
	reason            string
	bytes             int
	workflowExecution string
	err               error
}

func exchangeOf(w http.ResponseWriter) *exchange { return w.(*exchange) }

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
		if now := time.Now(); now.Sub(x.start) >= x.lateAnswer {
			// The server's write time-out started at the end of the headers, so the
			// wait for the database has used some of it.
			_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(now.Add(answerTimeout))
		}
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	return x.ResponseWriter.Write(p)
}

// problem answers with an application/problem+json document (RFC 9457).
func (x *exchange) problem(status int, detail string) {
	body, _ := json.Marshal(struct { // cannot fail: strings and a number
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail,omitempty"`
		RequestID string `json:"request_id"`
	}{"about:blank", http.StatusText(status), status, detail, x.id.String()})
	x.Header().Set("Content-Type", "application/problem+json")
	x.WriteHeader(status)
	_, _ = x.Write(body) // if it fails, nobody is there to read it
}

// observe gives every request its id and, when it is done, its metrics and its log
// line. It also turns a panic into a 500.
func (h *Handler) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, id: uuid.Must(uuid.NewV7()), start: h.opt.Now(), lateAnswer: h.lateAnswer}
		w.Header().Set("X-Request-Id", x.id.String())
		if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
			// net/http hides a Content-Length next to a Transfer-Encoding, and ignores
			// the latter in HTTP/1.0. A proxy may have read such a request as shorter
			// or longer, so nothing after it is read (RFC 9112, section 6.1).
			w.Header().Set("Connection", "close")
		}
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.bodyTimeout))
		}
		defer func() {
			p := recover()
			if p != nil {
				h.recovered(x, p)
			}
			h.finish(x, r)
			if p != nil && x.status != http.StatusInternalServerError {
				// The answer had begun, or was meant to be aborted.
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(x, r)
	})
}

// recovered answers 500 if it still can. A panic's value may hold anything, so
// only the runtime's own errors are logged as they are.
func (h *Handler) recovered(x *exchange, p any) {
	value := zap.Skip()
	if err, ok := p.(error); ok {
		if errors.Is(err, http.ErrAbortHandler) {
			return
		}
		var fault runtime.Error
		if errors.As(err, &fault) {
			value = zap.String("panic", fault.Error())
		}
	}
	h.opt.Logger.Error("a request handler panicked", zap.Stringer("request_id", x.id),
		value, zap.ByteString("stack", debug.Stack()))
	if x.status == 0 {
		x.problem(http.StatusInternalServerError, "")
	}
}

// finish counts the request and writes its log line. It never logs the path: even
// a near miss contains the secret.
func (h *Handler) finish(x *exchange, r *http.Request) {
	end := h.opt.Now()
	duration := end.Sub(x.start)
	if x.outcome == "" {
		h.logOther(x, r, duration)
		return
	}
	h.opt.Metrics.observe(x, duration.Seconds())
	if x.workflowExecution != "" && h.opt.Tracer.Sampled(x.workflowExecution) {
		h.trace(x, end)
	}

	fields := make([]zap.Field, 0, 10)
	level := zapcore.WarnLevel
	switch x.outcome {
	case outcomeStored, outcomeSpooled:
		level = zapcore.InfoLevel
	case outcomeUnavailable:
		level = zapcore.ErrorLevel
	case outcomeForbidden:
		suppressed, ok := h.mayLogRejected()
		if !ok {
			return
		}
		fields = append(fields, suppressed)
	}
	entry := h.opt.Logger.Check(level, "callback")
	if entry == nil {
		return
	}
	fields = append(fields,
		zap.String("outcome", x.outcome),
		zap.Int("status", x.status),
		zap.Stringer("request_id", x.id),
		zap.Duration("duration", duration),
		zap.Int("bytes", x.bytes))
	if x.addr.IsValid() {
		fields = append(fields, zap.Stringer("source_ip", x.addr))
	}
	if x.workflowExecution != "" {
		fields = append(fields, zap.String("workflow_execution_id", x.workflowExecution), h.opt.Tracer.LogID(x.workflowExecution))
	}
	if x.reason != "" {
		fields = append(fields, zap.String("reason", x.reason))
	}
	if x.err != nil {
		fields = append(fields, zap.Error(x.err))
	}
	entry.Write(fields...)
}

// logOther writes the log line of a request that was not a callback: rejected ones
// at info level, a few a second; probes and scrapes at debug level.
func (h *Handler) logOther(x *exchange, r *http.Request, duration time.Duration) {
	level, suppressed := zapcore.DebugLevel, zap.Skip()
	if x.status == http.StatusNotFound || x.status == http.StatusMethodNotAllowed {
		var ok bool
		if suppressed, ok = h.mayLogRejected(); !ok {
			return
		}
		level = zapcore.InfoLevel
	}
	if entry := h.opt.Logger.Check(level, "request"); entry != nil {
		entry.Write(zap.Int("status", x.status), zap.Stringer("request_id", x.id),
			zap.Duration("duration", duration), zap.String("peer", r.RemoteAddr), suppressed)
	}
}

// mayLogRejected keeps the log readable while somebody floods the listener: it
// allows a few lines a second, with the number of those suppressed before.
func (h *Handler) mayLogRejected() (suppressed zap.Field, ok bool) {
	if !h.logLimit.AllowN(h.opt.Now(), 1) {
		h.suppressed.Add(1)
		return zap.Skip(), false
	}
	if n := h.suppressed.Swap(0); n > 0 {
		return zap.Int64("suppressed", n), true
	}
	return zap.Skip(), true
}
