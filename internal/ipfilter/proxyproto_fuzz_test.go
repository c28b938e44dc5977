package ipfilter

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// spokenTo is a connection whose peer has sent data and then is silent.
type spokenTo struct {
	net.Conn // for what no test needs
	remote   net.Addr
	data     *bytes.Reader
	chunk    int // at most so many bytes a Read
}

func (c *spokenTo) Read(b []byte) (int, error)        { return c.data.Read(b[:min(len(b), c.chunk)]) }
func (c *spokenTo) RemoteAddr() net.Addr              { return c.remote }
func (c *spokenTo) Close() error                      { return nil }
func (c *spokenTo) SetReadDeadline(_ time.Time) error { return nil }

// oneConn is a listener with one connection.
type oneConn struct {
	net.Listener
	conn net.Conn
}

func (l oneConn) Accept() (net.Conn, error) { return l.conn, nil }

// proxied returns what the listener makes of a connection.
type proxied struct {
	Remote  string // as net/http sees it
	Payload string
	Cut     bool
}

func throughListener(t *testing.T, f *Filter, remote string, data []byte, chunk int) proxied {
	t.Helper()
	socket := &spokenTo{remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(remote)), data: bytes.NewReader(data), chunk: chunk}
	conn, err := f.WrapListener(oneConn{conn: socket}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	payload, err := io.ReadAll(conn)
	if err != nil && len(payload) > 0 {
		t.Fatalf("the connection is closed after %d bytes of payload", len(payload))
	}
	return proxied{conn.RemoteAddr().String(), string(payload), err != nil}
}

var v1Line = regexp.MustCompile(`^PROXY (?:(TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})|UNKNOWN(?: [^\n]*)?)\r\n`)

