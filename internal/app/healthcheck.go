package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthcheckTimeout bounds the whole request, connecting included.
const healthcheckTimeout = 3 * time.Second

// CheckReady returns nil when the instance whose admin listener is at listen, a
// host:port on this machine, is ready. Without a host, or with an unspecified
// address, that is this machine (net.Dial).
func CheckReady(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://callbackd/readyz", nil)
	if err != nil {
		return err
	}
	// Neither a proxy from the environment nor a redirect may answer instead.
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, listen)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	defer response.Body.Close() // the body is not read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: /readyz at %s answered %s", listen, response.Status)
	}
	return nil
}
