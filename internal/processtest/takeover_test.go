package processtest

import (
	"fmt"
	"testing"
	"time"
)

// TestKilledWorkerIsTakenOver: the attempt of a worker that is killed with SIGKILL
// is taken over within 3 minutes. That worker was alone at first, so it is also the
// leader of the queue.
func TestKilledWorkerIsTakenOver(t *testing.T) {
	t.Parallel()
	const limit = 3 * time.Minute
	dsn := migrated(t)
	db := open(t, dsn)
	jumio := startSandbox(t, "--fast-images")
	receiver := serve(t, receiving(dsn))
	workerOnly := append(retrieving(dsn, jumio), "CALLBACKD_RECEIVE=false")
	doomed := serve(t, workerOnly)
	id := jumio.sendOne(journeys{Kind: "passed-passport", Faults: []string{"details:hang:1"}, CallbackURL: receiver.callbackURL()})
	awaitDetailsRequest(t, jumio, id)
	serve(t, workerOnly)
	doomed.kill()
	killed := time.Now()

	// New retrievals do not wait for the take-over.
	next := jumio.sendOne(journeys{Kind: "passed-passport", CallbackURL: receiver.callbackURL()})
	db.awaitState(next, "retrieved")

	eventually(t, limit-time.Since(killed), func() error {
		if w := workflows(db)[id]; w.State != "retrieved" {
			return fmt.Errorf("not taken over: %+v", w)
		}
		return nil
	})
	t.Logf("taken over %s after the kill", time.Since(killed).Round(time.Second))
	if w := workflows(db)[id]; w.Attempts != 2 {
		t.Errorf("%d attempts, want 2: the one that died and the next", w.Attempts)
	}
	if e := jumio.entry(id); e.DetailsRequests.Requests != 2 || e.MaxConcurrentSame != 1 {
		t.Errorf("%d details requests, %d at once, want 2 and 1", e.DetailsRequests.Requests, e.MaxConcurrentSame)
	}
}

// awaitDetailsRequest waits until an attempt has asked for the details.
func awaitDetailsRequest(t *testing.T, jumio *jumioSandbox, id string) {
	t.Helper()
	eventually(t, patience, func() error {
		if e := jumio.entry(id); e.DetailsRequests.Requests == 0 {
			return fmt.Errorf("nobody has asked for the details of %s", id)
		}
		return nil
	})
}