// readProxyHeader follows the specification of the PROXY protocol (sections 2.1
// and 2.2). It returns the source (the peer's own where the header names none),
// the header's length, and whether the connection must be closed.
func readProxyHeader(peer string, data []byte) (source string, length int, cut bool) {
	const signature = "\r\n\r\n\x00\r\nQUIT\n"
	switch {
	case bytes.HasPrefix(data, []byte("PROXY")):
		m := v1Line.FindSubmatch(data)
		switch {
		case m == nil || len(m[0]) > 107:
			return peer, 0, true
		case len(m[1]) == 0:
			return peer, len(m[0]), false
		}
		from, fromErr := netip.ParseAddr(string(m[2]))
		to, toErr := netip.ParseAddr(string(m[3]))
		ports := make([]uint64, 2)
		var portErr error
		for i := range ports {
			if ports[i], portErr = strconv.ParseUint(string(m[4+i]), 10, 16); portErr != nil {
				return peer, 0, true
			}
		}
		ipv4 := string(m[1]) == "TCP4"
		if fromErr != nil || toErr != nil || from.Is4() != ipv4 || to.Is4() != ipv4 {
			return peer, 0, true
		}
		return socketText(from, uint16(ports[0])), len(m[0]), false
	case bytes.HasPrefix(data, []byte(signature)):
		if len(data) < 16 {
			return peer, 0, true
		}
		command, family, n := data[12], data[13], int(binary.BigEndian.Uint16(data[14:]))
		addresses := map[byte]int{0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
		least, known := addresses[family]
		// 4096: far more than any balancer sends.
		if !known || command>>4 != 2 || command&15 > 1 || n > 4096 || len(data) < 16+n {
			return peer, 0, true
		}
		if command == 0x20 { // LOCAL
			return peer, 16 + n, false
		}
		block := data[16 : 16+n]
		switch {
		case family == 0x00 || n < least:
			return peer, 0, true
		case least == 12:
			return socketText(netip.AddrFrom4([4]byte(block)), binary.BigEndian.Uint16(block[8:])), 16 + n, false
		case least == 36:
			return socketText(netip.AddrFrom16([16]byte(block)), binary.BigEndian.Uint16(block[32:])), 16 + n, false
		default:
			return unixSource, 16 + n, false
		}
	}
	return peer, 0, false
}

func socketText(addr netip.Addr, port uint16) string {
	return netip.AddrPortFrom(addr.Unmap(), port).String()
}

// Whatever a peer sends first: the listener reads it as the specification says,
// believes it only from a trusted proxy, and passes everything else on untouched.
func FuzzProxyHeader(f *testing.F) {
	const get = "GET / HTTP/1.1\r\n\r\n"
	for _, seed := range []string{
		"", "P", "PROXY", "PROXY\r\n", "PROX" + get, get,
		"PROXY TCP4 34.202.241.227 192.0.2.1 40000 443\r\n" + get,
		"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n" + get,
		"PROXY TCP6 ::ffff:34.202.241.227 ::1 0 65535\r\n" + get,
		"PROXY UNKNOWN\r\n" + get, "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n" + get, "PROXY UNKNOWNX\r\n" + get,
		"PROXY TCP4 034.202.241.227 192.0.2.1 40000 443\r\n" + get,
		"PROXY TCP4 34.202.241.227 192.0.2.1 65536 443\r\n" + get,
		"PROXY TCP4 34.202.241.227 192.0.2.1 1 443\n" + get,
		"PROXY TCP4 34.202.241.227  192.0.2.1 1 443\r\n" + get,
		"PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n" + get,
		"PROXY UNKNOWN " + strings.Repeat("x", 107) + "\r\n" + get,
		v2Header(0x21, 0x11, "\x22\xca\xf1\xe3\xc0\x00\x02\x01\x9c\x40\x01\xbb") + get,
		v2Header(0x21, 0x11, "\x22\xca\xf1\xe3\xc0\x00\x02\x01\x9c\x40\x01\xbb\x04\x00\x02xy") + get,
		v2Header(0x21, 0x12, "\x22\xca\xf1\xe3\xc0\x00\x02\x01\x9c\x40\x01\xbb") + get,
		v2Header(0x21, 0x21, strings.Repeat("\x20", 36)) + get,
		v2Header(0x21, 0x21, strings.Repeat("\x00", 10)+"\xff\xff\x22\xca\xf1\xe3"+strings.Repeat("\x00", 20)) + get,
		v2Header(0x21, 0x31, "34.202.241.227:40000"+strings.Repeat("\x00", 196)) + get,
		v2Header(0x20, 0x00, "") + get, v2Header(0x20, 0x11, "") + get, v2Header(0x20, 0x11, "xx") + get,
		v2Header(0x21, 0x00, "") + get, v2Header(0x21, 0x13, strings.Repeat("x", 12)) + get, v2Header(0x22, 0x11, strings.Repeat("x", 12)) + get,
		v2Header(0x21, 0x11, "")[:15],
	} {
		for _, chunk := range []byte{0, 1, 16} {
			f.Add([]byte(seed), chunk)
		}
	}
	trusting, _ := newFilter(f, Config{TrustedProxies: prefixes(f, testTrusted...)}, nil)
	f.Fuzz(func(t *testing.T, data []byte, chunk byte) {
		source, length, cut := readProxyHeader(lb, data)
		want := proxied{Remote: source, Payload: string(data[length:])}
		if cut {
			want = proxied{Remote: lb, Cut: true}
		}
		if got := throughListener(t, trusting, lb, data, len(data)+1); got != want {
			t.Errorf("%q from a trusted proxy: got %+v, want %+v", data, got, want)
		}
		// If a v1 header comes in several packets, the connection may be closed, but the
		// header must not be misread.
		if chunk > 0 {
			if got := throughListener(t, trusting, lb, data, int(chunk)); got != want && got != (proxied{Remote: lb, Cut: true}) {
				t.Errorf("%q in pieces of %d: got %+v, want %+v", data, chunk, got, want)
			}
		}
		want = proxied{Remote: stranger, Payload: string(data), Cut: cut || length > 0}
		if want.Cut {
			want.Payload = ""
		}
		if got := throughListener(t, trusting, stranger, data, len(data)+1); got != want {
			t.Errorf("%q from anybody: got %+v, want %+v", data, got, want)
		}
	})
}

func v2Header(command, family byte, block string) string {
	header := append([]byte(nil), proxyproto.SIGV2...)
	header = append(header, command, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(block)))
	return string(header) + block
}
