package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox"
	"callbackd/internal/store/storetest"
)

// fetching is a sandbox whose clients see the verifications of one data center each, with
// credentials for two of the three, and a database.
type fetching struct {
	*sandbox.Sandbox
	store   *storetest.Store
	environ []string
}

func newFetching(t *testing.T, dataCenter string) *fetching {
	t.Helper()
	s := startSandbox(t, sandbox.Config{
		DataCenter: dataCenter,
		Clients:    []sandbox.Client{{ID: "amer", Secret: "s", DataCenter: "amer-1"}, {ID: "emea", Secret: "s", DataCenter: "emea-1"}},
	})
	dsn := storetest.NewMigrated(t)
	return &fetching{s, storetest.Open(t, dsn), []string{
		"DATABASE_URL=" + dsn, "JUMIO_USER_AGENT=Test Tests/v1.0",
		"JUMIO_CLIENT_ID_AMER_1=amer", "JUMIO_CLIENT_SECRET_AMER_1=s", "JUMIO_CLIENT_ID_EMEA_1=emea", "JUMIO_CLIENT_SECRET_EMEA_1=s",
		"JUMIO_TOKEN_URL=" + s.URL(), "JUMIO_RETRIEVAL_URL=" + s.URL(), "JUMIO_ACCOUNT_URL=" + s.URL(),
	}}
}

