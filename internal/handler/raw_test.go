package handler

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/store"
)

// head is a callback's request line and headers, without the empty line.
const head = "POST " + callbackPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

// chunked is text as chunks of at most size bytes.
func chunked(text string, size int) string {
	var b strings.Builder
	for len(text) > 0 {
		n := min(size, len(text))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, text[:n])
		text = text[n:]
	}
	return b.String() + "0\r\n\r\n"
}

func TestRawRequests(t *testing.T) {
	length := fmt.Sprintf("Content-Length: %d\r\n", len(guideExample))
	for name, tc := range map[string]struct {
		request string
		status  int
	}{
		"absolute-form target": {
			"POST http://callbackd.example" + callbackPath + " HTTP/1.1\r\nHost: x\r\n" + length + "\r\n" + guideExample, 200,
		},
		"absolute-form target, doubled slash": {
			"POST http://callbackd.example/" + callbackPath + " HTTP/1.1\r\nHost: x\r\n" + length + "\r\n" + guideExample, 404,
		},
		"absolute-form target without a path": {
			"POST http://callbackd.example HTTP/1.1\r\nHost: x\r\n" + length + "\r\n" + guideExample, 404,
		},
		"authority-form target": {"CONNECT callbackd.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"query":                 {strings.Replace(head, " HTTP", "?token=x&y HTTP", 1) + length + "\r\n" + guideExample, 200},
		"HTTP/1.0 without a length": {
			"POST " + callbackPath + " HTTP/1.0\r\n\r\n" + guideExample, 400,
		},
		"no body": {head + "\r\n", 400},
		"chunks":  {head + "Transfer-Encoding: chunked\r\n\r\n" + chunked(guideExample, 7), 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, nil)
			method, _, _ := strings.Cut(tc.request, " ")
			if a := r.raw(method, tc.request); a.StatusCode != tc.status {
				t.Errorf("status %d, want %d: %s", a.StatusCode, tc.status, a.body)
			}
			callbacks, _ := r.store.kept()
			if stored := len(callbacks) == 1; stored != (tc.status == 200) {
				t.Errorf("%d stored", len(callbacks))
			}
			if len(callbacks) == 1 && string(callbacks[0].Body) != guideExample {
				t.Errorf("stored the body %q", callbacks[0].Body)
			}
		})
	}
}

func TestBodyOverTheLimit(t *testing.T) {
	const limit = 1000
	body := strings.Repeat("x", limit+1)
	for name, request := range map[string]string{
		"announced, not sent": head + "Content-Length: 1001\r\n\r\n",
		"announced and sent":  head + "Content-Length: 1001\r\n\r\n" + body,
		"announced as absurd": head + "Content-Length: 9223372036854775807\r\n\r\n",
		"chunked":             head + "Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 100),
		"chunked, unfinished": head + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + body,
		"expecting 100":       head + "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(s *setup) { s.options.MaxBodyBytes = limit })
			a := r.raw("POST", request)
			a.checkProblem(t, http.StatusRequestEntityTooLarge, "")
			if !a.Close {
				t.Error("the connection is kept")
			}
			if callbacks, rejected := r.store.kept(); len(callbacks)+len(rejected) != 0 {
				t.Errorf("%d stored, %d kept", len(callbacks), len(rejected))
			}
			r.wantOutcomes(map[string]int{"too_large": 1})
		})
	}
}

func TestExpectContinue(t *testing.T) {
	r := start(t, nil)
	conn := r.dial()
	r.send(conn, head+fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(guideExample)))
	in := bufio.NewReader(conn)
	if a := r.read(in, "POST"); a.StatusCode != http.StatusContinue {
		t.Fatalf("first answer %d", a.StatusCode)
	}
	r.send(conn, guideExample)
	if a := r.read(in, "POST"); a.StatusCode != http.StatusOK {
		t.Errorf("second answer %d", a.StatusCode)
	}
}

// A client that is told to send its body but never does, and one that sends Expect
// but is rejected by its address.
func TestExpectContinueAndNothingComes(t *testing.T) {
	for name, change := range map[string]func(*setup){"allowed": nil, "rejected": rejectAll} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(s *setup) {
				if change != nil {
					change(s)
				}
				s.tune = slowBody
			})
			conn := r.dial()
			r.send(conn, head+"Expect: 100-continue\r\nContent-Length: 500\r\n\r\n")
			in := bufio.NewReader(conn)
			if a := r.read(in, "POST"); a.StatusCode != http.StatusContinue {
				t.Fatalf("first answer %d", a.StatusCode)
			}
			want := http.StatusRequestTimeout
			if change != nil {
				want = http.StatusForbidden
			}
			if a := r.read(in, "POST"); a.StatusCode != want || !a.Close {
				t.Errorf("second answer %d, the connection is kept: %v; want %d", a.StatusCode, !a.Close, want)
			}
			if callbacks, _ := r.store.kept(); len(callbacks) != 0 {
				t.Errorf("%d stored", len(callbacks))
			}
		})
	}
}

func TestConnectionIsKeptAfterRefusals(t *testing.T) {
	r := start(t, nil)
	conn := r.dial()
	in := bufio.NewReader(conn)
	for _, tc := range []struct {
		body   string
		status int
	}{{"{}", 400}, {guideExample, 200}, {"", 400}, {guideExample, 200}} {
		r.send(conn, head+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(tc.body), tc.body))
		if a := r.read(in, "POST"); a.StatusCode != tc.status {
			t.Fatalf("status %d, want %d", a.StatusCode, tc.status)
		}
	}
}

