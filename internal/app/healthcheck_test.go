package app

import "testing"

func TestLocalAddress(t *testing.T) {
	for listen, want := range map[string]string{
		":9090":           "127.0.0.1:9090",
		"0.0.0.0:9090":    "127.0.0.1:9090",
		"[::]:9090":       "[::1]:9090",
		"127.0.0.1:9090":  "127.0.0.1:9090",
		"[2001:db8::1]:1": "[2001:db8::1]:1",
		"localhost:9090":  "localhost:9090",
	} {
		if got := localAddress(listen); got != want {
			t.Errorf("localAddress(%q) = %q, want %q", listen, got, want)
		}
	}
}
