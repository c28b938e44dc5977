package processtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/sandbox"
)

const (
	// takeOverTime is within what a dead worker's retrieval is taken over, with
	// time for the retrieval itself.
	takeOverTime = 5 * time.Minute

	// goroutineSlack is how many goroutines more than before the fault an
	// instance may have: those of idle connections to Jumio, two for each worker.
	// Sixteen senders leak more than that in a second.
	goroutineSlack = 24
)

// chaosDelays outlast the faults: two minutes in full, half a minute in short.
func chaosDelays() string {
	return times("0s,1s,2s,4s,8s,15s,30s,50s,60s,60s", "0s,1s,1s,1s,2s,2s,4s,5s,7s,7s")
}

// chaosRig is callbackd under load, and all that it depends on.
type chaosRig struct {
	t         *testing.T
	rng       *rand.Rand
	line      *ledgerLine
	dsn       string // for the test, never through a proxy
	db        *database
	jumio     *jumioSandbox
	load      *chaosLoad
	instances []*chaosInstance
	// spooled gives each receiving instance a spool. Then callbacks are answered
	// with 200 whatever happens to Postgres.
	spooled bool
	// stranded says that there may be jobs marked as running that no worker has,
	// a killed one's or those whose answer was lost on the way to the worker, and
	// leases that could not be given back. Both run out by themselves.
	stranded bool
	// calm is how many goroutines a fresh instance has, by its role.
	calm map[string]float64
}

// chaosInstance is one of the rig's instances, over all its restarts.
type chaosInstance struct {
	*instance
	role    string
	environ []string
}

func newChaosRig(t *testing.T, dsn string) *chaosRig {
	t.Helper()
	jumio := startSandbox(t, "--fast-images")
	t.Logf("-chaos.seed=%d", seed())
	return &chaosRig{
		t: t, rng: seeded(t.Name()), line: newLedgerLine(t), dsn: dsn, db: open(t, dsn), spooled: true,
		jumio: jumio, load: newChaosLoad(t, jumio), calm: map[string]float64{},
	}
}

// ownPostgres is a Postgres that the test may break, with the schema in it.
func ownPostgres(t *testing.T) *outage {
	t.Helper()
	postgres := newOutage(t)
	succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
	return postgres
}

// The roles of instances.
const (
	roleBoth     = "both"
	roleReceiver = "receiver"
	roleWorker   = "worker"
)

// serve adds an instance of the role; more settings replace the usual ones.
func (r *chaosRig) serve(role string, more ...string) *chaosInstance {
	r.t.Helper()
	environ := append(retrieving(r.dsn, r.jumio), "CALLBACKD_WORKERS=4", "CALLBACKD_RETRIEVAL_DELAYS="+chaosDelays(),
		"CALLBACKD_STORE_TIMEOUT=2s", "CALLBACKD_SHUTDOWN_TIMEOUT=5s")
	if r.spooled && role != roleWorker {
		environ = append(environ, "CALLBACKD_SPOOL_DIR="+filepath.Join(r.t.TempDir(), "spool"))
	}
	switch role {
	case roleReceiver:
		environ = append(environ, "CALLBACKD_WORKERS=0")
	case roleWorker:
		environ = append(environ, "CALLBACKD_RECEIVE=false")
	}
	i := &chaosInstance{role: role, environ: append(environ, more...)}
	r.instances = append(r.instances, i)
	r.restart(i)
	return i
}

// restart starts an instance that has ended, with the same settings.
func (r *chaosRig) restart(i *chaosInstance) {
	r.t.Helper()
	i.instance = serve(r.t, i.environ)
	var targets []string
	for _, one := range r.instances {
		if one.role != roleWorker {
			targets = append(targets, one.callbackURL())
		}
	}
	r.load.targets.Store(&targets)
}

// warmUp lets some callbacks through and notes how the instances are at rest.
func (r *chaosRig) warmUp() {
	r.t.Helper()
	const some = 30
	r.load.start()
	r.awaitMore(some)
	r.settle()
	for _, i := range r.instances {
		r.calm[i.role] = max(r.calm[i.role], i.goroutines())
	}
}

func (i *chaosInstance) goroutines() float64 { return i.metrics(i.t)["go_goroutines"] }

// fault counts what goes wrong next.
func (r *chaosRig) fault(kind string) {
	r.line.faults[kind]++
	r.t.Logf("%s: %s", time.Now().UTC().Format(time.TimeOnly), kind)
}

