package fetcher

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/sandbox"
	"callbackd/internal/sandbox/journey"
	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// quick has five attempts, close to each other.
var quick = workflow.Schedule{0, 20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond}

func TestEveryKindOfJourneyReachesItsEnd(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 1})
	r.start()
	var journeys []*sandbox.Journey
	for _, k := range journey.Kinds() {
		journeys = append(journeys, r.journey(k.Name))
	}
	for _, j := range journeys {
		r.settled(j.WorkflowExecutionID)
		r.checkJourney(j)
		if e := r.ledger(j); e.DetailsRequests.OK > 1 || e.MaxConcurrentSame > 1 {
			t.Errorf("%s: %d detail answers, %d at a time; want one", j.Kind, e.DetailsRequests.OK, e.MaxConcurrentSame)
		}
	}
}

// The faults that pass, and those that last (contract, section 7).
func TestFaultsOfJumio(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 2})
	r.start()
	type testCase struct {
		fault    string
		state    workflow.RetrievalState
		attempts int
		code     string
	}
	cases := []testCase{
		{"details:400:1", workflow.Retrieved, 2, ""},
		{"details:401:1", workflow.Retrieved, 1, ""}, // a token renewal counts no attempt
		{"details:401:2", workflow.Retrieved, 2, ""},
		{"details:403:2", workflow.Retrieved, 3, ""},
		{"details:404:2", workflow.Retrieved, 2, ""}, // an attempt asks at two addresses
		{"details:404:4", workflow.Retrieved, 3, ""},
		{"details:429:1", workflow.Retrieved, 2, ""},
		{"details:500:4", workflow.Retrieved, 5, ""},
		{"details:503", workflow.Failed, 5, "server_error"},
		{"details:404", workflow.Failed, 5, "not_found"},
		{"details:401", workflow.Failed, 5, "unauthorized"},
		{"details:403", workflow.Failed, 5, "forbidden"},
		{"details:400", workflow.Failed, 5, "bad_request"},
		{"details:429", workflow.Failed, 5, "rate_limited"},
		{"details:not_final:2", workflow.Retrieved, 3, ""},
		{"details:not_final", workflow.Failed, 5, "not_final"},
		{"details:broken_json", workflow.Failed, 5, "invalid_json"},
		{"details:html", workflow.Failed, 5, "invalid_json"},
		{"details:reset:1", workflow.Retrieved, 2, ""},
		{"details:redirect", workflow.Failed, 5, "redirected"},
		{"image:truncated:2:part=FRONT", workflow.Retrieved, 3, ""},
		{"image:404:part=FRONT", workflow.Partial, 5, "not_found"},
		{"image:truncated:part=FRONT", workflow.Partial, 5, "image_truncated"},
		{"image:empty:part=FRONT", workflow.Partial, 5, "image_empty"},
		{"image:html:part=FRONT", workflow.Partial, 5, "image_type"},
		{"image:wrong_type:part=FRONT", workflow.Partial, 5, "image_type"},
		{"image:403", workflow.Partial, 5, "forbidden"},
	}
	journeys := make([]*sandbox.Journey, len(cases))
	for i, tc := range cases {
		// "kind" without times but with an option needs an empty third field no more than ParseFault does.
		journeys[i] = r.journey("passed-passport", tc.fault)
	}
	for i, tc := range cases {
		id := journeys[i].WorkflowExecutionID
		r.settled(id)
		r.checkJourney(journeys[i])
		var state string
		var attempts int
		var reason *string
		err := r.store.Pool().QueryRow(t.Context(), `SELECT retrieval_state, retrieval_attempts, retrieval_error
			FROM jumio.workflow_executions WHERE workflow_execution_id = $1`, id).Scan(&state, &attempts, &reason)
		if err != nil {
			t.Fatal(err)
		}
		if state != string(tc.state) || attempts != tc.attempts {
			t.Errorf("%s: %s after %d attempts, want %s after %d", tc.fault, state, attempts, tc.state, tc.attempts)
		}
		if (reason == nil) != (tc.code == "") || reason != nil && !strings.HasPrefix(*reason, tc.code+": ") {
			t.Errorf("%s: retrieval_error %v, want the code %q", tc.fault, reason, tc.code)
		}
		wantEvent := "details_retrieved,retrieved"
		if tc.state == workflow.Failed {
			wantEvent = "retrieval_failed"
		}
		if got := value[string](r, `SELECT string_agg(type, ',' ORDER BY event_id) FROM jumio.events WHERE workflow_execution_id = $1`, id); got != "callback_received,"+wantEvent {
			t.Errorf("%s: events %s", tc.fault, got)
		}
		if e := r.ledger(journeys[i]); e.MaxConcurrentSame > 1 {
			t.Errorf("%s: retrieved twice at a time", tc.fault)
		}
	}
	if n := r.sandbox.Ledger().Totals.RedirectsFollowed; n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// On its own, since the token is everybody's.
