package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/sandbox/journey"
)

// dripChunks is how many pieces a dripping body comes in.
const dripChunks = 16

// response is an answer before it is written, so that a fault can spoil it.
type response struct {
	status int
	header http.Header
	body   []byte

	// rejection says why the sandbox itself, not a fault, rejects the request.
	rejection string
	// delay passes before the answer.
	delay time.Duration
	// dripOver is how long the body takes.
	dripOver time.Duration
	// breaks is hang, reset or truncated when the answer never ends.
	breaks FaultKind
	// notFinal is the answer while Jumio still works on the journey, for the fault of
	// that name.
	notFinal func() *response
	// beforeEnd is called once, before the client has the whole answer
	// and can do anything else.
	beforeEnd func()
}

func newResponse(status int, contentType string, body []byte) *response {
	return &response{status: status, header: http.Header{"Content-Type": {contentType}}, body: body, beforeEnd: func() {}}
}

func jsonResponse(value any) *response {
	body, _ := json.Marshal(value) // texts, numbers, lists and maps
	return newResponse(http.StatusOK, "application/json", body)
}

// problem is an error as Jumio's gateway writes it.
func problem(status int, detail string) *response {
	answer := jsonResponse(problemBody(status, detail))
	answer.status, answer.rejection = status, detail
	return answer
}

func problemBody(status int, detail string) map[string]any {
	return map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}
}

// deliver counts and writes the answer. It panics with http.ErrAbortHandler to
// break the answer off.
func (s *Sandbox) deliver(w http.ResponseWriter, r *http.Request, endpoint Endpoint, a *response) {
	counted := cmp.Or(string(a.breaks), strconv.Itoa(a.status))
	s.total(func(t *Totals) { t.Responses[string(endpoint)+" "+counted]++ })
	if a.rejection != "" {
		s.log.Info("request rejected", zap.String("endpoint", string(endpoint)), zap.Int("status", a.status), zap.String("detail", a.rejection))
	}
	gone := sleep(r.Context(), a.delay) != nil
	switch {
	case gone || a.breaks == FaultHang:
		a.beforeEnd()
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case a.breaks == FaultReset:
		a.beforeEnd()
		reset(w)
		return
	}
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	if len(a.body) == 0 {
		a.beforeEnd()
		w.WriteHeader(a.status)
		return
	}
	w.WriteHeader(a.status)
	writeBody(r.Context(), w, a)
}

func writeBody(ctx context.Context, w http.ResponseWriter, a *response) {
	// A write fails only when the client has gone.
	write := func(part []byte) { _, _ = w.Write(part) }
	rest := a.body
	if a.dripOver > 0 {
		for range dripChunks - 1 {
			chunk := len(a.body) / dripChunks
			write(rest[:chunk])
			_ = http.NewResponseController(w).Flush()
			rest = rest[chunk:]
			if sleep(ctx, a.dripOver/dripChunks) != nil {
				break
			}
		}
	}
	if a.breaks == FaultTruncated {
		write(rest[:len(rest)/2])
		_ = http.NewResponseController(w).Flush()
		a.beforeEnd()
		panic(http.ErrAbortHandler)
	}
	write(rest[:len(rest)-1])
	a.beforeEnd()
	write(rest[len(rest)-1:])
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

const htmlPage = "<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body><h1>We'll be right back.</h1></body></html>\n"

// spoil applies the fault to a right answer (nil if the fault refuses the request), and reports whether the client still
// gets all of it.
func (s *Sandbox) spoil(r *http.Request, f Fault, answer *response) (spoilt *response, complete bool) {
	if status, err := strconv.Atoi(string(f.Kind)); err == nil {
		return s.errorAnswer(status, f), false
	}
	switch f.Kind {
	case FaultSlow:
		answer.delay = f.delay()
		return answer, true
	case FaultDrip:
		answer.dripOver = f.delay()
		return answer, true
	case FaultHang, FaultReset, FaultTruncated:
		answer.breaks = f.Kind
	case FaultRevoked:
		s.revokeToken(bearer(r))
		answer = unauthorized("the access token is revoked")
		answer.rejection = ""
	case FaultRedirect:
		answer = newResponse(http.StatusFound, "text/html; charset=utf-8", nil)
		answer.header.Set("Location", "http://"+r.Host+trapPath)
	case FaultNotFinal:
		answer = answer.notFinal()
	case FaultHTML:
		answer = newResponse(http.StatusOK, "text/html; charset=utf-8", []byte(htmlPage))
	case FaultEmpty:
		answer.body = nil
	case FaultBrokenJSON:
		answer.body = answer.body[:len(answer.body)/2]
	case FaultWrongType:
		contradiction := journey.PNG
		if answer.header.Get("Content-Type") == journey.PNG {
			contradiction = journey.JPEG
		}
		answer = newResponse(http.StatusOK, contradiction, answer.body)
	}
	return answer, false
}

func (s *Sandbox) errorAnswer(status int, f Fault) *response {
	answer := problem(status, "a fault of the sandbox")
	switch status {
	case http.StatusUnauthorized:
		answer = unauthorized("the access token is not accepted")
	case http.StatusTooManyRequests:
		answer = problem(status, "Request limit exceeded")
	}
	answer.rejection = ""
	if f.RetryAfter > 0 {
		value := strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds())))
		if f.RetryAfterDate {
			// Rounded up: an HTTP date has no fractions.
			value = s.cfg.Now().Add(f.RetryAfter + time.Second).UTC().Format(http.TimeFormat)
		}
		answer.header.Set("Retry-After", value)
	}
	return answer
}
