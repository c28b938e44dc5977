package processtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/sandbox"
	"callbackd/internal/store/storetest"
)

const (
	attackKey = "processtest reference key"
	// mostStormRequests is what a storm for one workflow execution may cost of
	// requests for details: four retrievals at once, and one that is put off.
	mostStormRequests = 5
	// mostWorkerMemory is for the whole process.
	mostWorkerMemory = 256 << 20
)

// attackRig is callbackd as deployed, a receiver and a worker with the roles of
// deploy/roles.sql, and the Jumio stand-in. User references are signed.
type attackRig struct {
	*testing.T
	roles    *rolesRig
	db       *database // as the superuser
	jumio    *jumioSandbox
	receiver *instance
	worker   *instance
	environ  []string // of the worker
}

func newAttackRig(t *testing.T) *attackRig {
	r := &attackRig{T: t, roles: newRolesRig(t, map[string]string{"max_connections": "200"}, nil), jumio: startSandbox(t, "--fast-images")}
	r.db = r.roles.db
	key := "CALLBACKD_USER_REFERENCE_KEY=" + attackKey
	r.receiver = serve(t, append(receiving(r.roles.dsn(receiverLogin)), key))
	r.environ = append(retrieving(r.roles.dsn("callbackd_worker"), r.jumio), key, "CALLBACKD_RECEIVE=false")
	r.worker = serve(t, r.environ)
	return r
}

func (r *attackRig) sign(reference string) string {
	r.Helper()
	signed, err := callback.SignUserReference(attackKey, reference)
	if err != nil {
		r.Fatal(err)
	}
	return signed
}

// hold makes a genuine journey known to Jumio without sending its callback.
func (r *attackRig) hold(reference string, faults ...string) sandbox.Entry {
	r.Helper()
	return r.jumio.send(journeys{
		Kind: "passed-passport", Faults: faults, CallbackURL: r.receiver.callbackURL(), UserReference: r.sign(reference), Hold: true,
	})[0]
}

func (r *attackRig) release(e sandbox.Entry) { r.jumio.sendHeld([]string{e.WorkflowExecutionID}) }

// wantRight waits until a genuine journey has ended as it should, with the right
// person's data.
func (r *attackRig) wantRight(e sandbox.Entry, reference string) {
	r.Helper()
	r.db.awaitState(e.WorkflowExecutionID, string(e.Expected.State))
	got := r.db.texts(`SELECT concat_ws(' ', status, account_id, user_reference, (SELECT count(*) FROM jumio.images WHERE workflow_execution_id = $1))
		FROM jumio.workflow_executions WHERE workflow_execution_id = $1`, e.WorkflowExecutionID)
	want := fmt.Sprint("PROCESSED ", e.AccountID, " ", r.sign(reference), " ", len(e.Expected.Images))
	if len(got) != 1 || got[0] != want {
		r.Errorf("the genuine one is %q, want %q", got, want)
	}
}

// genuine runs a journey from its callback to its end.
func (r *attackRig) genuine(reference string) sandbox.Entry {
	r.Helper()
	e := r.hold(reference)
	r.release(e)
	r.wantRight(e, reference)
	return e
}

// forge posts a callback from an allowed address, with mallory's own valid
// signature unless the fields say otherwise.
func (r *attackRig) forge(id string, fields map[string]any) *answer {
	r.Helper()
	workflow := map[string]any{"id": id, "status": "PROCESSED"}
	body := map[string]any{"callbackSentAt": stampOf(time.Now()), "workflowExecution": workflow, "userReference": r.sign("mallory")}
	fields = maps.Clone(fields)
	for _, name := range []string{"status", "href"} {
		if value, ok := fields[name]; ok {
			workflow[name] = value
			delete(fields, name)
		}
	}
	maps.Copy(body, fields)
	text, err := json.Marshal(body)
	if err != nil {
		r.Fatal(err)
	}
	return r.receiver.post(r, jumioAddress, "application/json", string(text))
}

// promoted waits until no callback waits for its promotion.
func (r *attackRig) promoted() {
	r.Helper()
	eventually(r, patience, func() error {
		if n := r.db.count(`SELECT count(*) FROM callbackd.inbox`); n > 0 {
			return fmt.Errorf("%d callbacks wait for their promotion", n)
		}
		return nil
	})
}

