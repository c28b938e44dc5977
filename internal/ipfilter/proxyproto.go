package ipfilter

import (
	"errors"
	"net"
	"net/netip"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"go.uber.org/zap"
)

const (
	// proxyHeaderTimeout is how long a connection may take to send its PROXY
	// header, if it starts with one.
	proxyHeaderTimeout = 5 * time.Second
	// proxySignature is the number of bytes that tell whether it does.
	proxySignature = 12
	// unixSource replaces the name of a Unix socket (PROXY v2, AF_UNIX), which is
	// free text and could look like an address.
	unixSource = "@"
)

// WrapListener returns a listener that understands PROXY protocol v1 and v2. A
// header from a trusted proxy replaces the connection's remote address, except
// for LOCAL and UNKNOWN, which keep it; so does a trusted proxy that sends no
// header. If any other peer sends a header, the connection is closed. Headers are
// read when the connection is first used, not in Accept.
func (f *Filter) WrapListener(l net.Listener) net.Listener {
	return &proxyListener{Listener: l, filter: f, headerTimeout: proxyHeaderTimeout}
}

type proxyListener struct {
	net.Listener
	filter        *Filter
	headerTimeout time.Duration
}

// Accept returns connections whose first Read, Write or RemoteAddr reads the
// PROXY header.
func (l *proxyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return proxyproto.NewConn(&silenceConn{Conn: conn},
		proxyproto.WithPolicy(proxyproto.USE),
		proxyproto.SetReadHeaderTimeout(l.headerTimeout),
		proxyproto.ValidateHeader(func(h *proxyproto.Header) error {
			if unix, ok := h.SourceAddr.(*net.UnixAddr); ok {
				unix.Name = unixSource
			}
			return l.filter.checkProxySender(conn.RemoteAddr())
		}),
	), nil
}

// checkProxySender rejects a PROXY header from a peer that is not a trusted proxy.
func (f *Filter) checkProxySender(remote net.Addr) error {
	peerPort, _ := netip.ParseAddrPort(remote.String())
	peer := plain(peerPort.Addr())
	if contains(f.cfg.TrustedProxies, peer) {
		return nil
	}
	advice := ""
	if private(peer) {
		advice = adviceDeclare
	}
	f.undeclared.reject(peer, advice, f.now())
	f.rejected.warn("connection closed: PROXY header from a peer that is not a trusted proxy", func() []zap.Field {
		return append([]zap.Field{zap.Stringer("peer", remote)}, hint(peer, advice)...)
	})
	return proxyproto.ErrSuperfluousProxyHeader
}

var errSilent = errors.New("connection silent for too long")

// silenceConn fails if the peer sends too little to tell whether there is a PROXY
// header. go-proxyproto takes a time-out to mean "no header" and would let the peer
// keep the connection for as long again, waiting for the request's headers.
type silenceConn struct {
	net.Conn
	received int // bytes, counted up to proxySignature
}

func (c *silenceConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.received < proxySignature {
		c.received += n
		var netErr net.Error
		if c.received < proxySignature && errors.As(err, &netErr) && netErr.Timeout() {
			err = errSilent
		}
	}
	return n, err
}
