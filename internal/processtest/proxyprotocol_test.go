package processtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// TestProxyProtocol: with CALLBACKD_PROXY_PROTOCOL, the header of a trusted
// proxy says who is calling, and one of any other peer ends the connection.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	environ := append(receiving(dsn), "CALLBACKD_PROXY_PROTOCOL=true")
	trusting := serve(t, environ)
	for name, test := range map[string]struct {
		header    string
		forwarded string
		code      int
	}{
		"v1 of a Jumio address":              {proxyV1(jumioAddress), "", http.StatusOK},
		"v2 of a Jumio address":              {proxyV2(jumioAddress), "", http.StatusOK},
		"v1 of a foreign address":            {proxyV1(foreignAddress), "", http.StatusForbidden},
		"v2 of a foreign address":            {proxyV2(foreignAddress), "", http.StatusForbidden},
		"v1 of a foreign address that lies":  {proxyV1(foreignAddress), jumioAddress, http.StatusForbidden},
		"v2 of a foreign address that lies":  {proxyV2(foreignAddress), jumioAddress, http.StatusForbidden},
		"v1 of a Jumio address with a chain": {proxyV1(jumioAddress), foreignAddress, http.StatusOK},
		"v1 UNKNOWN that lies":               {"PROXY UNKNOWN\r\n", jumioAddress, http.StatusForbidden},
		"v2 LOCAL that lies":                 {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", jumioAddress, http.StatusForbidden},
		"v1 of a trusted proxy that lies":    {proxyV1("127.0.0.1"), jumioAddress, http.StatusForbidden},
		"no PROXY header: the peer as it is": {"", jumioAddress, http.StatusForbidden},
		"no header at all":                   {"", "", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := postBehind(test.header, trusting, test.forwarded)
			if err != nil {
				t.Fatal(err)
			}
			a.wantCode(t, test.code)
			if test.code != http.StatusOK {
				return
			}
			from := db.texts(`SELECT host(source_ip) FROM jumio.callbacks WHERE callback_id = $1`, a.header.Get("X-Request-Id"))
			if len(from) != 1 || from[0] != jumioAddress {
				t.Errorf("source_ip is %q, want %s", from, jumioAddress)
			}
		})
	}
	awaitReady(t, trusting.callback) // a load balancer's own health check, without a header

	untrusting := serve(t, append(environ, "CALLBACKD_TRUSTED_PROXIES=192.0.2.1"))
	for name, header := range map[string]string{"v1": proxyV1(jumioAddress), "v2": proxyV2(jumioAddress)} {
		if a, err := postBehind(header, untrusting, ""); err == nil {
			t.Errorf("%s from an untrusted peer: answered %d, want the connection cut off", name, a.code)
		}
	}
}

// postBehind posts a callback on a connection that begins with header.
func postBehind(header string, s *instance, forwarded string) (*answer, error) {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			_, err = conn.Write([]byte(header))
		}
		return conn, err
	}
	c := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: patience}
	r, err := http.NewRequest(http.MethodPost, s.callbackURL(), strings.NewReader(processed("proxied")))
	if err != nil {
		return nil, err
	}
	if forwarded != "" {
		r.Header.Set("X-Forwarded-For", forwarded)
	}
	return do(c, r)
}

// The ports in the headers, which are ignored.
const fromPort, toPort = 40000, 443

// proxyV1 is a header of the PROXY protocol's version 1 (section 2.1).
func proxyV1(from string) string {
	return fmt.Sprintf("PROXY TCP4 %s 192.0.2.80 %d %d\r\n", from, fromPort, toPort)
}

// proxyV2 is a header of the PROXY protocol's version 2 (section 2.2).
func proxyV2(from string) string {
	source, destination := netip.MustParseAddr(from).As4(), netip.MustParseAddr("192.0.2.80").As4()
	header := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c") // PROXY, TCP over IPv4, 12 bytes
	header = append(append(header, source[:]...), destination[:]...)
	header = binary.BigEndian.AppendUint16(header, fromPort)
	return string(binary.BigEndian.AppendUint16(header, toPort))
}