func TestARevokedTokenIsRenewedWithinTheAttempt(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 14})
	r.start()
	j := r.journey("passed-passport", "details:revoked:1")
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 1 {
		t.Errorf("%d attempts, want 1: a token renewal does not count", n)
	}
}

func TestARetryFetchesOnlyWhatIsMissing(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 3})
	r.start()
	j := r.journey("passed-id-card", "image:truncated:2:part=BACK")
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	e := r.ledger(j)
	if e.DetailsRequests.Requests != 1 {
		t.Errorf("details were requested %d times, want once", e.DetailsRequests.Requests)
	}
	for _, img := range e.Images {
		want := 1
		if img.Classifier == "BACK" {
			want = 3
		}
		if img.Requests != want {
			t.Errorf("%s was requested %d times, want %d", img.Classifier, img.Requests, want)
		}
	}
}

// One part that ends every attempt must not keep the others out.
func TestAPartThatEndsAttemptsDoesNotStarveTheOthers(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 13})
	r.start()
	j := r.journey("passed-passport", "image:500:part=FRONT")
	r.settled(j.WorkflowExecutionID)
	if got := value[string](r, `SELECT string_agg(classifier, ',' ORDER BY classifier) FROM jumio.images`); got != "FACE,FACEMAP" {
		t.Errorf("images in the end: %s, want all but FRONT", got)
	}
	if got := value[string](r, `SELECT retrieval_error FROM jumio.workflow_executions`); !strings.HasSuffix(got, "(1 of 3 images missing)") {
		t.Errorf("retrieval_error is %q", got)
	}
}

func TestRetryAfterIsObeyed(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 4})
	r.start()
	begin := time.Now()
	j := r.journey("passed-passport", "details:429:1:retry-after=2s")
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("the next attempt came after %v, although Retry-After was 2 s", took)
	}
	if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 2 {
		t.Errorf("%d attempts, want 2: a 429 counts", n)
	}
}

func TestANewerProcessedCallbackRetrievesAgain(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 5})
	r.start()
	j := r.journey("passed-passport", "callback:duplicate:3")
	r.settled(j.WorkflowExecutionID)
	if e := r.ledger(j); e.DetailsRequests.Requests != 1 {
		t.Errorf("four deliveries of one callback led to %d retrievals", e.DetailsRequests.Requests)
	}
	if err := r.sandbox.SendStatus(t.Context(), j, workflow.StatusProcessed); err != nil {
		t.Fatal(err)
	}
	r.waitFor("the second retrieval", `SELECT count(*) = 2 FROM jumio.events WHERE type = 'retrieved'`)
	r.checkJourney(j)
	if e := r.ledger(j); e.DetailsRequests.Requests != 2 {
		t.Errorf("the newer callback led to %d retrievals in all, want 2", e.DetailsRequests.Requests)
	}
	// Every delivery counts; the last ones may be promoted after the retrieval.
	r.waitFor("all eight deliveries", `SELECT callback_count = 8 FROM jumio.workflow_executions`)
}

func TestANewerCallbackSupersedesARunningRetrieval(t *testing.T) {
	r := newRig(t, workflow.Schedule{0, time.Hour}, sandbox.Config{Seed: 6})
	r.start()
	j := r.journey("passed-passport", "details:503:1")
	r.waitFor("the first attempt", `SELECT retrieval_error IS NOT NULL FROM jumio.workflow_executions`)
	if err := r.sandbox.SendStatus(t.Context(), j, workflow.StatusProcessed); err != nil {
		t.Fatal(err)
	}
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 1 {
		t.Errorf("%d attempts, want 1: of the current retrieval", n)
	}
}

