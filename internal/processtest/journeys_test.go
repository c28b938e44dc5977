package processtest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/sandbox"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// maxAttempts is the guide's limit ("Retrieval", Best Practices) and the length
// of fastDelays.
const maxAttempts = 10

// TestTwoHundredJourneys is the main job from end to end: two hundred journeys,
// most of them with a fault, and one forged callback, on one instance that does
// everything and a worker-only one beside it.
func TestTwoHundredJourneys(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	jumio := startSandbox(t, "--fast-images", "--fault-rate", "0.8", "--intermediate", "0.5")
	names := startNameServer(t, dnsAddress)
	s := serve(t, append(retrieving(dsn, jumio), "CALLBACKD_JUMIO_HOSTS=callback.test", "CALLBACKD_DNS_SERVER="+names.address))
	worker := serve(t, append(retrieving(dsn, jumio), "CALLBACKD_RECEIVE=false"))
	consumer := consumeEvents(t, storetest.AsMember(t, dsn, "jumio_reader"))

	var ids []string
	for _, j := range []journeys{
		{Count: 188},
		{Count: 3, Kind: "passed-id-card", Faults: []string{"details:500:7"}},
		{Count: 3, Kind: "passed-passport", Faults: []string{"image:404:0:part=FRONT"}},
		{Count: 3, Kind: "passed-passport", Faults: []string{"details:500"}},
		{Count: 3, Kind: "token-expired"},
	} {
		j.CallbackURL, j.Hold = s.callbackURL(), true
		for _, e := range jumio.send(j) {
			ids = append(ids, e.WorkflowExecutionID)
		}
	}
	if len(ids) != 200 {
		t.Fatalf("%d journeys, want 200", len(ids))
	}
	jumio.sendHeld(ids)
	forged := processed("forged")
	rejectedID := s.post(t, foreignAddress, "application/json", forged).wantCode(t, http.StatusForbidden).header.Get("X-Request-Id")

	awaitExpectedStates(t, db, jumio)
	l := jumio.ledger()
	if n := checkImages(t, db, l.Journeys); n < 300 {
		t.Errorf("only %d images: the journeys are not what this test wants", n)
	}
	checkRequests(t, db, l, s, worker)
	checkForged(t, db, rejectedID, forged)
	checkMetrics(t, db, s, worker, l)
	checkEvents(t, db, l, consumer)
	s.stop(terminate)
	worker.stop(terminate)
}

// awaitExpectedStates waits until every delivery is promoted and every workflow
// execution is in the end state that the sandbox expects, and in no other.
func awaitExpectedStates(t *testing.T, db *database, jumio *jumioSandbox) {
	t.Helper()
	eventually(t, 3*patience, func() error {
		l := jumio.ledger()
		rows := workflows(db)
		if len(rows) != len(l.Journeys) {
			return fmt.Errorf("%d workflow executions, want %d", len(rows), len(l.Journeys))
		}
		for _, e := range l.Journeys {
			if w := rows[e.WorkflowExecutionID]; w.State != string(e.Expected.State) {
				return fmt.Errorf("%s, faults %q: %+v, want %s", e.Kind, e.Faults, w, e.Expected.State)
			}
		}
		promoted := db.count(`SELECT coalesce(sum(callback_count), 0)::int FROM jumio.workflow_executions`)
		if promoted != l.Totals.CallbacksAcknowledged {
			return fmt.Errorf("%d callbacks promoted, %d acknowledged", promoted, l.Totals.CallbacksAcknowledged)
		}
		return nil
	})
}

func workflows(db *database) map[string]workflowRow {
	db.t.Helper()
	rows := map[string]workflowRow{}
	for _, w := range query(db, pgx.RowToStructByName[workflowRow], selectWorkflows) {
		rows[w.ID] = w
	}
	return rows
}

// imageRow is a row of jumio.images, with the hash that Postgres makes of data.
type imageRow struct {
	WorkflowExecutionID string
	sandbox.Image
}

func compareImages(a, b imageRow) int {
	key := func(i imageRow) []string { return []string{i.WorkflowExecutionID, i.CredentialID, i.Classifier} }
	return slices.Compare(key(a), key(b))
}

