package processtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// erasurePlaces are where a worker is killed: before a statement of a step for a table, or
// before the end of a step's transaction, when the step becomes another one.
var erasurePlaces = []struct{ name, step, table, event string }{
	{"before what is covered is written down", "resolve", "erasure_subjects", "INSERT"},
	{"before the tombstones", "bar", "tombstones", "INSERT"},
	{"before callbacks", "executions", "callbacks", "DELETE"},
	{"before images", "executions", "images", "DELETE"},
	{"before details", "executions", "details", "DELETE"},
	{"before events", "executions", "events", "DELETE"},
	{"before the event erased", "executions", "events", "INSERT"},
	{"before rejected callbacks", "executions", "rejected_callbacks", "DELETE"},
	{"before expectations", "executions", "expectations", "DELETE"},
	{"before the readers of images", "executions", "image_reads", "UPDATE"},
	{"before the row", "executions", "workflow_executions", "DELETE"},
	{"before jobs", "mentions", "river_job", "DELETE"},
	{"before rejected callbacks that name it in their bodies", "rejected", "rejected_callbacks", "DELETE"},
	{"at the end of resolve", "resolve", "", "jumio"},
	{"at the end of jumio", "jumio", "", "bar"},
	{"at the end of bar", "bar", "", "executions"},
	{"at the end of executions", "executions", "", "mentions"},
	{"at the end of mentions", "mentions", "", "rejected"},
	{"at the end of rejected", "rejected", "", "objects"},
	{"at the end of objects", "objects", "", "spools"},
	{"at the end of spools", "spools", "", "finish"},
	{"at the end", "finish", "", "done"},
}