func TestUnknownStatusIsAskedFor(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 7})
	r.start()
	j := r.journey("passed-passport", "callback:id_only", "status:404:1")
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if got := value[string](r, `SELECT status FROM jumio.workflow_executions`); got != "PROCESSED" {
		t.Errorf("status %q, want the one of Get Status", got)
	}
	expired := r.journey("session-expired", "callback:id_only")
	r.settled(expired.WorkflowExecutionID)
	r.checkJourney(expired)
	if n := value[int](r, `SELECT count(*) FROM jumio.events WHERE type = 'expired' AND workflow_execution_id = $1`, expired.WorkflowExecutionID); n != 1 {
		t.Errorf("%d events expired, want 1", n)
	}
}

func TestUnknownStatusIsNotFinal(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 15})
	j := r.journey("odd-unknown-status", "callback:equal_times")
	r.start()
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
}

// forge stores a callback of the journey's as somebody else would send it, newer
// than the others.
func (r *rig) forge(j *sandbox.Journey, status, accountID, dataCenter string) {
	r.Helper()
	base := "https://retrieval." + dataCenter + ".jumio.ai/api/v1/accounts/" + accountID
	err := r.store.InsertCallback(r.Context(), &callback.Callback{
		ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), Body: []byte(`{}`), CallbackSentAt: time.Now().Add(time.Minute),
		WorkflowExecutionID: j.WorkflowExecutionID, WorkflowStatus: status, WorkflowHref: base + "/workflow-executions/" + j.WorkflowExecutionID,
		AccountID: accountID, AccountHref: base,
	})
	if err != nil {
		r.Fatal(err)
	}
}

// Jumio's word that a workflow has expired holds, whatever a callback says.
func TestAForgedResultOfAnExpiredWorkflow(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 17})
	r.start()
	for _, kind := range []string{"session-expired", "token-expired", "odd-session-expired-with-details"} {
		for _, status := range []string{"PROCESSED", "ACQUIRED"} {
			j := r.journey(kind)
			r.forge(j, status, j.AccountID, j.DataCenter)
			r.waitFor("both callbacks", `SELECT callback_count = 2 FROM jumio.workflow_executions WHERE workflow_execution_id = $1`, j.WorkflowExecutionID)
			r.settled(j.WorkflowExecutionID)
			r.checkJourney(j)
			if got := value[string](r, `SELECT status FROM jumio.workflow_executions WHERE workflow_execution_id = $1`, j.WorkflowExecutionID); got != j.Status {
				t.Errorf("%s, forged as %s: status %s", kind, status, got)
			}
		}
	}
}

// However many wrong accounts and data centers callbacks name, the workflow
// execution is found in each data center by its id alone.
func TestForgedAddressesDoNotCrowdOutTheWorkflowExecution(t *testing.T) {
	r := newRig(t, workflow.Schedule{0}, sandbox.Config{Seed: 18})
	j := r.journey("passed-passport")
	for range 4 * mostAddresses {
		r.forge(j, "PROCESSED", uuid.NewString(), "apac-1")
	}
	r.start()
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if n := r.sandbox.Ledger().Totals.Responses["details 404"]; n >= mostAddresses {
		t.Errorf("%d requests that found nothing in one attempt, want fewer than %d", n, mostAddresses)
	}
}

func TestTwoWorkersNeverRetrieveTheSameAtTheSameTime(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 8})
	r.start()
	r.start()
	var journeys []*sandbox.Journey
	for range 4 {
		journeys = append(journeys, r.journey("passed-passport", "details:slow:1:delay=500ms"))
	}
	for _, j := range journeys {
		r.awaitDetailsRequest(j)
		// While one job waits for its details, a newer callback makes another.
		if err := r.sandbox.SendStatus(t.Context(), j, workflow.StatusProcessed); err != nil {
			t.Fatal(err)
		}
	}
	for _, j := range journeys {
		r.settled(j.WorkflowExecutionID)
		r.checkJourney(j)
		if e := r.ledger(j); e.MaxConcurrent > 1 {
			t.Errorf("%d requests for one workflow execution at a time", e.MaxConcurrent)
		}
	}
}

func TestAStopCostsNoAttempt(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 9})
	f := r.start()
	j := r.journey("passed-passport", "image:hang:1")
	r.waitFor("the attempt to hang in its image", `SELECT retrieval_attempts = 1 FROM jumio.workflow_executions`)
	storetest.Eventually(t, "Jumio is asked for an image", func() bool { return sumImageRequests(r.ledger(j)) > 0 })
	r.stop(f)
	if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 0 {
		t.Errorf("after the stop retrieval_attempts is %d, want 0", n)
	}
	if n := value[int](r, `SELECT attempt FROM callbackd.river_job`); n != 0 {
		t.Errorf("after the stop the job's attempt is %d, want 0", n)
	}
	r.start()
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 1 {
		t.Errorf("retrieval_attempts is %d, want 1", n)
	}
}

