package processtest

import (
	"testing"
	"time"
)

// TestChaosInstances: three instances on one database, one of them killed every
// few seconds, while each workflow execution is asked for again and again, so
// that their workers want the same ones. None is retrieved twice at a time.
func TestChaosInstances(t *testing.T) {
	t.Parallel()
	r := newChaosRig(t, migrated(t))
	for range 3 {
		r.serve(roleBoth)
	}
	r.warmUp()
	// Attempts take long enough for the next callback to come meanwhile.
	r.jumio.setFaults("details:slow:0:delay=200ms")
	r.load.hot = true
	r.load.start()
	for range times(16, 3) {
		r.awaitMore(chaosSenders)
		r.moment(times(4*time.Second, time.Second))
		r.fault("SIGKILL of one of three")
		victim := r.instances[r.rng.IntN(len(r.instances))]
		victim.kill()
		r.stranded = true
		r.restart(victim)
	}
	r.awaitMore(chaosSenders)
	r.settle()
	r.checkDownloads(false)
}
