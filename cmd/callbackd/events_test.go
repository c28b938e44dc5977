package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store/consuming"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// TestEventLines: what is not known, and what a terminal must not obey.
func TestEventLines(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 250_000_000, time.FixedZone("", 3600))
	changed := true
	for name, test := range map[string]struct {
		event       consuming.Event
		plain, json string
	}{
		"everything": {
			consuming.Event{ID: 7, OccurredAt: at, Event: workflow.Event{
				Type: workflow.EventRetrieved, WorkflowExecutionID: "w", AccountID: "a", UserReference: "u",
				RetrievalState: workflow.Partial, DecisionType: "PASSED", Changed: &changed,
			}},
			"2026-11-30T11:00:00.25Z  7  retrieved  w  a  u  partial  PASSED\n",
			`{"event_id":7,"occurred_at":"2026-11-30T11:00:00.25Z","type":"retrieved","workflow_execution_id":"w","account_id":"a",` +
				`"user_reference":"u","retrieval_state":"partial","decision_type":"PASSED","changed":true}` + "\n",
		},
		"nothing but the execution": {
			consuming.Event{ID: 7, OccurredAt: at, Event: workflow.Event{Type: workflow.EventExpired, WorkflowExecutionID: "w"}},
			"2026-11-30T11:00:00.25Z  7  expired  w  -  -  -  -\n",
			`{"event_id":7,"occurred_at":"2026-11-30T11:00:00.25Z","type":"expired","workflow_execution_id":"w","account_id":null,` +
				`"user_reference":null,"retrieval_state":null,"decision_type":null,"changed":null}` + "\n",
		},
		"a hostile reference": {
			consuming.Event{ID: 7, OccurredAt: at, Event: workflow.Event{
				Type: workflow.EventExpired, WorkflowExecutionID: "w", UserReference: "a b\n\x1b[2J\u009b1m\x7f\U000e0001é",
			}},
			`2026-11-30T11:00:00.25Z  7  expired  w  -  "a b\n\x1b[2J\u009b1m\x7f\U000e0001é"  -  -` + "\n",
			`{"event_id":7,"occurred_at":"2026-11-30T11:00:00.25Z","type":"expired","workflow_execution_id":"w","account_id":null,` +
				`"user_reference":"a b\n\u001b[2J\u009b1m\u007f\udb40\udc01é","retrieval_state":null,"decision_type":null,"changed":null}` + "\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff([]string{test.plain, test.json}, []string{plainLine(&test.event), jsonLine(&test.event)}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTailStart: where a tail starts, without --from and with it.
func TestTailStart(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		consumer bool
		from     string
		want     consuming.From
	}{
		{false, "", consuming.Now},
		{true, "", consuming.Beginning},
		{false, "beginning", consuming.Beginning},
		{true, "now", consuming.Now},
		{true, "2026-11-30T13:00:00+01:00", 1_796_040_000_000_000},
		{false, "1969-12-31T00:00:00Z", consuming.Beginning},
	} {
		got, err := (&tail{consumer: "c"}).check(test.consumer, test.from, now)
		if err != nil || got != test.want {
			t.Errorf("%+v: got %d, %v", test, got, err)
		}
	}
}

// TestTailWrongRole: without the two roles it names them, not the owner's.
func TestTailWrongRole(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	for role, args := range map[string][]string{
		"callbackd_receiver": {"events", "tail"},
		"jumio_reader":       {"events", "tail", "--consumer", "c"},
	} {
		got := callbackd(t, []string{"DATABASE_URL=" + storetest.AsMember(t, dsn, role)}, args...)
		const want = "which may not do this; use a member of jumio_reader, and for --consumer of jumio_consumer\n"
		if got.Code != 1 || got.Stdout != "" || !strings.HasSuffix(got.Stderr, want) || strings.Count(got.Stderr, "\n") != 1 {
			t.Errorf("%s: got %+v, want exit code 1 and a line that ends with %q", role, got, want)
		}
	}
}
