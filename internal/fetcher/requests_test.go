package fetcher

import (
	"testing"

	"go.uber.org/zap"

	"callbackd/internal/budget"
	"callbackd/internal/sandbox"
	"callbackd/internal/workflow"
)

// What the database does not take is asked for again, and nothing else: not the
// details, nor the images that are in.
func TestOwnFaultsAskOnlyForWhatIsMissing(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 50})
	r.exec(`CREATE FUNCTION callbackd.refuse_image() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE disk_full; END $$`)
	r.exec(`CREATE TRIGGER refuse BEFORE INSERT ON callbackd.images FOR EACH ROW WHEN (NEW.classifier = 'FACE') EXECUTE FUNCTION callbackd.refuse_image()`)
	j := r.journey("passed-passport")
	w := r.start()
	const (
		faults = 3
		putOff = `SELECT count(*) = 1 FROM callbackd.river_job WHERE state IN ('available', 'scheduled') AND scheduled_at > now()`
	)
	for range faults {
		r.waitFor("the run to be put off", putOff)
		r.exec(`UPDATE callbackd.river_job SET state = 'available', scheduled_at = now()`)
		w.queue.Wake()
	}
	r.waitFor("the last of them", putOff)
	if pause := value[float64](r, `SELECT extract(epoch FROM scheduled_at - now())::float8 FROM callbackd.river_job`); pause < 30 {
		t.Errorf("the run after %d faults is %v s away, want ever longer pauses", faults+1, pause)
	}
	r.exec(`DROP TRIGGER refuse ON callbackd.images`)
	r.exec(`UPDATE callbackd.river_job SET state = 'available', scheduled_at = now()`)
	w.queue.Wake()
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	e := r.ledger(j)
	if e.DetailsRequests.Requests != 1 {
		t.Errorf("%d requests for details, want 1", e.DetailsRequests.Requests)
	}
	for _, img := range e.Images {
		want := 1
		if img.Classifier == "FACE" {
			want += faults + 1
		}
		if img.Requests != want {
			t.Errorf("%s: %d requests, want %d", img.Classifier, img.Requests, want)
		}
	}
	if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 1 {
		t.Errorf("%d attempts count, want 1", n)
	}
}

// While nobody can tell whether a request may be made, none is made, and no attempt is
// used up.
func TestNoBudgetCostsNoAttempt(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 51})
	b := budget.New(budget.Options{DB: r.store.DB, RetrievalRPS: 10_000, Log: zap.NewNop()})
	t.Cleanup(b.Close)
	r.budget = b
	r.exec(`ALTER TABLE callbackd.request_budgets RENAME TO gone`)
	j := r.journey("passed-passport")
	w := r.start()
	r.waitFor("the run to be put off", `SELECT count(*) = 1 FROM callbackd.river_job WHERE state IN ('available', 'scheduled') AND scheduled_at > now()`)
	if n := r.ledger(j).DetailsRequests.Requests; n > 0 {
		t.Errorf("%d requests without a budget", n)
	}
	r.exec(`ALTER TABLE callbackd.gone RENAME TO request_budgets`)
	r.exec(`UPDATE callbackd.river_job SET state = 'available', scheduled_at = now()`)
	w.queue.Wake()
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 1 {
		t.Errorf("%d attempts count, want 1", n)
	}
}

// However callbacks and Jumio misbehave, a retrieval makes no more requests than the
// documentation says (docs/operations.md, "Retrieving again"): each of its ten attempts
// asks for the status and the details at eight addresses at most, and for each image
// once.
func TestMostRequestsOfARetrieval(t *testing.T) {
	attempts := workflow.Schedule{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for name, tc := range map[string]struct {
		fault                   string
		status                  string
		statuses, details, each int
	}{
		"the status nowhere":  {"status:404", "MADE_UP", 10 * mostAddresses, 0, 0},
		"the details nowhere": {"details:404", workflow.StatusProcessed, 0, 10 * mostAddresses, 0},
		"no image":            {"image:503", workflow.StatusProcessed, 0, mostAddresses, 10},
		"not done":            {"details:not_final", "MADE_UP", 10 * mostAddresses, 10, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, attempts, sandbox.Config{Seed: 51})
			j := r.unsent("passed-passport", tc.fault)
			for i := range 2 * mostAddresses {
				r.forge(j, tc.status, "forged-"+string(rune('a'+i)), "apac-1")
			}
			r.start()
			r.settled(j.WorkflowExecutionID)
			e := r.ledger(j)
			if e.StatusRequests.Requests > tc.statuses || e.DetailsRequests.Requests > tc.details {
				t.Errorf("%d requests for the status and %d for details, want at most %d and %d",
					e.StatusRequests.Requests, e.DetailsRequests.Requests, tc.statuses, tc.details)
			}
			for _, img := range e.Images {
				if img.Requests > tc.each {
					t.Errorf("%s: %d requests, want at most %d", img.Classifier, img.Requests, tc.each)
				}
			}
			if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != len(attempts) {
				t.Errorf("%d attempts, want %d", n, len(attempts))
			}
		})
	}
}

// What Jumio has said once of the status is not asked again in later attempts.
func TestStatusIsAskedOnce(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 52})
	r.start()
	j := r.journey("passed-passport", "callback:id_only", "details:500:2")
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if e := r.ledger(j); e.StatusRequests.Requests != 1 || e.DetailsRequests.Requests != 3 {
		t.Errorf("%d requests for the status and %d for details, want 1 and 3", e.StatusRequests.Requests, e.DetailsRequests.Requests)
	}
}
