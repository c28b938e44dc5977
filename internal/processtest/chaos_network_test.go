package processtest

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestChaosNetworkToPostgres: a network to Postgres that is cut, slow or
// half-open loses no callback that was answered with 200, and leaves no
// connection behind.
func TestChaosNetworkToPostgres(t *testing.T) {
	t.Parallel()
	postgres := ownPostgres(t)
	network := startNetwork(t, postgres.server.Address())
	r := newChaosRig(t, postgres.dsn)
	r.serve(roleBoth, "DATABASE_URL="+strings.Replace(r.dsn, postgres.server.Address(), network.address(), 1))
	r.warmUp()
	r.load.start()
	for range times(2, 1) {
		r.breakNetwork("Postgres", network, func() { r.stranded = true; r.felt() }, times(10*time.Second, 2*time.Second))
	}
	r.settle()
}

// TestChaosNetworkToJumio: a network to Jumio that is cut, slow or half-open
// delays retrievals and loses none.
func TestChaosNetworkToJumio(t *testing.T) {
	t.Parallel()
	r := newChaosRig(t, migrated(t))
	u, err := url.Parse(r.jumio.url)
	if err != nil {
		t.Fatal(err)
	}
	network := startNetwork(t, u.Host)
	base := "http://" + network.address()
	r.serve(roleBoth, "JUMIO_TOKEN_URL="+base, "JUMIO_RETRIEVAL_URL="+base)
	r.warmUp()
	r.load.start()
	// In full longer than the 30 s after which a request without progress ends.
	r.breakNetwork("Jumio", network, r.awaitStuckRetrievals, times(40*time.Second, 2*time.Second))
	r.settle()
}

// breakNetwork breaks a network in each way, under load, until felt returns and
// for so long.
func (r *chaosRig) breakNetwork(where string, network *brokenNetwork, felt func(), long time.Duration) {
	r.t.Helper()
	for _, way := range []struct {
		name  string
		begin func()
	}{
		{"cut", func() { network.cut(); felt() }},
		{"slow", network.slow},
		{"half-open", func() { network.halfOpen(); felt() }},
	} {
		r.awaitMore(chaosSenders)
		r.fault("network to " + where + " " + way.name)
		way.begin()
		hold(long)
		network.repair()
		r.awaitMore(chaosSenders)
	}
}

// degraded counts the callbacks that were not taken into Postgres at once.
func (r *chaosRig) degraded() (n float64) {
	for _, i := range r.instances {
		if i.role == roleWorker {
			continue
		}
		samples := i.metrics(r.t)
		n += samples[`callbackd_callbacks_total{outcome="unavailable"}`] + samples[`callbackd_callbacks_total{outcome="spooled"}`]
	}
	return n
}

// awaitDegraded waits until the fault is felt by a callback.
func (r *chaosRig) awaitDegraded() {
	r.t.Helper()
	before := r.degraded()
	eventually(r.t, patience, func() error {
		if r.degraded() <= before {
			return fmt.Errorf("no callback feels the fault: %v", r.load.counts())
		}
		return nil
	})
}

// awaitStuckRetrievals waits until the fault is felt by retrievals: many more are
// pending than there are workers.
func (r *chaosRig) awaitStuckRetrievals() {
	r.t.Helper()
	const many = 20
	eventually(r.t, patience, func() error {
		if n := r.db.count(`SELECT count(*) FROM jumio.workflow_executions WHERE retrieval_state = 'pending'`); n < many {
			return fmt.Errorf("%d retrievals are pending, want %d", n, many)
		}
		return nil
	})
}