// journey is one that Jumio knows, and of which no callback comes.
func (f *fetching) journey(t *testing.T, kind string, faults ...sandbox.Fault) *sandbox.Journey {
	t.Helper()
	j, err := f.NewJourney(kind, sandbox.WithFaults(faults...))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func (f *fetching) fetch(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	return callbackd(t, append(f.environ, environ...), append([]string{"verification", "fetch"}, args...)...)
}

// kept is what the database has of all verifications: a line for each, and one for each
// event, callback, expectation and job.
func (f *fetching) kept(t *testing.T) (lines []string) {
	t.Helper()
	for _, row := range storetest.Query(t, f.store, `
		SELECT concat_ws(' ', workflow_execution_id, account_id, status, retrieval_state, callback_count, first_callback_at) FROM jumio.workflow_executions
		UNION ALL SELECT concat_ws(' ', 'event', workflow_execution_id, type) FROM jumio.events
		UNION ALL SELECT concat_ws(' ', 'callback', workflow_execution_id) FROM jumio.callbacks
		UNION ALL SELECT concat_ws(' ', 'expectation', workflow_execution_id, state) FROM jumio.expectations
		UNION ALL SELECT concat_ws(' ', 'job', args->>'workflow_execution_id') FROM callbackd.river_job`) {
		lines = append(lines, row[0].(string))
	}
	slices.Sort(lines)
	return lines
}

// TestFetchFinal: a final status that callbackd did not know is taken in, once, as
// reconciliation does.
func TestFetchFinal(t *testing.T) {
	f := newFetching(t, "amer-1")
	processed, expired := f.journey(t, "passed-passport"), f.journey(t, "session-expired")
	for _, want := range []string{"PROCESSED\n", "PROCESSED\n"} {
		if diff := cmp.Diff(result{0, want, ""}, f.fetch(t, nil, processed.WorkflowExecutionID)); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff(result{0, "SESSION_EXPIRED\n", ""}, f.fetch(t, nil, expired.WorkflowExecutionID)); diff != "" {
		t.Error(diff)
	}
	want := []string{
		processed.WorkflowExecutionID + " " + processed.AccountID + " PROCESSED pending 0",
		expired.WorkflowExecutionID + " " + expired.AccountID + " SESSION_EXPIRED not_required 0",
		"event " + processed.WorkflowExecutionID + " missed_callback_recovered", "event " + expired.WorkflowExecutionID + " missed_callback_recovered",
		"event " + expired.WorkflowExecutionID + " expired", "job " + processed.WorkflowExecutionID,
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, f.kept(t)); diff != "" {
		t.Error(diff)
	}
}

// TestFetchExpected: one that is expected is asked for where it was started, and its
// expectation is recovered by what is taken in.
func TestFetchExpected(t *testing.T) {
	f := newFetching(t, "emea-1")
	j := f.journey(t, "passed-passport")
	storetest.Query(t, f.store, `SELECT jumio.expect($1, $2, 'emea-1')`, j.WorkflowExecutionID, j.AccountID)
	got := f.fetch(t, []string{"JUMIO_DATA_CENTER=amer-1"}, j.WorkflowExecutionID)
	if diff := cmp.Diff(result{0, "PROCESSED\n", ""}, got); diff != "" {
		t.Error(diff)
	}
	if state := storetest.Scalar[string](t, f.store, `SELECT state FROM jumio.expectations`); state != "recovered" {
		t.Errorf("the expectation is %s", state)
	}
}

// TestFetchNotFinal: the status is printed, and nothing is left.
func TestFetchNotFinal(t *testing.T) {
	f := newFetching(t, "amer-1")
	acquired := f.journey(t, "passed-passport", sandbox.Fault{Endpoint: sandbox.EndpointStatus, Kind: sandbox.FaultNotFinal})
	if diff := cmp.Diff(result{0, "ACQUIRED\n", ""}, f.fetch(t, nil, acquired.WorkflowExecutionID)); diff != "" {
		t.Error(diff)
	}
	if kept := f.kept(t); kept != nil {
		t.Errorf("left %q", kept)
	}
	s := newStandIn(t, answered(200, `{"workflowExecution":{"id":"w","status":"LATER"}}`))
	if diff := cmp.Diff(result{0, "LATER\n", ""}, f.fetch(t, []string{"JUMIO_TOKEN_URL=" + s.URL, "JUMIO_RETRIEVAL_URL=" + s.URL}, "w")); diff != "" {
		t.Errorf("a status that is newer than the guide: %s", diff)
	}
	if kept := f.kept(t); kept != nil {
		t.Errorf("left %q", kept)
	}
}

// TestFetchWhere: where Jumio is asked, and what is told of one that is not there.
func TestFetchWhere(t *testing.T) {
	const nowhere, forbidden = "callbackd: no such workflow execution at Jumio where it was asked; --data-center and --account-id say where else to ask\n", "callbackd: forbidden: status answered 403\n"
	f := newFetching(t, "emea-1")
	j, second := f.journey(t, "passed-passport"), f.journey(t, "passed-visa")
	for _, tt := range []struct {
		environ, args []string
		wrong         string
	}{
		{nil, []string{"never-heard-of", "--data-center", "emea-1"}, nowhere},
		{nil, []string{j.WorkflowExecutionID, "--account-id", "another", "--data-center", "emea-1"}, nowhere},
		{nil, []string{j.WorkflowExecutionID, "--data-center", "amer-1"}, forbidden},
		{[]string{"JUMIO_DATA_CENTER=amer-1"}, []string{j.WorkflowExecutionID}, forbidden},
		{[]string{"JUMIO_DATA_CENTER=amer-1"}, []string{j.WorkflowExecutionID, "--data-center", "emea-1", "--account-id", j.AccountID}, ""},
		{nil, []string{second.WorkflowExecutionID}, ""}, // amer-1 is asked, and then emea-1
	} {
		want := result{1, "", tt.wrong}
		if tt.wrong == "" {
			want = result{0, "PROCESSED\n", ""}
		}
		if diff := cmp.Diff(want, f.fetch(t, tt.environ, tt.args...)); diff != "" {
			t.Errorf("%q: %s", tt.args, diff)
		}
		if kept := f.kept(t); (kept == nil) != (tt.wrong != "") {
			t.Errorf("%q: left %q", tt.args, kept)
		}
	}
	places := `SELECT count(*) FROM callbackd.workflow_executions WHERE data_center = 'emea-1'`
	if n := storetest.Scalar[int](t, f.store, places); n != 2 {
		t.Errorf("%d are in emea-1, want both", n)
	}
}

// TestFetchFails: exit code 1 and one line for whatever else Jumio answers, and for what is
// missing; nothing is left.
func TestFetchFails(t *testing.T) {
	f := newFetching(t, "amer-1")
	for kind, want := range map[sandbox.FaultKind]string{
		"403": "forbidden: status answered 403", "500": "server_error: status answered 500", sandbox.FaultBrokenJSON: "invalid_json: status: *", sandbox.FaultReset: "connection_failed: status: *",
	} {
		j := f.journey(t, "passed-passport", sandbox.Fault{Endpoint: sandbox.EndpointStatus, Kind: kind})
		got := f.fetch(t, nil, j.WorkflowExecutionID, "--data-center", "amer-1")
		if got.Code != 1 || got.Stdout != "" || strings.Count(got.Stderr, "\n") != 1 || !matches(strings.TrimSpace(got.Stderr), "callbackd: "+want) {
			t.Errorf("%s: got %+v", kind, got)
		}
	}
	noCredentials := f.fetch(t, nil, "w", "--data-center", "apac-1")
	if want := (result{1, "", "callbackd: no_data_center: status: there are no credentials for data center apac-1\n"}); noCredentials != want {
		t.Errorf("without credentials there: %+v", noCredentials)
	}
	if kept := f.kept(t); kept != nil {
		t.Errorf("left %q", kept)
	}
	reader := "DATABASE_URL=" + storetest.AsMember(t, f.store.Pool().Config().ConnString(), "jumio_reader")
	if got := callbackd(t, append(f.environ[1:], reader), "verification", "fetch", "w"); got.Code != 1 || !strings.Contains(got.Stderr, "which may not do this") {
		t.Errorf("with a reader's role: %+v", got)
	}
	for args, want := range map[string]string{
		"":                        "missing argument WORKFLOW_EXECUTION_ID",
		"a b":                     `unexpected argument "b"`,
		"a/b":                     `"a/b" is not a workflow execution's id`,
		"w --account-id a/b":      `--account-id: "a/b" is not an account id`,
		"w --data-center moon-1":  `--data-center: "moon-1" is none of amer-1, emea-1, apac-1`,
		"w --data-center amer-1/": `--data-center: "amer-1/" is none of amer-1, emea-1, apac-1`,
	} {
		got := callbackd(t, nil, append([]string{"verification", "fetch"}, strings.Fields(args)...)...)
		if diff := cmp.Diff(result{2, "", fmt.Sprintf("callbackd: fetch: %s; see `callbackd verification fetch --help`\n", want)}, got); diff != "" {
			t.Error(diff)
		}
	}
}

// TestFetchOfCreated: one that was just started waits for the person.
func TestFetchOfCreated(t *testing.T) {
	f := newFetching(t, "amer-1")
	if got := callbackd(t, append(f.environ, "JUMIO_DATA_CENTER=amer-1"), "verification", "create", "--key", "3", "--customer-internal-reference", "r", "--web"); got.Code != 0 {
		t.Fatalf("create: %+v", got)
	}
	id := storetest.Scalar[string](t, f.store, `SELECT workflow_execution_id FROM jumio.expectations WHERE state = 'expected'`)
	if diff := cmp.Diff(result{0, "INITIATED\n", ""}, f.fetch(t, nil, id)); diff != "" {
		t.Error(diff)
	}
	if got := callbackd(t, f.environ, "verification", "show", id); got.Code != 0 || !strings.Contains(got.Stdout, "now created: waits for the person to begin since ") {
		t.Errorf("show: %+v", got)
	}
}