// awaitMore waits until so many more callbacks are acknowledged.
func (r *chaosRig) awaitMore(n int64) {
	r.t.Helper()
	want := r.load.answered.Load() + n
	eventually(r.t, 3*patience, func() error {
		if got := r.load.answered.Load(); got < want {
			return fmt.Errorf("%d callbacks were answered with 200, want %d", got, want)
		}
		return nil
	})
}

// moment waits for a random time below most.
func (r *chaosRig) moment(most time.Duration) { hold(time.Duration(r.rng.Int64N(int64(most)))) }

// hold keeps a fault up.
func hold(d time.Duration) { <-time.After(d) }

// felt waits until the fault is felt by callbacks, and where there is a spool
// until many have been answered with 200 all the same.
func (r *chaosRig) felt() {
	r.t.Helper()
	r.awaitDegraded()
	if r.spooled {
		r.awaitMore(chaosSenders)
	}
}

// settle ends the load and waits until every acknowledged callback is stored,
// everything is promoted, every workflow execution is in its end state, no job is
// left, and the instances are at rest. Then it audits the ledger.
func (r *chaosRig) settle() {
	r.t.Helper()
	r.load.stop()
	limit := 3 * patience
	if r.stranded {
		limit += takeOverTime
		if !*chaosFull {
			r.turnClock()
		}
	}
	audited := false
	defer func() {
		if !audited {
			r.audit() // it tells what is missing
		}
	}()
	eventually(r.t, limit, r.settled)
	r.stranded, audited = false, true
	r.audit()
	eventually(r.t, patience, r.atRest)
}

// turnClock saves the short version the three minutes after which a stranded
// retrieval is taken over: the workers are stopped in good order, so that what is
// still marked as running is stranded, and made older.
func (r *chaosRig) turnClock() {
	r.t.Helper()
	for _, i := range r.instances {
		if i.role != roleReceiver {
			i.stop(terminate)
		}
	}
	r.exec(`UPDATE callbackd.river_job SET attempted_at = attempted_at - interval '1 hour' WHERE state = 'running'`)
	r.exec(`DELETE FROM callbackd.river_leader`) // a killed leader's term is over, too
	r.exec(`UPDATE callbackd.workflow_executions SET lease_until = clock_timestamp() WHERE lease_until IS NOT NULL`)
	for _, i := range r.instances {
		if i.role != roleReceiver {
			r.restart(i)
		}
	}
}