func sumImageRequests(e sandbox.Entry) int {
	n := 0
	for _, img := range e.Images {
		n += img.Requests
	}
	return n
}

// A job that is marked as running by a worker that died long ago, with its
// lease run out, is taken over.
func TestADeadWorkersJobIsTakenOver(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 10})
	j := r.journey("passed-passport")
	dead := r.start()
	r.settled(j.WorkflowExecutionID)
	r.stop(dead)
	_, err := r.store.Pool().Exec(t.Context(), `
		UPDATE callbackd.river_job SET state = 'running', finalized_at = NULL, attempted_at = now() - interval '3 minutes'`)
	if err == nil {
		_, err = r.store.Pool().Exec(t.Context(), `UPDATE callbackd.workflow_executions SET retrieval_state = 'pending',
			lease_token = gen_random_uuid(), lease_until = now() - interval '1 minute'`)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 2 {
		t.Errorf("retrieval_attempts is %d, want 2: the attempt that died counts", n)
	}
}

// A run whose outcome could not be stored leaves its lease behind. The job's next
// run gives it back, and need not wait until it runs out.
func TestALeaseThatWasLeftBehindIsGivenBack(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 13})
	rename := func(sql string) {
		if _, err := r.store.Pool().Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	j := r.journey("passed-passport", "details:slow:1")
	r.waitFor("the attempt", `SELECT EXISTS (SELECT FROM callbackd.workflow_executions WHERE lease_token IS NOT NULL)`)
	rename(`ALTER TABLE callbackd.event_order RENAME TO elsewhere`) // so that no events are appended
	r.waitFor("an outcome that is not stored", `SELECT metadata ? 'snoozes' FROM callbackd.river_job`)
	rename(`ALTER TABLE callbackd.elsewhere RENAME TO event_order`)
	r.settled(j.WorkflowExecutionID)
	r.checkJourney(j)
	if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 1 {
		t.Errorf("retrieval_attempts is %d, want 1: our own fault costs none", n)
	}
}

// When the worker died in the last attempt there is none left to make, but
// still an end to record.
func TestADeadLastAttemptEndsAsFailed(t *testing.T) {
	r := newRig(t, workflow.Schedule{0}, sandbox.Config{Seed: 11})
	j := r.journey("passed-passport", "details:hang:1")
	dead := r.start()
	r.awaitDetailsRequest(j)
	r.stop(dead)
	if _, err := r.store.Pool().Exec(t.Context(), `
		UPDATE callbackd.river_job SET state = 'running', attempt = 1, attempted_at = now() - interval '3 minutes'`); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Pool().Exec(t.Context(), `UPDATE callbackd.workflow_executions SET retrieval_attempts = 1`); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.settled(j.WorkflowExecutionID)
	if got := value[string](r, `SELECT concat_ws(' ', retrieval_state, retrieval_attempts, split_part(retrieval_error, ':', 1)) FROM jumio.workflow_executions`); got != "failed 1 interrupted" {
		t.Errorf("the end is %q", got)
	}
	if n := r.ledger(j).DetailsRequests.Requests; n != 1 {
		t.Errorf("%d requests, want no more than the schedule has attempts", n)
	}
}

func TestRefetch(t *testing.T) {
	r := newRig(t, workflow.Schedule{0}, sandbox.Config{Seed: 12})
	r.start()
	j := r.journey("passed-passport", "details:503:1")
	r.waitFor("the failure", `SELECT retrieval_state = 'failed' FROM jumio.workflow_executions`)
	if err := Refetch(t.Context(), r.store.DB, r.schedule, []string{j.WorkflowExecutionID, "unknown"}, ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("refetch of an unknown one: %v", err)
	}
	if err := Refetch(t.Context(), r.store.DB, r.schedule, []string{j.WorkflowExecutionID}, ""); err != nil {
		t.Fatal(err)
	}
	r.waitFor("the refetched result", `SELECT retrieval_state = 'retrieved' FROM jumio.workflow_executions`)
}

// The database may go away between the check of its schema and the start.
func TestStartWithoutDatabase(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 16})
	w := r.newWorker(nil, 1, zap.NewNop())
	r.store.Pool().Close()
	if err := w.queue.Start(t.Context()); err == nil {
		t.Error("start without a database: no error")
	}
	w.promoter.Stop() // what was not started
	w.Stop()
}