// checkImages compares every image, byte for byte by its SHA-256, with what the
// sandbox served, and returns how many there are.
func checkImages(t *testing.T, db *database, journeys []sandbox.Entry) int {
	t.Helper()
	var want []imageRow
	for _, e := range journeys {
		for _, i := range e.Expected.Images {
			want = append(want, imageRow{e.WorkflowExecutionID, i})
		}
	}
	got := query(db, func(row pgx.CollectableRow) (i imageRow, err error) {
		err = row.Scan(&i.WorkflowExecutionID, &i.AccountID, &i.CredentialID, &i.Category, &i.Classifier, &i.ContentType, &i.SHA256, &i.Size)
		return i, err
	}, `SELECT workflow_execution_id, account_id, credential_id, category, classifier, content_type,
		encode(sha256(data), 'hex'), octet_length(data) FROM jumio.images`)
	slices.SortFunc(want, compareImages)
	slices.SortFunc(got, compareImages)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-served +stored):\n%s", diff)
	}
	if n := db.count(`SELECT count(*) FROM jumio.images WHERE sha256 <> sha256(data) OR size_bytes <> octet_length(data)`); n > 0 {
		t.Errorf("%d images have a wrong sha256 or size_bytes", n)
	}
	return len(got)
}

// checkRequests: never more than ten attempts, never two at a time, and nothing
// fetched twice. Requests beyond one for each attempt are those repeated after a
// 401. An attempt without one had two tokens revoked, for other journeys: the
// sandbox counts requests with such tokens for no journey.
func checkRequests(t *testing.T, db *database, l sandbox.Ledger, instances ...*instance) {
	t.Helper()
	rows, repeated, uncounted := workflows(db), 0, 0
	for _, e := range l.Journeys {
		w := rows[e.WorkflowExecutionID]
		if w.Attempts > maxAttempts {
			t.Errorf("%d attempts of %s, at most %d are allowed", w.Attempts, e.Kind, maxAttempts)
		}
		if e.MaxConcurrentSame > 1 {
			t.Errorf("%s was retrieved %d times at once", e.Kind, e.MaxConcurrentSame)
		}
		addresses := []sandbox.Hits{e.StatusRequests, e.DetailsRequests}
		for _, i := range e.Images {
			addresses = append(addresses, i.Hits)
		}
		for _, hits := range addresses {
			if hits.OK > 1 || hits.Requests > 2*w.Attempts {
				t.Errorf("%s, faults %q: %d requests for one address, %d of them successful, in %d attempts:\n%s", e.Kind, e.Faults, hits.Requests, hits.OK, w.Attempts, linesOf(e.WorkflowExecutionID, instances))
			}
			repeated += max(0, hits.Requests-w.Attempts)
		}
		if e.Expected.State != workflow.Failed {
			continue
		}
		if w.Attempts != maxAttempts {
			t.Errorf("%s, faults %q: it failed after %d attempts, want all %d:\n%s", e.Kind, e.Faults, w.Attempts, maxAttempts, linesOf(e.WorkflowExecutionID, instances))
		}
		uncounted += max(0, w.Attempts-e.DetailsRequests.Requests)
	}
	unauthorized := l.Totals.Responses["status 401"] + l.Totals.Responses["details 401"] + l.Totals.Responses["image 401"]
	if repeated > unauthorized {
		t.Errorf("%d requests more than attempts, but only %d answers were 401", repeated, unauthorized)
	}
	if 2*uncounted > unauthorized {
		t.Errorf("%d attempts without a request, but only %d answers were 401", uncounted, unauthorized)
	}
	if l.Totals.RedirectsFollowed > 0 {
		t.Errorf("%d redirects were followed", l.Totals.RedirectsFollowed)
	}
}

// linesOf are the lines of the instances' logs about a workflow execution.
func linesOf(id string, instances []*instance) string {
	var lines []string
	for _, i := range instances {
		for _, line := range i.stderr.lines() {
			if strings.Contains(line, id) {
				lines = append(lines, line)
			}
		}
	}
	return strings.Join(lines, "\n")
}

// checkForged: the forged callback was kept as rejected, and nowhere else.
func checkForged(t *testing.T, db *database, id, body string) {
	t.Helper()
	got := db.texts(`SELECT concat_ws(' ', rejected_id, host(source_ip), reason, convert_from(body, 'UTF8')) FROM jumio.rejected_callbacks`)
	want := []string{id + " " + foreignAddress + " address_not_allowed " + body}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("jumio.rejected_callbacks:\n%s", diff)
	}
	if n := db.count(`SELECT count(*) FROM jumio.callbacks WHERE host(source_ip) <> $1 OR workflow_execution_id = 'forged'`, jumioAddress); n > 0 {
		t.Errorf("%d callbacks from elsewhere are in jumio.callbacks", n)
	}
}
