package processtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/sandbox"
	"callbackd/internal/workflow"
)

const (
	// forgedRPS is the limit of requests to Jumio, for both workers together.
	forgedRPS = 200
	// mostMemoryForged is what a receiver or a worker may need at its worst.
	mostMemoryForged = 256 << 20

	// Callbacks begin at most pacedBurst retrievals of a workflow execution at
	// once, and one more every pacedInterval.
	pacedBurst    = 4
	pacedInterval = 10 * time.Minute
	// mostAsked is how many requests for one thing an attempt makes at most: at
	// eight addresses, and at each once more after a 401.
	mostAsked = 2 * 8
)

// soak is callbackd with the roles of deploy/roles.sql, genuine journeys, and a
// forger.
type soak struct {
	t        *testing.T
	roles    *rolesRig
	db       *database
	jumio    *jumioSandbox
	receiver *instance
	workers  []*instance
	// journeys are the genuine ones, targets those of them whose callbacks are
	// forged: all but those that Jumio itself never ends. There, nothing tells a
	// forged end from a genuine one.
	journeys, targets []sandbox.Entry
	references        map[string]string // of the journeys, by workflow execution
	sent              atomic.Int64      // of the targets, by Jumio

	began   time.Time
	ctx     context.Context // ends with the forger
	stop    context.CancelFunc
	forgers sync.WaitGroup

	mu       sync.Mutex
	did      map[string]int // by kind of forgery
	posted   int            // callbacks of the forger's
	accepted int            // those that were answered 200
	inserted int            // rows of the forger's
}

// TestChaosForger: journeys end right, in bounded time and with a bounded number
// of requests, beside a forger who posts from an allowed address and has the two
// lesser database roles.
func TestChaosForger(t *testing.T) {
	t.Parallel()
	t.Logf("-chaos.seed=%d", seed())
	attack := times(2*time.Minute, 15*time.Second)
	rightWithin := times(2*time.Minute, time.Minute) // of the last genuine callback

	s := newSoak(t, int(5*attack.Seconds()))
	s.forge()
	s.sendJourneys(attack)
	last := time.Now()
	s.stop()
	s.forgers.Wait()
	eventually(t, time.Until(last.Add(rightWithin)), s.right)
	t.Logf("all journeys were right %v after the last genuine callback", time.Since(last).Round(time.Millisecond))
	eventually(t, 3*patience, s.calm)

	if err := s.right(); err != nil {
		t.Errorf("when everything else had ended: %v", err)
	}
	s.checkOwners()
	s.checkRequests()
	s.checkMetrics()
	s.checkStored()
	for _, i := range s.instances() {
		checkMemory(t, i, mostMemoryForged)
	}
}

func newSoak(t *testing.T, count int) *soak {
	t.Helper()
	path, err := plainProgram() // the race detector takes a multiple of the memory
	if err != nil {
		t.Fatal(err)
	}
	s := &soak{t: t, roles: newRolesRig(t, nil, nil), references: map[string]string{}, did: map[string]int{}}
	s.db = s.roles.db
	s.jumio = startSandbox(t, "--fast-images", "--fault-rate", "0.4", "--intermediate", "0.5")
	serve := func(environ []string) *instance {
		i := &instance{process: start(t, environ, nil, path, "serve"), path: callbackPath}
		i.awaitStart()
		return i
	}
	s.receiver = serve(receiving(s.roles.dsn(receiverLogin)))
	for range 2 {
		s.workers = append(s.workers, serve(append(retrieving(s.roles.dsn("callbackd_worker"), s.jumio),
			"CALLBACKD_RECEIVE=false", "CALLBACKD_RETRIEVAL_RPS="+strconv.Itoa(forgedRPS))))
	}
	for n := range count {
		j := journeys{UserReference: fmt.Sprintf("genuine-%d", n), CallbackURL: s.receiver.callbackURL(), Hold: true}
		switch n % 20 { // most are of the sandbox's mix
		case 0:
			j.Kind, j.Faults = "passed-passport", []string{"details:500"}
		case 10:
			j.Kind, j.Faults = "passed-id-card", []string{"image:404:0:part=FRONT"}
		}
		e := s.jumio.send(j)[0]
		s.journeys = append(s.journeys, e)
		s.references[e.WorkflowExecutionID] = j.UserReference
		if e.Expected.State != workflow.Awaiting {
			s.targets = append(s.targets, e)
		}
	}
	return s
}

func (s *soak) instances() []*instance { return append([]*instance{s.receiver}, s.workers...) }

// sendJourneys sends the genuine callbacks, evenly over the time, each of which
// must be answered with 200.
func (s *soak) sendJourneys(over time.Duration) {
	s.t.Helper()
	next := time.NewTicker(over / time.Duration(len(s.journeys)))
	defer next.Stop()
	for _, e := range s.journeys {
		<-next.C
		s.jumio.sendHeld([]string{e.WorkflowExecutionID})
		if e.Expected.State != workflow.Awaiting {
			s.sent.Add(1)
		}
	}
}

