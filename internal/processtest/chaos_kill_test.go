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

// TestChaosKilledReceiverWithoutPostgres: callbacks that were answered with 200
// while Postgres is away survive SIGKILL in the spool, also of the one that moves
// them into Postgres when that is back.
func TestChaosKilledReceiverWithoutPostgres(t *testing.T) {
	t.Parallel()
	postgres := ownPostgres(t)
	r := newChaosRig(t, postgres.dsn)
	receiver := r.serve(roleReceiver)
	r.serve(roleWorker)
	r.warmUp()
	r.load.start()
	killReceiver := func(kind string) {
		t.Helper()
		r.moment(700 * time.Millisecond)
		r.fault(kind)
		receiver.kill()
		r.restart(receiver)
	}
	for range times(4, 1) {
		r.awaitMore(chaosSenders)
		r.fault("Postgres killed (immediate shutdown) and restarted")
		r.stranded = true
		postgres.begin()
		r.felt()
		for range times(5, 2) {
			r.awaitMore(chaosSenders)
			killReceiver("SIGKILL of the receiver while Postgres is away")
		}
		r.awaitMore(5 * chaosSenders)
		postgres.end()
		killReceiver("SIGKILL of the receiver while the spool is moved")
	}
	r.awaitMore(chaosSenders)
	r.settle()
	r.checkDownloads(false)
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

// TestChaosTerminated: a SIGTERM under load ends with exit code 0 and loses
// nothing; every callback that reaches callbackd is answered with 200.
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
}
