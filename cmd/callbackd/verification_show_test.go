package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/callback"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// TestStanding: what a person has not opened and what Jumio works on are never the same.
func TestStanding(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	rejected := []results.StoryEntry{{At: at, What: "callback_rejected"}}
	for want, s := range map[string]results.Story{
		"waits for the person to begin since 2026-11-30T12:00:00Z; Jumio is asked at 2026-11-30T12:50:00Z":                          {Stage: "created", ExpectedAt: at, NextAskAt: at.Add(50 * time.Minute)},
		"waits for the person to begin since 2026-11-30T12:00:00Z; callbacks were rejected, see `callbackd rejected list`":          {Stage: "created", ExpectedAt: at, Entries: rejected},
		"waits for the person to finish since 2026-11-30T12:00:00Z":                                                                 {Stage: "started", LastCallbackAt: at, ExpectedAt: at.Add(-time.Hour)},
		"waits for Jumio's decision since 2026-11-30T12:00:00Z":                                                                     {Stage: "in_review", RetrievalState: "awaiting", LastCallbackAt: at},
		"waits for its details since 2026-11-30T12:00:00Z, attempts: 0":                                                             {Stage: "in_review", RetrievalState: "pending", PendingSince: at},
		"waits for its details since 2026-11-30T12:00:00Z, attempts: 2, the last failed: not_found: details answered 404":           {Stage: "in_review", RetrievalState: "pending", PendingSince: at, RetrievalAttempts: 2, RetrievalError: "not_found: details answered 404"},
		"REJECTED because of usability BLURRED":                                                                                     {Stage: "decided", RetrievalState: "retrieved", DecisionType: "REJECTED", ReasonCapability: "usability", ReasonLabel: "BLURRED", Entries: rejected},
		"without a decision":                                                                                                        {Stage: "decided", RetrievalState: "retrieved"},
		"PASSED; waits for images since 2026-11-30T12:00:00Z, attempts: 1":                                                          {Stage: "decided", RetrievalState: "pending", DecisionType: "PASSED", PendingSince: at, RetrievalAttempts: 1},
		"PASSED; an image is unavailable, not_found: image":                                                                         {Stage: "decided", RetrievalState: "partial", DecisionType: "PASSED", RetrievalError: "not_found: image"},
		"its details could not be retrieved, attempts: 10, the last failed: server_error: details; `callbackd refetch` tries again": {Stage: "failed", RetrievalState: "failed", RetrievalAttempts: 10, RetrievalError: "server_error: details"},
		"the person did not finish in time; start another one":                                                                      {Stage: "expired", RetrievalState: "not_required"},
		"waits for nothing: ask the person, and look at Jumio's portal; a callback that comes after all is taken in":                {Stage: "overdue", ExpectedAt: at},
		"its callbacks wait for a worker to take them in":                                                                           {Stage: results.StageUnknown},
		"nothing is kept": {Stage: "erased"},
	} {
		if got := standing(&s); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestStoryLines: each begins with its time, in the order of time over all stories, and
// holds nothing that a terminal obeys.
func TestStoryLines(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.FixedZone("", 3600))
	stories := []*results.Story{
		{WorkflowExecutionID: "w", Stage: "started", Entries: []results.StoryEntry{
			{At: at, What: "callback", Detail: "NEW\x1b[2J\nSTATUS"}, {At: at.Add(2 * time.Second), What: "new_event"},
		}},
		{WorkflowExecutionID: "v", Stage: "created", Entries: []results.StoryEntry{{At: at.Add(time.Second), What: "expected"}}},
	}
	var out strings.Builder
	if err := writeStories(&out, stories, at.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	want := "2026-11-30T11:00:00Z  w  callback (NEW\\x1b[2J\\nSTATUS)\n" +
		"2026-11-30T11:00:01Z  v  started, and expected\n" +
		"2026-11-30T11:00:02Z  w  new_event\n" +
		"2026-11-30T11:01:00Z  w  now started: waits for the person to finish\n" +
		"2026-11-30T11:01:00Z  v  now created: waits for the person to begin\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// told is a database with verifications of two persons, one of them of two verifications,
// and callbacks that were rejected.
func told(t *testing.T) (dsn, signed string) {
	t.Helper()
	dsn = storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	signed, err := callback.SignUserReference("key", "customer-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []results.Expectation{
		{WorkflowExecutionID: "done", AccountID: "a1", DataCenter: "emea-1", UserReference: signed, DefinitionKey: "3", TokenLifetime: time.Hour},
		{WorkflowExecutionID: "waits", AccountID: "a1", DataCenter: "emea-1", UserReference: signed, DefinitionKey: "3", TokenLifetime: time.Hour},
		{WorkflowExecutionID: "other", AccountID: "a2", DataCenter: "amer-1", UserReference: "customer-2", DefinitionKey: "2", TokenLifetime: time.Hour},
	} {
		if err := s.Results().Expect(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Results().ReadExpectedReferences(t.Context(), "key", time.Time{}); err != nil {
		t.Fatal(err)
	}
	c := storetest.Callback("done")
	c.ReceivedAt = time.Now()
	storetest.Insert(t, s, c)
	// Jumio's own for the one that waits, and a stranger's, which says that it is another person's.
	storetest.Query(t, s, `INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, source_ip, reason, content_type, body, workflow_execution_id, user_reference)
		SELECT gen_random_uuid(), now(), '192.0.2.1', 'address_not_allowed', 'application/json', '{}', v.* FROM (VALUES ('waits', 'customer-2'), ('refused', 'customer-3')) AS v`)
	l := storetest.Claim(t, s, "done")
	storetest.Stage(t, s, l, "FRONT", "front")
	o := storetest.Outcome(workflow.Retrieved, `{"workflow":{"id":"done"},"decision":{"type":"WARNING"}}`)
	o.Event = workflow.EventRetrieved
	storetest.Finish(t, s, l, o)
	return dsn, signed
}

// entryLine is a line of show; its time is not compared.
var entryLine = regexp.MustCompile(`(?m)^(\S+)  (\S+  .+)$`)

// TestShow: all that is known of whoever is asked for, in the order of time.
func TestShow(t *testing.T) {
	dsn, signed := told(t)
	environ := []string{"DATABASE_URL=" + dsn}
	ofDone := []string{
		"done  started, and expected (in emea-1, definition 3, deadline *", "done  callback (PROCESSED)", "done  images stored (1)",
		"done  details and decision stored (WARNING)", "done  retrieval done", "done  now decided: WARNING",
	}
	ofWaits := []string{
		"waits  started, and expected (in emea-1, definition 3, deadline *", "waits  callback rejected (address_not_allowed)",
		"waits  now created: waits for the person to begin since *",
	}
	ofOther := []string{"other  started, and expected (in amer-1, definition 2, deadline *", "other  now created: waits for the person to begin since *"}
	for _, tt := range []struct {
		args []string
		want map[string][]string // by verification
	}{
		{[]string{"done"}, map[string][]string{"done": ofDone}},
		{[]string{"other"}, map[string][]string{"other": ofOther}},
		{[]string{"--account-id", "a1"}, map[string][]string{"done": ofDone, "waits": ofWaits}},
		{[]string{"--user-reference", "customer-1"}, map[string][]string{"done": ofDone, "waits": ofWaits}},
		{[]string{"--user-reference", signed}, map[string][]string{"done": ofDone, "waits": ofWaits}},
		{[]string{"--user-reference", "customer-2"}, map[string][]string{"other": ofOther}},
		{[]string{"--user-reference", "customer-3"}, map[string][]string{"refused": {
			"refused  callback rejected (address_not_allowed)",
			"refused  now unknown: nothing but rejected callbacks, which anybody may have sent; callbacks were rejected, *",
		}}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			got := callbackd(t, environ, append([]string{"verification", "show"}, tt.args...)...)
			if got.Code != 0 || got.Stderr != "" {
				t.Fatalf("exit code %d, %s", got.Code, got.Stderr)
			}
			lines := entryLine.FindAllStringSubmatch(got.Stdout, -1)
			if len(lines) != strings.Count(got.Stdout, "\n") {
				t.Errorf("not a line an entry:\n%s", got.Stdout)
			}
			seen, last := map[string][]string{}, ""
			for _, line := range lines {
				if _, err := time.Parse(time.RFC3339, line[1]); err != nil || line[1] < last {
					t.Errorf("%q after %s: %v", line[0], last, err)
				}
				last = line[1]
				id, _, _ := strings.Cut(line[2], " ")
				seen[id] = append(seen[id], line[2])
			}
			if diff := cmp.Diff(tt.want, seen, cmp.Comparer(matches)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// matches compares texts of which one may end in * for any more.
func matches(a, b string) bool {
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		if beginning, open := strings.CutSuffix(pair[0], "*"); open && strings.HasPrefix(pair[1], beginning) {
			return true
		}
	}
	return a == b
}

// TestShowJSON: an object for each verification, one a line.
func TestShowJSON(t *testing.T) {
	dsn, _ := told(t)
	got := callbackd(t, []string{"DATABASE_URL=" + dsn}, "verification", "show", "--user-reference", "customer-1", "--json")
	if got.Code != 0 || got.Stderr != "" || strings.Count(got.Stdout, "\n") != 2 {
		t.Fatalf("got %+v", got)
	}
	type story struct {
		ID        string `json:"workflow_execution_id"`
		Account   string `json:"account_id"`
		Reference string `json:"user_reference"`
		Stage     string `json:"stage"`
		Decision  string `json:"decision_type"`
		Now       string `json:"now"`
		Story     []struct {
			At     time.Time `json:"at"`
			What   string    `json:"what"`
			Detail string    `json:"detail"`
		} `json:"story"`
	}
	var done, waits story
	for i, line := range strings.SplitAfter(strings.TrimSuffix(got.Stdout, "\n"), "\n") {
		if err := json.Unmarshal([]byte(line), []*story{&done, &waits}[i]); err != nil {
			t.Fatal(err)
		}
	}
	var entries []string
	for _, e := range done.Story {
		if e.At.IsZero() {
			t.Errorf("%s has no time", e.What)
		}
		entries = append(entries, strings.TrimSpace(e.What+" "+e.Detail))
	}
	want := []string{"expected in emea-1, definition 3, deadline *", "callback PROCESSED", "images 1", "details_retrieved WARNING", "retrieved"}
	if diff := cmp.Diff(want, entries, cmp.Comparer(matches)); diff != "" {
		t.Error(diff)
	}
	done.Story, waits.Story = nil, nil
	if diff := cmp.Diff(story{ID: "done", Account: "a1", Reference: "customer-1", Stage: "decided", Decision: "WARNING", Now: "WARNING"}, done); diff != "" {
		t.Error(diff)
	}
	if waits.ID != "waits" || waits.Stage != "created" || !strings.HasPrefix(waits.Now, "waits for the person to begin since ") {
		t.Errorf("the other is %+v", waits)
	}
}

// TestShowNothing: exit code 1, and the five things that it can mean. It repeats no
// reference.
func TestShowNothing(t *testing.T) {
	dsn, _ := told(t)
	for want, args := range map[string][]string{
		"this verification":              {"unknown"},
		"a verification of this account": {"--account-id", "unknown"},
		"a verification of this person":  {"--user-reference", "customer-4711"},
	} {
		for _, args := range [][]string{args, append(args, "--json")} {
			got := callbackd(t, []string{"DATABASE_URL=" + dsn}, append([]string{"verification", "show"}, args...)...)
			lines := strings.Split(strings.TrimSuffix(got.Stderr, "\n"), "\n")
			if got.Code != 1 || got.Stdout != "" || len(lines) != 7 || lines[0] != "callbackd knows nothing of "+want+". That can mean one of five things:" || lines[6] != "callbackd: nothing is known" {
				t.Fatalf("%q: got %+v", args, got)
			}
			for i, way := range []string{"no record", "verification fetch", "callbackUrl", "rejected list", "callbackd_spool_bytes"} {
				if line := lines[i+1]; !strings.HasPrefix(line, fmt.Sprintf("  %d. ", i+1)) || !strings.Contains(line, way) {
					t.Errorf("%q tells nothing of %s", line, way)
				}
			}
			if strings.Contains(got.Stderr, "4711") {
				t.Error("the reference shows")
			}
		}
	}
}

// TestShowUsage: one subject, and a right one.
func TestShowUsage(t *testing.T) {
	const one = "want one of WORKFLOW_EXECUTION_ID, --account-id and --user-reference"
	for args, want := range map[string]string{
		"":                                  one,
		"--json":                            one,
		"w --account-id a":                  one,
		"w --user-reference u":              one,
		"--account-id a --user-reference u": one,
		"w --account-id=":                   one,
		"w v":                               `unexpected argument "v"`,
		"w/v":                               `"w/v" is not a workflow execution's id`,
		"--account-id a/b":                  `--account-id: "a/b" is not an account id`,
		"--account-id=":                     `--account-id: "" is not an account id`,
		"--user-reference=":                 "--user-reference: it is empty",
	} {
		got := callbackd(t, nil, append([]string{"verification", "show"}, strings.Fields(args)...)...)
		if diff := cmp.Diff(result{2, "", "callbackd: show: " + want + "; see `callbackd verification show --help`\n"}, got); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	}
	if got := callbackd(t, nil, "verification", "show", "w"); got.Code != 1 || !strings.HasPrefix(got.Stderr, "callbackd: DATABASE_URL is missing") {
		t.Errorf("without a database: %+v", got)
	}
}
