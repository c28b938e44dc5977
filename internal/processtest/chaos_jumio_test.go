package processtest

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestChaosJumio: Jumio answers with errors, too many requests, revoked tokens
// and half images, to everybody and for a while. Every workflow execution is still
// retrieved, and nothing is fetched twice.
func TestChaosJumio(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		name, kind string
		long       time.Duration
		faults     []string
	}{
		{"Errors", "Jumio answers 5xx", times(2*time.Minute, 2*time.Second), []string{"token:503", "status:500", "details:502", "image:503"}},
		{"TooManyRequests", "Jumio answers 429", times(time.Minute, 2*time.Second), []string{"details:429:0:retry-after=1s", "image:429:0:retry-after=2s"}},
		{"BrokenAnswers", "Jumio hangs up, images stop half-way", times(30*time.Second, 2*time.Second), []string{"details:reset:20", "image:truncated:20", "image:reset"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := jumioRig(t)
			r.fault(f.kind)
			r.jumio.setFaults(f.faults...)
			hold(f.long)
			r.jumio.setFaults()
			r.awaitMore(chaosSenders)
			r.settle()
			r.checkDownloads(true)
		})
	}
	t.Run("TokensRevoked", func(t *testing.T) {
		t.Parallel()
		r := jumioRig(t)
		for range times(30, 5) {
			r.awaitMore(chaosSenders / 2)
			r.fault("all tokens revoked")
			a, err := tryPost(r.jumio.url+"/_sandbox/tokens/revoke", "", "application/json", "")
			if err != nil {
				t.Fatal(err)
			}
			a.wantCode(t, http.StatusNoContent)
		}
		r.settle()
		r.checkDownloads(true)
	})
}

// jumioRig is one instance under load.
func jumioRig(t *testing.T) *chaosRig {
	t.Helper()
	r := newChaosRig(t, migrated(t))
	r.serve(roleBoth)
	r.warmUp()
	r.load.start()
	r.awaitMore(chaosSenders)
	return r
}

// TestChaosDNS: the name server goes down; its last answers stay valid, even for an
// instance that starts without it.
func TestChaosDNS(t *testing.T) {
	t.Parallel()
	const address = dnsAddress
	names := startNameServer(t, address)
	r := newChaosRig(t, migrated(t))
	r.load.from = address
	both := r.serve(roleBoth, "CALLBACKD_JUMIO_IPS=none", "CALLBACKD_JUMIO_HOSTS=callback.test",
		"CALLBACKD_DNS_SERVER="+names.address, "CALLBACKD_DNS_REFRESH=1s")
	eventually(t, patience, func() error {
		if r.db.count(`SELECT count(*) FROM callbackd.allowlist_addresses WHERE host(address) = $1`, address) == 0 {
			return fmt.Errorf("the address %s is not remembered", address)
		}
		return nil
	})
	r.warmUp()
	r.load.start()
	r.awaitMore(chaosSenders)
	r.fault("DNS gone")
	names.stop()
	eventually(t, patience, func() error {
		samples := both.metrics(t)
		failed := *sum(samples, "callbackd_dns_refresh_total") - samples[`callbackd_dns_refresh_total{host="callback.test",outcome="ok"}`]
		if failed < 2 {
			return fmt.Errorf("%.0f look-ups have failed", failed)
		}
		return nil
	})
	r.awaitMore(chaosSenders)
	r.fault("restart without DNS")
	both.stop(terminate)
	r.restart(both)
	r.awaitMore(chaosSenders)
	both.post(t, foreignAddress, "application/json", processed("foreign")).wantCode(t, http.StatusForbidden)
	r.settle()
	r.checkDownloads(false)
}
