package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"callbackd/internal/config"
)

// healthcheckTimeout bounds the whole question, connecting included.
const healthcheckTimeout = 3 * time.Second

func newHealthcheckCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Exits 0 when the local instance is ready (for a container's HEALTHCHECK)",
		Long:  "Asks /readyz at CALLBACKD_ADMIN_LISTEN on this machine and exits 0 when the answer, within 3 s, is 200.",
		RunE: func(c *cobra.Command, _ []string) error {
			listen, err := config.Lookup(p.environ, "CALLBACKD_ADMIN_LISTEN")
			if err != nil {
				return err
			}
			return checkReady(c.Context(), listen)
		},
	}
}

// checkReady asks the instance that listens on the address listen.
func checkReady(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	url := "http://" + localAddress(listen) + "/readyz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Neither a proxy from the environment nor a redirect may answer for the instance.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	defer response.Body.Close() // nothing was written, and the body is not read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s answered %s", url, response.Status)
	}
	return nil
}

// localAddress is where a listener on the address listen can be reached from
// the same machine: loopback, if it listens everywhere.
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