func (r *chaosRig) exec(sql string, args ...any) {
	r.t.Helper()
	if _, err := r.db.pool.Exec(r.t.Context(), sql, args...); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// settled: all is stored, promoted, retrieved, and no job is left.
func (r *chaosRig) settled() error {
	stored := r.db.count(`SELECT count(*) FROM jumio.callbacks`)
	promoted := r.db.count(`SELECT coalesce(sum(callback_count), 0)::int FROM jumio.workflow_executions`)
	if stored < int(r.load.answered.Load()) || promoted != stored {
		return fmt.Errorf("%d callbacks are acknowledged, %d stored, %d promoted", r.load.answered.Load(), stored, promoted)
	}
	for _, i := range r.instances {
		if n := i.metrics(r.t)["callbackd_spool_callbacks"]; n > 0 {
			return fmt.Errorf("%.0f callbacks are in the spool", n)
		}
	}
	open := query(r.db, pgx.RowTo[string], `SELECT concat_ws(' ', state, attempt, args) FROM callbackd.river_job
		WHERE state NOT IN ('completed', 'cancelled', 'discarded') LIMIT 5`)
	if len(open) > 0 {
		return fmt.Errorf("jobs are left: %s", strings.Join(open, "; "))
	}
	if n := r.db.count(`SELECT count(*)::int FROM callbackd.workflow_executions WHERE retrieval_due_at < now() + interval '1 minute'`); n > 0 {
		return fmt.Errorf("%d retrievals are due soon", n)
	}
	rows := workflows(r.db)
	for _, w := range r.load.workflows {
		if row := rows[w.id]; row.State != w.state {
			return fmt.Errorf("workflow execution %s: %+v, want %s", w.id, row, w.state)
		}
	}
	return nil
}

// atRest: no instance has kept goroutines or connections, and the database no
// session that is not theirs.
func (r *chaosRig) atRest() error {
	connections := 0.0
	for _, i := range r.instances {
		if calm, before := r.calm[i.role]; before && i.goroutines() > calm+goroutineSlack {
			return fmt.Errorf("%s: %.0f goroutines, %.0f before", i.role, i.goroutines(), calm)
		}
		connections += i.metrics(r.t)["callbackd_pool_connections"]
		if i.role != roleReceiver {
			connections += 2 // those that listen
		}
	}
	sessions := r.db.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'callbackd'`)
	if float64(sessions) > connections {
		return fmt.Errorf("%d sessions in the database, the instances have %.0f connections", sessions, connections)
	}
	return nil
}

// audit compares the database with what was sent.
func (r *chaosRig) audit() {
	r.t.Helper()
	l := r.line
	ids := map[string][]string{} // of the rows, by mark
	for _, row := range r.db.texts(`SELECT callback_id || ' ' || (convert_from(body, 'UTF8')::jsonb ->> 'mark') FROM jumio.callbacks`) {
		id, mark, _ := strings.Cut(row, " ")
		ids[mark] = append(ids[mark], id)
	}
	l.sent, l.acknowledged, l.stored, l.lost, l.duplicated = len(r.load.posts), 0, 0, 0, 0
	for _, p := range r.load.posts {
		stored := ids[p.mark]
		l.stored += min(1, len(stored))
		l.duplicated += max(0, len(stored)-1)
		if p.requestID != "" {
			l.acknowledged++
			if !slices.Contains(stored, p.requestID) {
				l.lost++
			}
		}
	}
	r.auditRetrievals()
	l.duplicated += r.db.count(`SELECT coalesce(sum(n - 1), 0)::int FROM (SELECT count(*) AS n FROM jumio.images
		GROUP BY workflow_execution_id, credential_id, classifier) AS parts`)
	if l.lost > 0 || l.duplicated > 0 {
		r.t.Errorf("%d callbacks are lost, %d things duplicated", l.lost, l.duplicated)
	}
	if n := r.load.counts()[http.StatusServiceUnavailable]; n > 0 && r.spooled {
		r.t.Errorf("%d callbacks were answered with 503 although there is a spool", n)
	}
	if n := checkImages(r.t, r.db, r.sentJourneys()); n == 0 {
		r.t.Error("no image was retrieved: the load is not what the test wants")
	}
}

// auditRetrievals: nothing is published more often than was asked for.
func (r *chaosRig) auditRetrievals() {
	type count struct {
		ID        string `db:"workflow_execution_id"`
		Ended     int
		Retrieved int
	}
	published := map[string]count{}
	r.line.retrieved = 0
	for _, c := range query(r.db, pgx.RowToStructByName[count], `SELECT workflow_execution_id,
		count(*) FILTER (WHERE type NOT IN ('callback_received', 'details_retrieved')) AS ended, count(*) FILTER (WHERE type = 'retrieved') AS retrieved
		FROM jumio.events GROUP BY 1`) {
		published[c.ID] = c
		r.line.retrieved += c.Retrieved
	}
	for _, w := range r.load.workflows {
		ended := published[w.id].Ended
		if ended > w.asks {
			r.line.duplicated += ended - w.asks
			r.t.Errorf("%s was asked for %d times and published %d times", w.id, w.asks, ended)
		}
		if w.asks > 0 && ended == 0 {
			r.t.Errorf("%s has ended without an event", w.id)
		}
	}
}

// sentJourneys are the sandbox's entries for what was sent.
func (r *chaosRig) sentJourneys() []sandbox.Entry {
	r.t.Helper()
	sent := map[string]bool{}
	for _, w := range r.load.workflows {
		sent[w.id] = w.known
	}
	return slices.DeleteFunc(r.jumio.ledger().Journeys, func(e sandbox.Entry) bool { return !sent[e.WorkflowExecutionID] })
}

// checkDownloads: no more than one retrieval of a workflow execution ran at a
// time, and nothing was downloaded again for the same retrieval. Where workers
// are killed or the database fails, the second cannot be demanded: what had not
// been stored yet has to be fetched again.
func (r *chaosRig) checkDownloads(once bool) {
	r.t.Helper()
	asks := map[string]int{}
	for _, w := range r.load.workflows {
		asks[w.id] = w.asks
	}
	for _, e := range r.sentJourneys() {
		if e.MaxConcurrentSame > 1 {
			r.t.Errorf("%s was retrieved %d times at once", e.WorkflowExecutionID, e.MaxConcurrentSame)
		}
		for _, hits := range append([]sandbox.ImageHits{{Hits: e.DetailsRequests}}, e.Images...) {
			if once && hits.OK > asks[e.WorkflowExecutionID] {
				r.t.Errorf("%s was asked for %d times, and a part of it downloaded %d times", e.WorkflowExecutionID, asks[e.WorkflowExecutionID], hits.OK)
			}
		}
	}
}