func stampOf(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// ahead is a date on which nothing has been sent yet.
const ahead = "9999-12-31T23:59:59.999Z"

// incompressible is a text that no index takes.
func incompressible(n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for range n {
		b.WriteByte(letters[r.IntN(len(letters))])
	}
	return b.String()
}

// TestAttacks: what a forger behind an allowed address, a compromised receiver and
// a compromised reader try, one after the other against the same instance. After
// each, genuine callbacks come to their right end.
func TestAttacks(t *testing.T) {
	t.Parallel()
	r := newAttackRig(t)
	for _, attack := range []struct {
		name string
		try  func(*attackRig)
	}{
		{"an account id that cannot be indexed", attackAccountID},
		{"hrefs of a megabyte", attackLargeHrefs},
		{"another person's reference after the result", attackReferenceAfter},
		{"another person's reference before the result", attackReferenceBefore},
		{"an expiry dated ahead", attackExpiryAhead},
		{"a wrong account dated ahead", attackAccountAhead},
		{"a wrong account after the result", attackAccountAfter},
		{"an expiry after the result", attackExpiryAfter},
		{"a genuine callback older than the forged expiry", attackOlderGenuine},
		{"forged callbacks alone, with a wrong account", attackForgedAlone},
		{"a storm for one workflow execution", attackStorm},
		{"details whose reference is not signed", attackUnsignedDetails},
		{"cancelled by NOTIFY", attackNotify},
		{"rows of the receiver's role", attackRows},
		{"a job that is taken away", attackJob},
	} {
		if !t.Run(attack.name, func(t *testing.T) {
			r := *r
			r.T = t
			attack.try(&r)
			r.genuine("bystander")
			awaitReady(t, r.worker.admin)
		}) {
			t.Logf("the worker: %s", tail(r.worker.stderr.String()))
		}
	}
}

func attackAccountID(r *attackRig) {
	id := uuid.NewString()
	r.forge(id, map[string]any{"account": map[string]any{"id": incompressible(6000)}}).wantCode(r, http.StatusOK)
	r.promoted()
	if n := r.db.count(`SELECT count(*) FROM jumio.callbacks WHERE workflow_execution_id = $1 AND account_id IS NULL AND length(body) > 6000`, id); n != 1 {
		r.Errorf("%d callbacks without an account and with their body, want 1", n)
	}
}

func attackLargeHrefs(r *attackRig) {
	href := "https://retrieval.amer-1.jumio.ai/" + incompressible(1_000_000)
	for range 60 {
		r.forge(uuid.NewString(), map[string]any{"href": href}).wantCode(r, http.StatusOK)
	}
	r.promoted()
	checkMemory(r.T, r.worker, mostWorkerMemory)
}

func attackReferenceAfter(r *attackRig) {
	e := r.genuine("alice")
	before := contradicting(r)
	r.forge(e.WorkflowExecutionID, map[string]any{"callbackSentAt": stampOf(time.Now().Add(5 * time.Minute)), "account": map[string]any{"id": "mallorys-account"}}).wantCode(r, http.StatusOK)
	r.promoted()
	r.wantRight(e, "alice")
	eventually(r, patience, func() error {
		if n := contradicting(r) - before; n != 1 {
			return fmt.Errorf("%v contradicting callbacks counted, want 1", n)
		}
		return nil
	})
}

func contradicting(r *attackRig) float64 {
	return r.worker.metrics(r)["callbackd_contradicting_callbacks_total"]
}

func attackReferenceBefore(r *attackRig) {
	e := r.hold("alice")
	r.forge(e.WorkflowExecutionID, map[string]any{"callbackSentAt": stampOf(time.Now().Add(5 * time.Minute))}).wantCode(r, http.StatusOK)
	r.release(e)
	r.promoted()
	r.wantRight(e, "alice")
}

func attackExpiryAhead(r *attackRig) {
	e := r.hold("alice")
	r.forge(e.WorkflowExecutionID, map[string]any{"callbackSentAt": ahead, "status": "TOKEN_EXPIRED"}).wantCode(r, http.StatusOK)
	r.promoted()
	r.release(e)
	r.wantRight(e, "alice")
	if n := r.worker.metrics(r)["callbackd_future_dated_callbacks_total"]; n < 1 {
		r.Error("the callback from the future is not counted")
	}
}

func attackAccountAhead(r *attackRig) {
	e := r.hold("alice")
	for _, status := range []string{"PROCESSED", "TOKEN_EXPIRED"} {
		r.forge(e.WorkflowExecutionID, map[string]any{
			"callbackSentAt": ahead, "status": status, "account": map[string]any{"id": "mallorys-account"},
		}).wantCode(r, http.StatusOK)
	}
	r.promoted()
	r.release(e)
	r.wantRight(e, "alice")
}

func attackAccountAfter(r *attackRig) {
	e := r.genuine("alice")
	r.forge(e.WorkflowExecutionID, map[string]any{"account": map[string]any{"id": "mallorys-account"}}).wantCode(r, http.StatusOK)
	r.promoted()
	r.wantRight(e, "alice")
}

func attackExpiryAfter(r *attackRig) {
	e := r.genuine("alice")
	for _, status := range []string{"SESSION_EXPIRED", "ACQUIRED"} {
		r.forge(e.WorkflowExecutionID, map[string]any{"status": status}).wantCode(r, http.StatusOK)
		r.promoted()
		r.wantRight(e, "alice")
	}
	if n := r.db.count(`SELECT count(*) FROM jumio.events WHERE workflow_execution_id = $1 AND type IN ('expired', 'retrieval_failed')`, e.WorkflowExecutionID); n > 0 {
		r.Errorf("%d events tell of an end that was none", n)
	}
}

func attackOlderGenuine(r *attackRig) {
	e := r.hold("alice")
	r.forge(e.WorkflowExecutionID, map[string]any{"callbackSentAt": stampOf(time.Now().Add(time.Minute)), "status": "TOKEN_EXPIRED"}).wantCode(r, http.StatusOK)
	r.promoted()
	r.release(e)
	r.wantRight(e, "alice")
}

// What the forger knows still leads to the genuine result, under its own reference.
func attackForgedAlone(r *attackRig) {
	e := r.hold("alice")
	r.forge(e.WorkflowExecutionID, map[string]any{"account": map[string]any{"id": "mallorys-account"}}).wantCode(r, http.StatusOK)
	r.promoted()
	r.wantRight(e, "alice")
}

func attackStorm(r *attackRig) {
	e := r.hold("alice", "details:slow:1:delay=500ms")
	r.release(e)
	for range 300 {
		r.forge(e.WorkflowExecutionID, nil).wantCode(r, http.StatusOK)
	}
	r.promoted()
	r.wantRight(e, "alice")
	if n := r.jumio.entry(e.WorkflowExecutionID).DetailsRequests.Requests; n > mostStormRequests {
		r.Errorf("the storm cost %d requests for details, at most %d are meant", n, mostStormRequests)
	}
}

// The receiver's role could insert a callback past the handler's check.
func attackUnsignedDetails(r *attackRig) {
	e := r.jumio.send(journeys{Kind: "passed-passport", CallbackURL: r.receiver.callbackURL(), UserReference: "unsigned", Hold: true})[0]
	r.forge(e.WorkflowExecutionID, nil).wantCode(r, http.StatusOK)
	w := r.db.awaitState(e.WorkflowExecutionID, "failed")
	if !strings.HasPrefix(w.Error, "user_reference_unsigned: ") || w.Attempts != 1 {
		r.Errorf("got %+v, want user_reference_unsigned at the first attempt", w)
	}
	if n := r.db.count(`SELECT count(*) FROM jumio.images WHERE workflow_execution_id = $1`, e.WorkflowExecutionID); n > 0 {
		r.Errorf("%d images are there", n)
	}
}

func attackNotify(r *attackRig) {
	e := r.hold("alice", "details:slow:1:delay=2s")
	r.release(e)
	var job int
	eventually(r, patience, func() error {
		if jobs := query(r.db, pgx.RowTo[int], `SELECT id FROM callbackd.river_job WHERE state = 'running' AND args ->> 'workflow_execution_id' = $1`, e.WorkflowExecutionID); len(jobs) == 1 {
			job = jobs[0]
			return nil
		}
		return fmt.Errorf("the retrieval does not run yet")
	})
	for _, login := range []string{readerLogin, receiverLogin} {
		reader := r.roles.connect(r.roles.dsn(login))
		for channel, payload := range map[string]string{
			"callbackd.river_control":    fmt.Sprintf(`{"action":"cancel","job_id":%d,"queue":"default"}`, job),
			"river_control":              fmt.Sprintf(`{"action":"cancel","job_id":%d,"queue":"default"}`, job),
			"callbackd.river_leadership": `{"action":"request_resign","leader_id":"*"}`,
			"callbackd.river_insert":     `{"queue":"default"}`,
			"callbackd_inbox":            "x", "callbackd_jobs": "x",
		} {
			if _, err := reader.Exec(r.Context(), `SELECT pg_notify($1, $2)`, channel, payload); err != nil {
				r.Fatal(err)
			}
		}
		pause := r.roles.connect(r.roles.dsn(login))
		if _, err := pause.Exec(r.Context(), `SELECT pg_notify('callbackd.river_control', '{"action":"pause","queue":"*"}')`); err != nil {
			r.Fatal(err)
		}
	}
	r.wantRight(e, "alice")
	if n := r.jumio.entry(e.WorkflowExecutionID).DetailsRequests.Requests; n != 1 {
		r.Errorf("%d requests for details, want 1: nothing was cancelled", n)
	}
}

// The receiver's role inserts values that no callback can have: the table rejects
// them. Such a row from before the constraints becomes a dead letter.
func attackRows(r *attackRig) {
	insert := `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body) VALUES (gen_random_uuid(), %s, '', %s, '{}')`
	for _, values := range [][2]string{{"now()", "repeat('a', 9000)"}, {"'infinity'", "'w'"}} {
		if state := r.roles.try(r.roles.dsn(receiverLogin), fmt.Sprintf(insert, values[0], values[1])); state != "23514" {
			r.Errorf("%v: SQLSTATE %q, want 23514", values, state)
		}
	}
	r.db.exec(storetest.Unchecked)
	r.db.exec(fmt.Sprintf(insert, "now()", "'"+incompressible(500)+"'"))
	e := r.genuine("alice")
	r.promoted()
	list := r.db.texts(`SELECT rejected_id::text FROM jumio.rejected_callbacks WHERE reason = 'not_storable: SQLSTATE 23514'`)
	if len(list) != 1 {
		r.Fatalf("dead letters: %v, want one", list)
	}
	if n := r.worker.metrics(r)["callbackd_dead_letters_total"]; n != 1 {
		r.Errorf("callbackd_dead_letters_total is %v, want 1", n)
	}
	owner := []string{"DATABASE_URL=" + r.roles.dsn("callbackd_owner")}
	if out := succeed(r, owner, "rejected", "list"); !strings.Contains(out, list[0]) || !strings.Contains(out, "not_storable: SQLSTATE 23514") {
		r.Errorf("rejected list shows %s", out)
	}
	succeed(r, owner, "rejected", "replay", list[0])
	eventually(r, patience, func() error {
		if n := r.worker.metrics(r)["callbackd_dead_letters_total"]; n != 2 {
			return fmt.Errorf("after the replay callbackd_dead_letters_total is %v, want 2", n)
		}
		return nil
	})
	r.wantRight(e, "alice")
}

// A job that is gone, whoever took it: the retrieval is queued again.
func attackJob(r *attackRig) {
	r.worker.stop(terminate)
	e := r.hold("alice")
	r.release(e)
	r.db.exec(`INSERT INTO callbackd.workflow_executions (workflow_execution_id, account_id, status, retrieval_state, retrieval_generation) VALUES ($1, $2, 'PROCESSED', 'pending', 1)`,
		e.WorkflowExecutionID, e.AccountID)
	r.db.exec(`DELETE FROM callbackd.inbox`) // so that no callback makes another job
	*r.worker = *serve(r.T, r.environ)
	r.wantRight(e, "alice")
	if n := r.worker.metrics(r)["callbackd_requeued_retrievals_total"]; n != 1 {
		r.Errorf("callbackd_requeued_retrievals_total is %v, want 1", n)
	}
}
