package processtest

import (
	"testing"
	"time"
)

// TestChaosKilledReceiver: SIGKILL at random moments loses no callback that was
// answered with 200.
func TestChaosKilledReceiver(t *testing.T) {
	t.Parallel()
	r := newChaosRig(t, migrated(t))
	receiver := r.serve(roleReceiver)
	r.serve(roleWorker)
	r.warmUp()
	r.load.start()
	for range times(28, 4) {
		r.awaitMore(1)
		r.moment(700 * time.Millisecond)
		r.fault("SIGKILL of the receiver")
		receiver.kill()
		r.restart(receiver)
	}
	r.awaitMore(chaosSenders)
	r.settle()
	r.checkDownloads(true)
}

// TestChaosKilledWorker: SIGKILL of the worker at random moments costs time, and
// no retrieval is lost or published twice.
func TestChaosKilledWorker(t *testing.T) {
	t.Parallel()
	r := newChaosRig(t, migrated(t))
	r.serve(roleReceiver)
	worker := r.serve(roleWorker)
	r.warmUp()
	r.load.start()
	for range times(28, 3) {
		r.awaitMore(1)
		r.moment(1500 * time.Millisecond)
		r.fault("SIGKILL of the worker")
		worker.kill()
		r.stranded = true
		r.restart(worker)
	}
	r.awaitMore(chaosSenders)
	r.settle()
	r.checkDownloads(false)
}

// TestChaosTerminated: a SIGTERM under load ends with exit code 0, no callback
// that has begun to be answered otherwise than with 200, and nothing lost.
func TestChaosTerminated(t *testing.T) {
	t.Parallel()
	r := newChaosRig(t, migrated(t))
	both := r.serve(roleBoth)
	r.warmUp()
	r.load.start()
	for range times(20, 2) {
		r.awaitMore(1)
		r.moment(700 * time.Millisecond)
		r.fault("SIGTERM")
		both.stop(terminate)
		r.restart(both)
	}
	r.awaitMore(chaosSenders)
	r.settle()
	r.checkDownloads(false)
	if r.load.codes[503] > 0 {
		t.Errorf("%d callbacks were answered with 503 during a stop", r.load.codes[503])
	}
}
