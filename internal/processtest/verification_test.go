package processtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"callbackd/internal/sandbox"
	"callbackd/internal/store/storetest"
)

// The sandbox's clock is so much faster that a token of five minutes lives for a second,
// and a session of fifteen for three.
const (
	sandboxSpeed     = "300"
	shortLifetime    = "5m"
	lifetimeInTest   = "1 second"
	sessionInTest    = "3s"
	reconcileDelays  = "0s,1s,1s,2s,3s,5s,8s,15s"
	questions        = 8 // of these delays
	startedBySQL     = 290
	startedByCommand = 10 // one a second, as Jumio allows
)

// begun is a verification as whoever started it knows it.
type begun struct {
	id, account, dataCenter string
	token                   string // of the API, to finalize it
}

// TestNoVerificationGoesMissing: whatever happens to callbacks, instances and a data
// center, every verification that was started ends as Jumio's ledger says.
func TestNoVerificationGoesMissing(t *testing.T) {
	t.Parallel()
	jumio := startSandbox(t, "--fast-images", "--speed", sandboxSpeed,
		"--client", "amer:amer-secret-1:amer-1", "--client", "emea:emea-secret-1:emea-1", "--status-data-center", "emea-1")
	dsn := migrated(t)
	db := open(t, dsn)
	common := append(retrieving(dsn, jumio),
		"JUMIO_ACCOUNT_URL="+jumio.url, "JUMIO_API_URL="+jumio.url, "JUMIO_STATUS_URL="+jumio.url, "CALLBACKD_JUMIO_HEALTH_INTERVAL=1s",
		"JUMIO_CLIENT_ID_AMER_1=amer", "JUMIO_CLIENT_SECRET_AMER_1=amer-secret-1",
		"JUMIO_CLIENT_ID_EMEA_1=emea", "JUMIO_CLIENT_SECRET_EMEA_1=emea-secret-1",
		"CALLBACKD_SESSION_TIMEOUT="+sessionInTest, "CALLBACKD_RECONCILE_GRACE=1s", "CALLBACKD_RECONCILE_DELAYS="+reconcileDelays)
	receiver := serve(t, receiving(dsn))
	workers := []*instance{serve(t, append(common, "CALLBACKD_RECEIVE=false")), serve(t, append(common, "CALLBACKD_RECEIVE=false"))}

	s := &starter{t: t, jumio: jumio, callbackURL: receiver.callbackURL(), dsn: dsn, environ: common}
	var commands sync.WaitGroup
	commands.Go(s.byCommand)
	s.bySQL()
	commands.Wait()
	// These tokens live for long, and so do their deadlines: their callbacks must have come.
	eventually(t, patience, func() error {
		if n := db.count(`SELECT count(*) FROM jumio.verifications WHERE user_reference LIKE 'customer-%' AND first_callback_at IS NOT NULL`); n < startedByCommand {
			return fmt.Errorf("callbacks of %d verifications have come", n)
		}
		return nil
	})

	// A worker and the receiver die, and a data center is down for a while.
	workers[0].kill()
	jumio.setHealth(t, "DOWN")
	receiver.kill()
	workers[0] = serve(t, append(common, "CALLBACKD_RECEIVE=false"))
	eventually(t, patience, func() error {
		if h := workers[0].metrics(t)[`callbackd_jumio_health{data_center="emea-1",service="retrieval"}`]; h != 0 {
			return fmt.Errorf("the worker takes Jumio for healthy: %g", h)
		}
		return nil
	})
	workers[1].kill()
	jumio.setHealth(t, "UP")
	serve(t, append(common, "CALLBACKD_RECEIVE=false"))

	ledger := awaitEnds(t, db, jumio)
	s.check(db, ledger)
}

// starter is a service that starts verifications at Jumio by itself, and support at the
// command line.
type starter struct {
	t           *testing.T
	jumio       *jumioSandbox
	callbackURL string
	dsn         string
	environ     []string
}