func TestClientAbortsMidBody(t *testing.T) {
	t.Run("what came is kept", func(t *testing.T) {
		r := start(t, nil)
		conn := r.dial()
		r.send(conn, head+"Content-Length: 500\r\n\r\n"+guideExample[:100])
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		// The client still listens, so it gets an answer.
		a := r.read(bufio.NewReader(conn), "POST")
		a.checkProblem(t, http.StatusBadRequest, "incomplete_body")
		r.wantRejected(a, "malformed: incomplete_body", guideExample[:100])
		r.wantOutcomes(map[string]int{"malformed": 1})
	})
	t.Run("nothing came", func(t *testing.T) {
		r := start(t, nil)
		conn := r.dial()
		r.send(conn, head+"Content-Length: 500\r\n\r\n")
		_ = conn.Close()
		eventually(t, "the rejection is counted", func() bool {
			outcomes, _ := r.outcomes()
			return outcomes["malformed"] == 1
		})
		if _, rejected := r.store.kept(); len(rejected) != 0 {
			t.Errorf("%d kept", len(rejected))
		}
	})
}

// A callback that has arrived is stored even if the client does not wait.
func TestClientLeavesWhileItsCallbackIsStored(t *testing.T) {
	requests := make(chan context.Context, 1)
	r := start(t, func(s *setup) {
		s.options.Check = func(r *http.Request) (netip.Addr, string) {
			requests <- r.Context()
			return allowedAddr, ""
		}
	})
	r.store.entered, r.store.release = make(chan struct{}, 1), make(chan struct{})
	conn := r.dial()
	r.send(conn, head+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(guideExample), guideExample))
	request := <-requests
	<-r.store.entered
	_ = conn.Close()
	<-request.Done() // the server has noticed
	close(r.store.release)
	eventually(t, "the callback is stored", func() bool {
		outcomes, _ := r.outcomes()
		return outcomes["stored"] == 1
	})
}

// slowBody removes all limits but the body's, and shortens that.
func slowBody(h *Handler, server *http.Server) {
	h.bodyTimeout = 50 * time.Millisecond
	server.ReadTimeout = 0
}

func TestSlowBodyIsCutOff(t *testing.T) {
	r := start(t, func(s *setup) {
		s.tune = slowBody
	})
	a := r.raw("POST", head+"Content-Length: 500\r\n\r\n"+guideExample[:100])
	a.checkProblem(t, http.StatusRequestTimeout, "incomplete_body")
	if !a.Close {
		t.Error("the connection is kept")
	}
	r.wantRejected(a, "malformed: incomplete_body", guideExample[:100])
}

func TestSlowBodyOfARefusedClientIsCutOff(t *testing.T) {
	r := start(t, func(s *setup) {
		rejectAll(s)
		s.tune = slowBody
	})
	a := r.raw("POST", head+"Content-Length: 500\r\n\r\n"+guideExample[:100])
	a.checkProblem(t, http.StatusForbidden, "")
	r.wantRejected(a, "address_not_allowed", guideExample[:100])
}

// wantCutOff reads until the server closes the connection.
func wantCutOff(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection was not closed: %v", err)
	}
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	r := start(t, func(s *setup) {
		s.tune = func(_ *Handler, server *http.Server) {
			server.ReadHeaderTimeout, server.ReadTimeout = 50*time.Millisecond, 0
		}
	})
	conn := r.dial()
	r.send(conn, head)
	wantCutOff(t, conn)
}

func TestIdleConnectionsAreCutOff(t *testing.T) {
	r := start(t, func(s *setup) {
		s.tune = func(_ *Handler, server *http.Server) { server.IdleTimeout = 50 * time.Millisecond }
	})
	conn := r.dial()
	r.send(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	in := bufio.NewReader(conn)
	r.read(in, "GET")
	wantCutOff(t, conn)
}

func TestServerLimits(t *testing.T) {
	r := start(t, nil)
	s := r.server
	if s.ReadHeaderTimeout != 5*time.Second || s.IdleTimeout != 75*time.Second || r.handler.bodyTimeout != 15*time.Second {
		t.Errorf("headers %v, idle %v, body %v; want 5s, 75s, 15s", s.ReadHeaderTimeout, s.IdleTimeout, r.handler.bodyTimeout)
	}
	if s.ReadTimeout < s.ReadHeaderTimeout+bodyTimeout {
		t.Errorf("the whole request has %v, less than its parts", s.ReadTimeout)
	}
	for size, status := range map[int]int{15 << 10: http.StatusOK, 18 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		a := r.raw("GET", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("x", size)+"\r\n\r\n")
		if a.StatusCode != status {
			t.Errorf("%d bytes of headers: %d, want %d", size, a.StatusCode, status)
		}
	}
}

// The answer has a time limit of its own: it is sent even if it waited for the
// database longer than the server's write time-out.
func TestLateAnswerIsSent(t *testing.T) {
	r := start(t, func(s *setup) {
		s.tune = func(h *Handler, server *http.Server) {
			h.lateAnswer, server.WriteTimeout = 0, 20*time.Millisecond
		}
	})
	r.store.entered, r.store.release = make(chan struct{}, 1), make(chan struct{})
	r.store.insertErr = store.ErrUnavailable
	time.AfterFunc(100*time.Millisecond, func() { close(r.store.release) })
	r.post(guideExample).checkProblem(t, http.StatusServiceUnavailable, "")
}