// TestErasureSurvivesKills: a worker that is killed at any step of an order leaves it to
// another one, which comes to the same end: nothing of the person is left, and what has
// been deleted is counted exactly. Without -chaos.full, once at each step.
func TestErasureSurvivesKills(t *testing.T) {
	t.Parallel()
	rig := newKillRig(t)
	calm := rig.copy(t)
	worker := calm.startWorker()
	want := calm.awaitErased()
	worker.stop(terminate)
	t.Logf("deleted without a kill: %v", want)

	t.Run("places", func(t *testing.T) {
		tried := map[string]bool{}
		for _, place := range erasurePlaces {
			if tried[place.step] && !*chaosFull {
				continue
			}
			tried[place.step] = true
			t.Run(strings.ReplaceAll(place.name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				c := rig.copy(t)
				c.db.exec(gateFunction)
				if place.table != "" {
					c.db.exec(fmt.Sprintf(`CREATE TRIGGER gate BEFORE %s ON callbackd.%s FOR EACH STATEMENT EXECUTE FUNCTION public.gate(%s)`, place.event, place.table, place.step))
				} else {
					c.db.exec(fmt.Sprintf(`CREATE TRIGGER gate BEFORE UPDATE ON callbackd.erasures FOR EACH ROW
						WHEN (OLD.step = '%s' AND NEW.step = '%s') EXECUTE FUNCTION public.gate()`, place.step, place.event))
				}
				open := c.db.closeGate()
				killed := c.startWorker()
				c.await("the worker stands at the gate", func() bool {
					return c.db.count(`SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.gate'::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) > 0
				})
				killed.kill()
				open()
				c.expireLease()
				c.startWorker()
				if diff := cmp.Diff(want, c.awaitErased()); diff != "" {
					t.Errorf("deleted (-without a kill +with one):\n%s", diff)
				}
			})
		}
		t.Run("while_Jumio_deletes", func(t *testing.T) {
			t.Parallel()
			c := rig.copy(t)
			asked, answer := make(chan struct{}, 100), make(chan struct{})
			c.jumio.onDeletion(func(string) { asked <- struct{}{}; <-answer })
			killed := c.startWorker()
			select {
			case <-asked:
			case <-time.After(patience):
				t.Fatal("Jumio is not asked to delete")
			}
			if n := c.db.count(`SELECT count(*) FROM callbackd.tombstones`); n > 0 {
				t.Errorf("%d tombstones before Jumio has answered", n)
			}
			killed.kill()
			close(answer)
			// Another worker goes on by itself, within 30 s.
			began := time.Now()
			c.startWorker()
			if diff := cmp.Diff(want, c.awaitErased()); diff != "" {
				t.Errorf("deleted (-without a kill +with one):\n%s", diff)
			}
			t.Logf("done %s after the start of another worker", time.Since(began))
		})
	})
}

// gateFunction makes a trigger's function that waits while the test has the gate closed and
// an order is at the step.
const gateFunction = `
	CREATE TABLE public.gate ();
	CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF TG_NARGS = 0 OR EXISTS (SELECT FROM callbackd.erasures WHERE step = TG_ARGV[0]) THEN
			LOCK TABLE public.gate IN ACCESS SHARE MODE;
		END IF;
		IF TG_LEVEL = 'ROW' THEN RETURN NEW; END IF;
		RETURN NULL;
	END $$`

// killRig is a database with a person in it who is to be erased, of which each test gets
// a copy.
type killRig struct {
	postgres *outage
	marks    *marks
	jumio    *markedJumio
	person   *person
	other    *person
}

// killCase is a copy, with an order in it.
type killCase struct {
	*killRig
	t       *testing.T
	dsn     string
	db      *database
	jumio   *markedJumio
	environ []string
	order   string
}

func newKillRig(t *testing.T) *killRig {
	t.Helper()
	rig := &killRig{postgres: ownPostgres(t), marks: newMarks()}
	rig.jumio = startMarkedJumio(t, rig.marks)
	rig.person, rig.other = rig.marks.newPerson("person"), rig.marks.newPerson("other")
	db := open(t, rig.postgres.dsn)
	environ := rig.environ(rig.postgres.dsn, rig.jumio)
	all := serve(t, environ)
	post := func(c *markedVerification, from, status string) *answer {
		return all.post(t, from, c.contentType(rig.marks), c.callback(rig.marks, status))
	}
	first, second := rig.jumio.verify(rig.person, nil), rig.jumio.verify(rig.person, nil)
	expected := rig.jumio.verify(rig.person, func(v *markedVerification) { v.status = "ACQUIRED" })
	staged := rig.jumio.verify(rig.person, func(v *markedVerification) { v.imageCode = http.StatusTooManyRequests })
	another := rig.jumio.verify(rig.other, nil)
	for _, v := range []*markedVerification{first, second, staged, another} {
		for range 2 {
			post(v, jumioAddress, "PROCESSED").wantCode(t, http.StatusOK)
		}
	}
	db.exec(`SELECT jumio.expect($1, $2, NULL, $3, NULL, '1 hour')`, expected.id, expected.account, expected.reference)
	for _, v := range []*markedVerification{first, second, another} {
		db.awaitState(v.id, "retrieved")
	}
	eventually(t, patience, func() error {
		n := db.count(`SELECT count(*) FROM callbackd.images WHERE workflow_execution_id = $1`, staged.id)
		if n == 0 || db.count(`SELECT count(*) FROM callbackd.inbox`) > 0 {
			return fmt.Errorf("%d images are staged", n)
		}
		return nil
	})
	all.post(t, jumioAddress, "application/json", another.callbackAs(rig.marks, another.id, rig.person.account, rig.person.reference, "person", "ACQUIRED")).wantCode(t, http.StatusOK)
	post(first, foreignAddress, "PROCESSED").wantCode(t, http.StatusForbidden)
	all.post(t, jumioAddress, "text/plain", `no callback, of "`+rig.person.account+`" `+rig.marks.plant("person", "malformed body")).wantCode(t, http.StatusBadRequest)
	// Each callback that comes after a retrieval begins another one, soon if it came in the
	// middle of one; then the copies would not be alike.
	eventually(t, patience, func() error {
		if n := db.count(`SELECT count(*) FROM callbackd.inbox`) + db.count(`SELECT count(*) FROM callbackd.unscreened`); n > 0 {
			return fmt.Errorf("%d are not promoted or looked through", n)
		}
		if n := db.count(`SELECT count(*) FROM callbackd.workflow_executions WHERE retrieval_due_at IS NOT NULL`); n > 0 {
			return fmt.Errorf("%d are to be retrieved again soon", n)
		}
		if jobs := db.texts(`SELECT concat_ws(' ', kind, state, args) FROM callbackd.river_job
			WHERE finalized_at IS NULL AND scheduled_at < now() + interval '30 minutes'`); len(jobs) > 0 {
			return fmt.Errorf("jobs that are to be done soon: %q", jobs)
		}
		return nil
	})
	db.exec(`SELECT jumio.end_relationship($1, now())`, rig.person.account)
	db.exec(`INSERT INTO callbackd.image_reads (reader, image_id, workflow_execution_id, reason, way)
		SELECT 'somebody', image_id, workflow_execution_id, 'a look', 'command' FROM callbackd.images`)
	all.stop(terminate)
	db.pool.Close()
	return rig
}

// environ has workers that try again when the test is over, so that each copy starts alike.
func (rig *killRig) environ(dsn string, jumio *markedJumio) []string {
	return append(retrieving(dsn, &jumioSandbox{url: jumio.url}), erasureKey, "JUMIO_ACCOUNT_URL="+jumio.url, "JUMIO_API_URL="+jumio.url,
		"CALLBACKD_WORKERS=2", "CALLBACKD_RETRIEVAL_DELAYS=0s,1h")
}

// copy is a copy of the database, in which the person is to be erased, at Jumio, too.
func (rig *killRig) copy(t *testing.T) *killCase {
	t.Helper()
	c := rig.restore(t)
	c.order = c.db.texts(`SELECT jumio.request_erasure('account', $1, 'asked for', true)::text`, rig.person.account)[0]
	return c
}

// restore is a copy of the database as it was.
func (rig *killRig) restore(t *testing.T) *killCase {
	t.Helper()
	name := "copy_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	admin, err := pgx.Connect(t.Context(), rig.postgres.server.DSN("template1"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	eventually(t, patience, func() error { // two copies at a time are an error
		_, err := admin.Exec(t.Context(), `CREATE DATABASE `+name+` TEMPLATE postgres`)
		return err
	})
	c := &killCase{killRig: rig, t: t, dsn: rig.postgres.server.DSN(name), jumio: rig.jumio.fork(t)}
	c.environ = append(c.killRig.environ(c.dsn, c.jumio), "CALLBACKD_RECEIVE=false")
	c.db = open(t, c.dsn)
	return c
}

// startWorker starts one without the race detector, which costs more than these tests do.
func (c *killCase) startWorker() *instance {
	c.t.Helper()
	path, err := plainProgram()
	if err != nil {
		c.t.Fatal(err)
	}
	i := &instance{process: start(c.t, c.environ, nil, path, "serve"), path: callbackPath}
	i.awaitStart()
	return i
}

func (c *killCase) await(what string, holds func() bool) {
	c.t.Helper()
	eventually(c.t, 2*patience, func() error {
		if !holds() {
			return fmt.Errorf("not yet: %s; the order: %q", what, c.db.texts(`SELECT concat_ws(' ', state, step, error) FROM callbackd.erasures`))
		}
		return nil
	})
}

// expireLease spares the test the wait for the dead worker's lease, once the server has
// noticed its death.
func (c *killCase) expireLease() {
	c.t.Helper()
	c.db.exec(`UPDATE callbackd.erasures SET lease_until = clock_timestamp() WHERE lease_until IS NOT NULL`)
}

// awaitErased waits until the order is done, demands that nothing of the person is left and
// all of the other one is there, and returns what has been deleted.
func (c *killCase) awaitErased() map[string]int {
	c.t.Helper()
	c.await("done", func() bool {
		return c.db.count(`SELECT count(*) FROM jumio.erasures WHERE state = 'done' AND order_id::text = $1`, c.order) == 1
	})
	found := c.marks.searchTables(c.db)
	owners := map[string]bool{c.person.name: true}
	c.jumio.mu.Lock()
	for _, v := range c.jumio.verifications {
		owners[v.id] = v.person == c.person.name
	}
	c.jumio.mu.Unlock()
	others := 0
	for m, places := range found {
		if !owners[m.owner] {
			others++
		} else if !onlyStatistics(places) {
			c.t.Errorf("%s of %s is left in %q", m.what, m.owner, places)
		}
	}
	if others < 60 {
		c.t.Errorf("only %d marks of the other person are there", others)
	}
	deleted := map[string]int{}
	for _, row := range query(c.db, pgx.RowToStructByPos[struct {
		Table string
		Rows  int
	}], `SELECT key, value::int FROM jumio.erasures, jsonb_each_text(deleted) WHERE order_id::text = $1`, c.order) {
		deleted[row.Table] = row.Rows
	}
	return deleted
}

// onlyStatistics: the planner's statistics keep samples until the next ANALYZE.
func onlyStatistics(places []string) bool {
	for _, place := range places {
		if place != "table pg_catalog.pg_statistic" {
			return false
		}
	}
	return true
}

// fork is another Jumio with the same verifications.
func (j *markedJumio) fork(t *testing.T) *markedJumio {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	fork := &markedJumio{marks: j.marks, verifications: map[string]*markedVerification{}, images: j.images}
	for id, v := range j.verifications {
		copied := *v
		fork.verifications[id] = &copied
	}
	server := httptest.NewServer(fork)
	t.Cleanup(server.Close)
	fork.url = server.URL
	return fork
}
