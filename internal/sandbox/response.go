package sandbox

import (
	"cmp"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// dripChunks is how many pieces a dripping body comes in.
const dripChunks = 16

// response is an answer before it is written, so that a fault can spoil it.
type response struct {
	status int
	header http.Header
	body   []byte

	// rejection says why the sandbox itself, and no fault, rejects the request.
	rejection string
	// delay passes before the answer.
	delay time.Duration
	// dripOver is how long the body takes.
	dripOver time.Duration
	// breaks is hang, reset or truncated when the answer never ends.
	breaks FaultKind
	// beforeEnd, if any, is called once before the client has the whole answer:
	// whatever the client does next comes after it.
	beforeEnd func()
}

func newResponse(status int, contentType string, body []byte) response {
	return response{status: status, header: http.Header{"Content-Type": {contentType}}, body: body}
}

func jsonResponse(value any) response {
	body, err := json.Marshal(value)
	if err != nil {
		return problem(http.StatusInternalServerError, "the sandbox cannot write its answer: "+err.Error())
	}
	return newResponse(http.StatusOK, "application/json", body)
}

// problem is an error as Jumio's gateway writes it.
func problem(status int, detail string) response {
	answer := jsonResponse(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
	answer.status, answer.rejection = status, detail
	return answer
}

// reject is a problem with which a request ends.
func reject(status int, detail string) *response {
	answer := problem(status, detail)
	return &answer
}

// deliver counts and writes the answer. It panics with http.ErrAbortHandler when
// the answer must break off.
func (s *Sandbox) deliver(w http.ResponseWriter, r *http.Request, endpoint Endpoint, a response) {
	if a.beforeEnd == nil {
		a.beforeEnd = func() {}
	}
	counted := cmp.Or(string(a.breaks), strconv.Itoa(a.status))
	s.total(func(t *Totals) { t.Responses[string(endpoint)+" "+counted]++ })
	if a.rejection != "" {
		s.log.Info("request rejected", zap.String("endpoint", string(endpoint)), zap.Int("status", a.status), zap.String("detail", a.rejection))
	}
	if a.delay > 0 && !s.pause(r, a.delay) {
		a.beforeEnd()
		panic(http.ErrAbortHandler)
	}
	switch a.breaks {
	case FaultHang:
		a.beforeEnd()
		select {
		case <-r.Context().Done():
		case <-s.ctx.Done():
		}
		panic(http.ErrAbortHandler)
	case FaultReset:
		a.beforeEnd()
		reset(w)
		return
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	if len(a.body) == 0 {
		a.beforeEnd()
		w.WriteHeader(a.status)
		return
	}
	w.WriteHeader(a.status)
	s.writeBody(w, r, a)
}

func (s *Sandbox) writeBody(w http.ResponseWriter, r *http.Request, a response) {
	rest := a.body
	if a.dripOver > 0 {
		for range dripChunks - 1 {
			chunk := len(a.body) / dripChunks
			// If the client has gone, the pause ends.
			_, _ = w.Write(rest[:chunk])
			_ = http.NewResponseController(w).Flush()
			rest = rest[chunk:]
			if !s.pause(r, a.dripOver/dripChunks) {
				break
			}
		}
	}
	if a.breaks == FaultTruncated {
		_, _ = w.Write(rest[:len(rest)/2])
		_ = http.NewResponseController(w).Flush()
		a.beforeEnd()
		panic(http.ErrAbortHandler)
	}
	// A write fails only when the client has gone.
	_, _ = w.Write(rest[:len(rest)-1])
	a.beforeEnd()
	_, _ = w.Write(rest[len(rest)-1:])
}

// pause waits and says whether the client is still there.
func (s *Sandbox) pause(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-s.ctx.Done():
	}
	return false
}

// reset ends the connection with a RST where it can, after the beginning of an
// answer: without one, clients silently repeat the request.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	// Whatever fails, the connection ends.
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