// right: the instances are ready, everything is promoted, and each journey is in
// the state in which it is to end.
func (s *soak) right() error {
	for _, i := range s.instances() {
		if a, err := get(i.admin + "/readyz"); err != nil || a.code != http.StatusOK {
			return fmt.Errorf("an instance is not ready: %+v, %w", a, err)
		}
	}
	if n := s.db.count(`SELECT count(*) FROM callbackd.inbox`); n > 0 {
		return fmt.Errorf("%d callbacks are not promoted", n)
	}
	rows, wrong := workflows(s.db), []error(nil)
	for _, e := range s.journeys {
		if w := rows[e.WorkflowExecutionID]; w.State != string(e.Expected.State) {
			wrong = append(wrong, fmt.Errorf("%s, faults %q: %+v, want %s", e.Kind, e.Faults, w, e.Expected.State))
		}
	}
	return errors.Join(wrong...)
}

// calm: what the forger has begun has ended, too, and nothing is pending.
func (s *soak) calm() error {
	if n := s.db.count(`SELECT count(*) FROM callbackd.workflow_executions WHERE retrieval_state = 'pending' OR retrieval_due_at <= now()`); n > 0 {
		return fmt.Errorf("%d retrievals are pending or due", n)
	}
	if n := s.db.count(`SELECT count(*) FROM callbackd.river_job WHERE state <> 'completed'`); n > 0 {
		return fmt.Errorf("%d jobs are not completed", n)
	}
	return nil
}

// checkOwners: every image is there and is its owner's, and every result is of
// the account and the reference that Jumio knows.
func (s *soak) checkOwners() {
	s.t.Helper()
	if n := checkImages(s.t, s.db, s.jumio.ledger().Journeys); n == 0 {
		s.t.Error("no image was retrieved: the journeys are not what the test wants")
	}
	type owner struct {
		ID        string `db:"workflow_execution_id"`
		Account   string `db:"account_id"`
		Reference string `db:"user_reference"`
	}
	owners := map[string]owner{}
	for _, o := range query(s.db, pgx.RowToStructByName[owner], `SELECT workflow_execution_id, coalesce(account_id, '') AS account_id,
		coalesce(user_reference, '') AS user_reference FROM jumio.workflow_executions WHERE retrieval_state IN ('retrieved', 'partial')`) {
		owners[o.ID] = o
	}
	for _, e := range s.journeys {
		want := owner{e.WorkflowExecutionID, e.AccountID, s.references[e.WorkflowExecutionID]}
		got, there := owners[e.WorkflowExecutionID]
		if there && got != want {
			s.t.Errorf("%s is attached to %+v, want %+v", e.Kind, got, want)
		}
		delete(owners, e.WorkflowExecutionID)
	}
	if len(owners) > 0 {
		s.t.Errorf("%d workflow executions that nobody knows have a result", len(owners))
	}
}

// checkRequests: no more retrievals are begun than the pace allows, nothing is
// fetched twice in one of them, no two run at a time, and no attempt asks for more
// than it may.
func (s *soak) checkRequests() {
	s.t.Helper()
	retrievals := pacedBurst + int(time.Since(s.began)/pacedInterval)
	if n := s.db.count(`SELECT max(retrieval_generation) FROM callbackd.workflow_executions`); n > retrievals {
		s.t.Errorf("%d retrievals of one workflow execution were begun, want at most %d", n, retrievals)
	}
	busiest := 0
	for _, e := range s.jumio.ledger().Journeys {
		if e.MaxConcurrentSame > 1 {
			s.t.Errorf("%s was retrieved %d times at once", e.Kind, e.MaxConcurrentSame)
		}
		things := []sandbox.Hits{e.DetailsRequests}
		for _, i := range e.Images {
			things = append(things, i.Hits)
		}
		for _, hits := range things {
			if hits.OK > retrievals {
				s.t.Errorf("%s, faults %q: one thing was fetched %d times in %d retrievals", e.Kind, e.Faults, hits.OK, retrievals)
			}
		}
		for _, hits := range append(things, e.StatusRequests) {
			busiest = max(busiest, hits.Requests)
		}
	}
	s.t.Logf("at most %d requests for one thing", busiest)
	if most := retrievals * maxAttempts * mostAsked; busiest > most {
		s.t.Errorf("%d requests for one thing, want at most %d", busiest, most)
	}
}

// checkMetrics: operators see what went on, and no job was lost to it.
func (s *soak) checkMetrics() {
	s.t.Helper()
	total := func(name string) (n float64) {
		for _, w := range s.workers {
			n += w.metrics(s.t)[name]
		}
		return n
	}
	for _, name := range []string{"callbackd_contradicting_callbacks_total", "callbackd_future_dated_callbacks_total"} {
		if total(name) == 0 {
			s.t.Errorf("%s is 0", name)
		}
	}
	if n := total("callbackd_requeued_retrievals_total"); n > 0 {
		s.t.Errorf("%.0f retrievals had lost their job", n)
	}
}

// checkStored: what was answered with 200 is stored, once, the forger's too. It
// writes the line of the ledger.
func (s *soak) checkStored() {
	s.t.Helper()
	totals, line := s.jumio.ledger().Totals, newLedgerLine(s.t)
	line.sent, line.acknowledged = totals.CallbacksSent+s.posted, totals.CallbacksAcknowledged+s.accepted
	line.stored = s.db.count(`SELECT count(*) FROM jumio.callbacks`) - s.inserted
	line.lost, line.duplicated = max(0, line.acknowledged-line.stored), max(0, line.stored-line.acknowledged)
	line.retrieved = s.db.count(`SELECT count(*) FROM jumio.events WHERE type = 'retrieved'`)
	line.faults = s.did
	if line.lost > 0 || line.duplicated > 0 {
		s.t.Errorf("%d callbacks are lost, %d stored twice", line.lost, line.duplicated)
	}
}
