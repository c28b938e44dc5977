package processtest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const (
	// someoneElse is declared as a proxy instead of the one that is there.
	someoneElse = "CALLBACKD_TRUSTED_PROXIES=192.0.2.1"
	quickStop   = "CALLBACKD_SHUTDOWN_TIMEOUT=1s"
)

// TestUndeclaredProxy: behind an undeclared load balancer every callback is
// rejected, and log, metric and readiness name it.
func TestUndeclaredProxy(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	e := nginxForwardedFor()
	s := serve(t, e.settings(dsn, someoneElse, quickStop))
	b := startBalancer(t, e, address(s), address(s))
	for range 3 {
		s.wantSuspect(t, "")
		a, err := b.post(allowedClient, "")
		if err != nil {
			t.Fatal(err)
		}
		a.wantCode(t, http.StatusForbidden)
	}
	s.wantSuspect(t, balancerAddress)

	declared := serve(t, e.settings(dsn, quickStop))
	b = startBalancer(t, e, address(declared), address(declared))
	for range 3 {
		b.wantPosted("behind a declared balancer")
	}
	declared.wantSuspect(t, "")
}

// With the PROXY protocol, the balancer's health checks are enough.
func TestUndeclaredProxyOfTheProxyProtocol(t *testing.T) {
	t.Parallel()
	e := haproxy("proxy-v1.cfg", 1, true)
	s := serve(t, e.settings(migrated(t), someoneElse, quickStop))
	startBalancer(t, e, address(s), address(s))
	eventually(t, patience, func() error {
		if samples := s.metrics(t); samples[undeclared(balancerAddress)] != 1 {
			return errors.New("not suspected")
		}
		return nil
	})
	s.wantSuspect(t, balancerAddress)
}

func undeclared(address string) string {
	return fmt.Sprintf("callbackd_undeclared_proxy{address=%q}", address)
}

// wantSuspect: that address, or none, is reported as an undeclared proxy; the
// public listener does not tell.
func (i *instance) wantSuspect(t *testing.T, address string) {
	t.Helper()
	logged, detail := "", "ready\n"
	if address != "" {
		logged = `"msg":"a trusted proxy is probably not declared","address":"` + address + `"`
		detail = "ready; callbacks are rejected, a trusted proxy is probably not declared: CALLBACKD_TRUSTED_PROXIES probably lacks " + address + "\n"
	} else if strings.Contains(i.stderr.String(), "not declared") {
		t.Errorf("the log says that a proxy is not declared:\n%s", tail(i.stderr.String()))
	}
	eventually(t, patience, func() error { // the answer may be here before the log
		if !strings.Contains(i.stderr.String(), logged) {
			return fmt.Errorf("the log does not contain %s:\n%s", logged, tail(i.stderr.String()))
		}
		return nil
	})
	for base, want := range map[string]string{i.admin: detail, i.callback: "ready\n"} {
		a, err := get(base + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		if a.wantCode(t, http.StatusOK).body != want {
			t.Errorf("/readyz says %q, want %q", a.body, want)
		}
	}
	samples := i.metrics(t)
	if address == "" {
		if s := sum(samples, "callbackd_undeclared_proxy"); s != nil {
			t.Errorf("callbackd_undeclared_proxy is %v, want none", *s)
		}
	} else if samples[undeclared(address)] != 1 {
		t.Errorf("%s is not 1:\n%v", undeclared(address), samples)
	}
}
