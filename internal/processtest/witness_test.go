package processtest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// witness takes an instance's place behind a load balancer, to see what comes
// over the wire, and to be as an instance in trouble is. It is always ready.
type witness struct {
	address string

	mu        sync.Mutex
	behaviour behaviour
	seen      []call
}

// behaviour is what a witness does with a callback.
type behaviour int

const (
	answer200 behaviour = iota
	answer503
	hangUp
)

// call is what a witness has seen of one request.
type call struct {
	method string
	// version of the PROXY protocol, 0 without a header, and the address in it.
	version int
	source  string
	// forwarded is X-Forwarded-For.
	forwarded string
}

func startWitness(t *testing.T) *witness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{address: l.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { w.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return w
}

// serve takes one request.
func (w *witness) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	c := readProxyHeader(r)
	request, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	if _, err := io.Copy(io.Discard, request.Body); err != nil {
		return
	}
	c.method, c.forwarded = request.Method, request.Header.Get("X-Forwarded-For")

	w.mu.Lock()
	w.seen = append(w.seen, c)
	behaviour := w.behaviour
	w.mu.Unlock()
	status := "200 OK"
	if c.method == http.MethodPost && behaviour == hangUp {
		return
	}
	if c.method == http.MethodPost && behaviour == answer503 {
		status = "503 Service Unavailable"
	}
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status)
}

// readProxyHeader reads the header of the PROXY protocol, if there is one.
func readProxyHeader(r *bufio.Reader) (c call) {
	if start, _ := r.Peek(6); string(start) == "PROXY " {
		c.version = 1
		line, _ := r.ReadString('\n')
		if fields := strings.Fields(line); len(fields) == 6 {
			c.source = fields[2]
		}
		return c
	}
	if start, _ := r.Peek(16); strings.HasPrefix(string(start), "\r\n\r\n\x00\r\nQUIT\n\x21") || strings.HasPrefix(string(start), "\r\n\r\n\x00\r\nQUIT\n\x20") {
		c.version = 2
		length := int(binary.BigEndian.Uint16(start[14:]))
		rest, _ := r.Peek(16 + length)
		if start[13] == 0x11 && len(rest) >= 20 { // TCP over IPv4
			c.source = net.IP(rest[16:20]).String()
		}
		_, _ = r.Discard(16 + length)
	}
	return c
}

// behave changes what it does, and forgets what it has seen.
func (w *witness) behave(b behaviour) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behaviour, w.seen = b, nil
}

// calls are those of a method since the last behave.
func (w *witness) calls(method string) []call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var calls []call
	for _, c := range w.seen {
		if c.method == method {
			calls = append(calls, c)
		}
	}
	return calls
}