// bySQL creates accounts at Jumio and says so in SQL, as a member of jumio_starter.
func (s *starter) bySQL() {
	s.t.Helper()
	pool, err := pgxpool.New(s.t.Context(), storetest.AsMember(s.t, s.dsn, "jumio_starter"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer pool.Close()
	var group errgroup.Group
	group.SetLimit(8)
	for i := range startedBySQL {
		group.Go(func() error {
			one, err := s.create([]string{"amer-1", "emea-1"}[i%2], s.criteria(i))
			if err != nil {
				return err
			}
			_, err = pool.Exec(s.t.Context(), `SELECT jumio.expect($1, $2, $3, $4, '3', $5::interval)`,
				one.id, one.account, one.dataCenter, fmt.Sprintf("person-%d", i), lifetimeInTest)
			if err == nil && i%10 < 7 { // the others are never finalized
				err = s.finalize(one)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

// criteria says what becomes of the nth: a tenth lose their callbacks, one in fifty is
// never answered for by Get Status, either.
func (s *starter) criteria(n int) string {
	switch {
	case n%50 == 7:
		return "kind=passed-passport fault=callback:lost fault=status:404"
	case n%10 == 3:
		return "kind=passed-passport fault=callback:lost"
	}
	return "kind=passed-passport"
}

func (s *starter) create(dataCenter, criteria string) (one begun, err error) {
	client := strings.TrimSuffix(dataCenter, "-1")
	body, _ := json.Marshal(map[string]any{
		"customerInternalReference": "order", "callbackUrl": s.callbackURL, "tokenLifetime": shortLifetime, "reportingCriteria": criteria,
		"workflowDefinition": map[string]any{"key": 3},
	})
	a, err := s.request(http.MethodPost, s.jumio.url+"/api/v1/accounts", body, func(r *http.Request) { r.SetBasicAuth(client, client+"-secret-1") })
	if err != nil {
		return one, err
	}
	var created struct {
		Account struct {
			ID string `json:"id"`
		} `json:"account"`
		WorkflowExecution struct {
			ID          string `json:"id"`
			Credentials []struct {
				API struct {
					Token string `json:"token"`
				} `json:"api"`
			} `json:"credentials"`
		} `json:"workflowExecution"`
	}
	if err := json.Unmarshal([]byte(a.body), &created); err != nil {
		return one, err
	}
	return begun{created.WorkflowExecution.ID, created.Account.ID, dataCenter, created.WorkflowExecution.Credentials[0].API.Token}, nil
}

func (s *starter) finalize(one begun) error {
	url := fmt.Sprintf("%s/api/v1/accounts/%s/workflow-executions/%s", s.jumio.url, one.account, one.id)
	a, err := s.request(http.MethodPut, url, nil, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+one.token) })
	if a != nil && a.code == http.StatusUnauthorized {
		return nil // too late on a busy machine: the token has expired, and the ledger knows
	}
	return err
}

func (s *starter) request(method, url string, body []byte, authorize func(*http.Request)) (*answer, error) {
	r, err := http.NewRequestWithContext(s.t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Example Processtest/v1.0")
	authorize(r)
	a, err := do(client, r)
	if err == nil && a.code/100 != 2 {
		err = fmt.Errorf("%s %s: %d %s", method, r.URL.Path, a.code, a.body)
	}
	return a, err
}

// byCommand starts some with callbackd itself, and finalizes them.
func (s *starter) byCommand() {
	for i := range startedByCommand {
		answer := succeed(s.t, append(s.environ, "CALLBACKD_PUBLIC_CALLBACK_URL="+s.callbackURL), "verification", "create",
			"--data-center", "amer-1", "--key", "3", "--customer-internal-reference", "order", "--user-reference", fmt.Sprintf("customer-%d", i),
			"--token-lifetime", "2h", "--reporting-criteria", "kind=passed-passport")
		file := filepath.Join(s.t.TempDir(), "answer.json")
		if err := os.WriteFile(file, []byte(answer), 0o600); err != nil {
			s.t.Error(err)
			return
		}
		succeed(s.t, s.environ, "verification", "finalize", file)
	}
}

// awaitEnds waits until every verification has ended as the ledger says.
func awaitEnds(t *testing.T, db *database, jumio *jumioSandbox) sandbox.Ledger {
	t.Helper()
	var l sandbox.Ledger
	eventually(t, takeOverTime, func() error {
		l = jumio.ledger()
		rows := query(db, pgx.RowToStructByName[verificationRow], `SELECT workflow_execution_id, stage, retrieval_state FROM jumio.verifications`)
		stages := make(map[string]verificationRow, len(rows))
		for _, row := range rows {
			stages[row.ID] = row
		}
		wrong, example := 0, ""
		for _, e := range l.Journeys {
			row := stages[e.WorkflowExecutionID]
			silent := isSilent(e)
			if row.State != string(e.Expected.State) && !silent || silent && row.Stage != "overdue" {
				wrong++
				example = fmt.Sprintf("%s is %s and %s, want %s (%s, %v)", e.WorkflowExecutionID, row.Stage, row.State, e.Expected.State, e.Status, e.Faults)
			}
		}
		if want := startedBySQL + startedByCommand; wrong > 0 || len(l.Journeys) != want {
			return fmt.Errorf("%d of %d have not ended: %s", wrong, len(l.Journeys), example)
		}
		return nil
	})
	return l
}

type verificationRow struct {
	ID    string `db:"workflow_execution_id"`
	Stage string `db:"stage"`
	State string `db:"retrieval_state"`
}

// check looks at what happened on the way.
func (s *starter) check(db *database, l sandbox.Ledger) {
	s.t.Helper()
	// Each of two workers that died may have repeated what it had in progress.
	const inProgress = 2 * 8
	details, asked := 0, 0
	for _, e := range l.Journeys {
		if e.MaxConcurrentSame > 1 {
			s.t.Errorf("%s was asked for twice at a time", e.WorkflowExecutionID)
		}
		details += max(e.DetailsRequests.OK-1, 0)
		asked = max(asked, e.StatusRequests.Requests)
	}
	if details > inProgress {
		s.t.Errorf("details were retrieved again %d times, want at most %d", details, inProgress)
	}
	// A question for each delay, and again from the start for each of at most three
	// callbacks that were not final; one more early, and one for each worker that died.
	if most := 4*questions + 1 + 2; asked > most {
		s.t.Errorf("Jumio was asked %d times for one verification, want at most %d", asked, most)
	}
	if n := db.count(`SELECT count(*) FROM jumio.verifications WHERE stage = 'overdue'`); n != silent(l) {
		s.t.Errorf("%d are overdue, want %d", n, silent(l))
	}
	recovered := db.count(`SELECT count(*) FROM jumio.events WHERE type = 'missed_callback_recovered'`)
	if recovered == 0 || recovered != db.count(`SELECT count(*) FROM jumio.expectations WHERE state = 'recovered'`) {
		s.t.Errorf("%d recoveries, which are not the expectations' states", recovered)
	}
	if n := db.count(`SELECT count(*) FROM jumio.expectations WHERE state = 'expected'`); n != 0 {
		s.t.Errorf("%d are still expected: %v", n, db.texts(`SELECT concat_ws(' ', v.workflow_execution_id, v.stage, v.status, v.retrieval_state, v.expected_at, v.first_callback_at,
			e.deadline_at, e.asked_count, e.last_asked_at, e.next_ask_at)
			FROM jumio.expectations AS e JOIN jumio.verifications AS v USING (workflow_execution_id) WHERE e.state = 'expected'`))
	}
	s.t.Logf("%d recovered, at most %d questions for one", recovered, asked)
}

// isSilent reports whether the sandbox neither sends a callback nor answers Get Status.
func isSilent(e sandbox.Entry) bool {
	return slices.ContainsFunc(e.Faults, func(fault string) bool { return strings.HasPrefix(fault, "status:404") })
}

func silent(l sandbox.Ledger) (n int) {
	for _, e := range l.Journeys {
		if isSilent(e) {
			n++
		}
	}
	return n
}

// setHealth sets what the sandbox says of emea-1, and whether it retrieves there.
func (s *jumioSandbox) setHealth(t *testing.T, state string) {
	t.Helper()
	body := fmt.Sprintf(`{"data_center":"emea-1","status":%q,"details":{"retrieval":%q,"callback":%q}}`, state, state, state)
	a, err := tryPost(s.url+"/_sandbox/health", "", "application/json", body)
	if err != nil || a.code/100 != 2 {
		t.Fatalf("set the sandbox's health: %v %+v", err, a)
	}
}
