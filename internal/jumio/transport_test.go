package jumio

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener accepts the far ends of in-memory connections, so that a real
// HTTP server and client run on the fake clock of synctest.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// newPipeClient gives a client of a server with that handler, for use in a
// synctest bubble; both end with the test.
func newPipeClient(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	// A server notices that a client left only once it has read the request.
	var running sync.WaitGroup
	readFirst := func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Done()
		_, _ = io.Copy(io.Discard, r.Body)
		handler(w, r)
	}
	server := &http.Server{Handler: http.HandlerFunc(readFirst), ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	c := newClient(t, testConfig("http://jumio.test"))
	c.transport.DialContext = listener.dial
	c.transport.Proxy = nil
	t.Cleanup(func() {
		c.Close()
		_ = server.Close()
		<-served
		synctest.Wait() // no handler begins any more
		running.Wait()
	})
	return c
}

// withToken answers token requests, and the others with api.
func withToken(api http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth2/token" {
			writeToken(w, "tok", 3600)
			return
		}
		api(w, r)
	}
}

// TestNoProgress: a request ends after 30 s without progress, wherever it
// stands, and not before.
func TestNoProgress(t *testing.T) {
	stall := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	stallInBody := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		_, _ = io.WriteString(w, "{")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	tests := map[string]struct {
		handler  http.HandlerFunc
		endpoint string
		code     string
	}{
		"status headers":  {withToken(stall), EndpointStatus, CodeTimeout},
		"details headers": {withToken(stall), EndpointDetails, CodeTimeout},
		"details body":    {withToken(stallInBody), EndpointDetails, CodeTimeout},
		"image headers":   {withToken(stall), EndpointImage, CodeTimeout},
		"image body":      {withToken(stallInBody), EndpointImage, CodeTimeout},
		"token headers":   {stall, EndpointDetails, "token_" + CodeTimeout},
		"token body":      {stallInBody, EndpointDetails, "token_" + CodeTimeout},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newPipeClient(t, tt.handler)
				start := time.Now()
				e := asError(t, call(t.Context(), c, tt.endpoint), tt.code)
				if took := time.Since(start); took != 30*time.Second {
					t.Errorf("ended after %v, want 30s", took)
				}
				if e.Verdict != EndAttempt {
					t.Errorf("verdict %d", e.Verdict)
				}
			})
		})
	}
}

// TestNoConnection: nobody accepts.
func TestNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPipeClient(t, nil)
		c.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		start := time.Now()
		wantCode(t, call(t.Context(), c, EndpointDetails), "token_"+CodeTimeout)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("ended after %v, want 30s", took)
		}
	})
}

// TestSlowProgress: what goes on slowly is not cut off.
func TestSlowProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := drawPNG(t)
		c := newPipeClient(t, withToken(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(29 * time.Second)
			w.Header().Set("Content-Type", "image/png")
			for part := range 10 {
				_, _ = w.Write(data[part*len(data)/10 : (part+1)*len(data)/10])
				_ = http.NewResponseController(w).Flush()
				time.Sleep(29 * time.Second)
			}
		}))
		start := time.Now()
		if err := call(t.Context(), c, EndpointImage); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 5*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// TestDrippingToken: a token answer that never ends is given up in the end.
func TestDrippingToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPipeClient(t, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Second)
			}
		})
		start := time.Now()
		wantCode(t, call(t.Context(), c, EndpointDetails), "token_"+CodeTimeout)
		if took := time.Since(start); took != time.Minute {
			t.Errorf("ended after %v, want 1m", took)
		}
	})
}

// TestCallersDeadline ends a request in any phase.
func TestCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPipeClient(t, withToken(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			_, _ = w.Write(pngMagic)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := call(ctx, c, EndpointImage)
		if e := asError(t, err, CodeTimeout); e.Verdict != EndAttempt || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %+v", e)
		}
	})
}
