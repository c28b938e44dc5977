package app

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestCheckReady: an instance that listens everywhere is found on this machine.
func TestCheckReady(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "", "0.0.0.0", "localhost"} {
		if err := CheckReady(t.Context(), net.JoinHostPort(host, port)); err != nil {
			t.Errorf("host %q: %v", host, err)
		}
	}
}
