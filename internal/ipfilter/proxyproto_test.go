package ipfilter

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"go.uber.org/zap/zaptest/observer"
)

// serveProxied serves over a real socket and answers with the client address and
// why it is rejected: only Jumio's are allowed. The test's own address, 127.0.0.1,
// is a trusted proxy or is not.
func serveProxied(t *testing.T, trusted bool, headerTimeout time.Duration) (addr string, logs *observer.ObservedLogs) {
	t.Helper()
	cfg := Config{ProxyProtocol: true, TrustedProxies: prefixes(t, "10.0.0.0/8"), JumioIPs: []string{"us"}}
	if trusted {
		cfg.TrustedProxies = append(cfg.TrustedProxies, prefixes(t, "127.0.0.0/8")...)
	}
	f, logs := newFilter(t, cfg, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wrapped := f.WrapListener(l).(*proxyListener)
	if headerTimeout > 0 {
		wrapped.headerTimeout = headerTimeout
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute, // far longer than any test waits
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			d := f.Check(r)
			_, _ = io.WriteString(w, d.Addr.String()+" "+d.Reason)
		}),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(wrapped) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String(), logs
}

func dial(t *testing.T, addr, firstBytes string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, firstBytes); err != nil {
		t.Fatal(err)
	}
	return conn
}

// answer reads the response's body; a connection that was closed gives "closed".
func answer(t *testing.T, conn net.Conn) string {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("neither answered nor closed")
	}
	if err != nil {
		return "closed"
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

func v2(t *testing.T, command proxyproto.ProtocolVersionAndCommand, source string) string {
	t.Helper()
	h := proxyproto.Header{
		Version: 2, Command: command, TransportProtocol: proxyproto.TCPv4,
		SourceAddr:      net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)),
		DestinationAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:443")),
	}
	if strings.HasPrefix(source, "[") {
		h.TransportProtocol = proxyproto.TCPv6
		h.DestinationAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::1]:443"))
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestProxyProtocol(t *testing.T) {
	const (
		get     = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
		getXFF  = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: " + jumio + "\r\n\r\n"
		refused = " " + ReasonNotAllowed
		direct  = "127.0.0.1" + refused
		none    = "invalid IP " + ReasonNoAddress
		cut     = "closed"
		v1TCP4  = "PROXY TCP4 34.202.241.227 192.0.2.1 40000 443\r\n"
		v1Proxy = "PROXY TCP4 10.0.0.2 192.0.2.1 40000 443\r\n"
	)
	tests := []struct {
		name    string
		trusted bool
		send    string
		want    string
	}{
		{"v1 from a trusted peer", true, v1TCP4 + get, jumio},
		{"v1 IPv6 from a trusted peer", true, "PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n" + get, "2001:db8::7" + refused},
		{"v1 IPv4-mapped", true, "PROXY TCP6 ::ffff:34.202.241.227 2001:db8::1 40000 443\r\n" + get, jumio},
		{"v2 from a trusted peer", true, v2(t, proxyproto.PROXY, jumio+":40000") + get, jumio},
		{"v2 IPv6 from a trusted peer", true, v2(t, proxyproto.PROXY, "[2001:db8::7]:40000") + get, "2001:db8::7" + refused},
		// A caller can write the client address header in all of these.
		{"v1 UNKNOWN keeps the socket's address", true, "PROXY UNKNOWN\r\n" + getXFF, direct},
		{"v2 LOCAL keeps the socket's address", true, v2(t, proxyproto.LOCAL, jumio+":40000") + getXFF, direct},
		{"v2 LOCAL with AF_UNSPEC keeps the socket's address", true, "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" + getXFF, direct},
		{"v2 PROXY with AF_UNSPEC", true, "\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00" + getXFF, cut},
		{"v2 AF_UNIX names no address", true, "\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + jumio + strings.Repeat("\x00", 216-len(jumio)) + getXFF, none},
		{"trusted peer without a header is taken as it is", true, getXFF, direct},
		{"trusted peer without any header is taken as it is", true, get, direct},
		{"source that is no trusted proxy", true, v2(t, proxyproto.PROXY, "203.0.113.66:40000") + getXFF, "203.0.113.66" + refused},
		{"source that is a trusted proxy", true, v1Proxy + getXFF, "10.0.0.2" + refused},
		{"source that is a trusted proxy without a client address header", true, v1Proxy + get, "10.0.0.2" + refused},
		{"untrusted peer without a header is taken as it is", false, get, direct},
		{"untrusted peer: its client address header is not believed", false, getXFF, direct},
		{"v1 from an untrusted peer", false, v1TCP4 + get, cut},
		{"v1 UNKNOWN from an untrusted peer", false, "PROXY UNKNOWN\r\n" + get, cut},
		{"v2 from an untrusted peer", false, v2(t, proxyproto.PROXY, jumio+":40000") + get, cut},
		{"v2 LOCAL from an untrusted peer", false, v2(t, proxyproto.LOCAL, jumio+":40000") + get, cut},
		{"v1 garbage from a trusted peer", true, "PROXY TCP4 a b c d\r\n" + get, cut},
		{"v1 garbage from an untrusted peer", false, "PROXY TCP4 a b c d\r\n" + get, cut},
		{"v1 that never ends", true, "PROXY TCP4 " + strings.Repeat("1", 4096), cut},
		{"v2 that announces too much", true, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + strings.Repeat("1", 4096), cut},
		{"two headers", true, v1TCP4 + v1TCP4 + get, "400 Bad Request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr, logs := serveProxied(t, tt.trusted, 0)
			if got := answer(t, dial(t, addr, tt.send)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			wellFormed := !strings.Contains(tt.send, "a b c d")
			logged := logs.FilterMessageSnippet("connection closed").Len() == 1
			if want := tt.want == cut && !tt.trusted && wellFormed; logged != want {
				t.Errorf("rejection logged: %v, want %v", logged, want)
			}
		})
	}
}

// A peer that does not finish its header delays nobody, and its connection is closed
// before the time-out for the request's own headers begins.
func TestProxyProtocolSlowHeader(t *testing.T) {
	starts := map[string]string{
		"nothing at all": "", "one byte": "P", "half a v1 header": "PROXY TCP4 1.2",
		"half a signature": "\r\n\r\n\x00", "half a v2 header": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02",
	}
	for name, start := range starts {
		for _, trusted := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				addr, _ := serveProxied(t, trusted, 100*time.Millisecond)
				slow := dial(t, addr, start)
				if got := answer(t, dial(t, addr, "GET / HTTP/1.0\r\n\r\n")); got == "closed" {
					t.Error("another connection was closed")
				}
				if got := answer(t, slow); got != "closed" {
					t.Errorf("got %q, want it closed", got)
				}
			})
		}
	}
}

// Trust does not depend on the form of the peer's address.
func TestProxySenderWithAZone(t *testing.T) {
	f, _ := newFilter(t, Config{TrustedProxies: prefixes(t, "fe80::/10")}, nil)
	if err := f.checkProxySender(&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1}); err != nil {
		t.Error(err)
	}
	if err := f.checkProxySender(&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}); err == nil {
		t.Error("an untrusted peer may send a PROXY header")
	}
}
