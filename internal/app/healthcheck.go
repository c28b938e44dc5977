package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// healthcheckTimeout bounds the whole request, connecting included.
const healthcheckTimeout = 3 * time.Second

// CheckReady returns nil when the instance whose admin listener is at listen, a
// host:port on this machine, is ready.
func CheckReady(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	url := "http://" + localAddress(listen) + "/readyz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Neither a proxy from the environment nor a redirect may answer instead.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	defer response.Body.Close() // the body is not read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s answered %s", url, response.Status)
	}
	return nil
}

// localAddress is where a listener at listen can be reached from this machine:
// on loopback, if it listens everywhere.
func localAddress(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen // validated before
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsUnspecified() {
		host = "127.0.0.1"
		if addr.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
