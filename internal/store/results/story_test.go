package results_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/callback"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

func TestStories(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	signed, err := callback.SignUserReference("key", "customer-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"w", "later"} {
		err := s.Results().Expect(t.Context(), results.Expectation{
			WorkflowExecutionID: id, AccountID: "a", DataCenter: "emea-1", UserReference: signed, DefinitionKey: "3", TokenLifetime: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Results().ReadExpectedReferences(t.Context(), "key", time.Time{}); err != nil {
		t.Fatal(err)
	}
	c := storetest.Callback("w")
	c.ReceivedAt, c.WorkflowStatus = time.Now(), "PROCESSED"
	storetest.Insert(t, s, c)
	storetest.Query(t, s, `INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, source_ip, reason, content_type, body, workflow_execution_id)
		VALUES (gen_random_uuid(), now(), '192.0.2.1', 'address_not_allowed', 'application/json', '{}', 'w')`)
	l := storetest.Claim(t, s, "w")
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET retrieval_received_at = now() WHERE workflow_execution_id = 'w'`)
	storetest.Stage(t, s, l, "FRONT", "front")
	o := storetest.Outcome(workflow.Retrieved, `{"workflow":{"id":"w"},"decision":{"type":"WARNING"}}`)
	o.Event = workflow.EventRetrieved
	storetest.Finish(t, s, l, o)

	want := []string{"expected", "callback", "callback_rejected", "retrieval_begun", "images", "details_retrieved", "retrieved"}
	for _, look := range []struct {
		by    results.StoryKey
		value string
		ids   []string
	}{
		{results.ByWorkflowExecution, "w", []string{"w"}},
		{results.ByAccount, "a", []string{"w", "later"}},
		{results.ByUserReference, signed, []string{"w", "later"}},
		{results.ByUserReference, "customer-1", []string{"w", "later"}},
		{results.ByUserReference, "customer-2", nil},
	} {
		stories, err := s.Results().Stories(t.Context(), look.by, look.value)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, story := range stories {
			ids = append(ids, story.WorkflowExecutionID)
		}
		if d := cmp.Diff(look.ids, ids); d != "" {
			t.Errorf("by %s (-want +got):\n%s", look.by, d)
			continue
		}
		if len(stories) == 0 {
			continue
		}
		var got []string
		for _, e := range stories[0].Entries {
			got = append(got, e.What)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("entries by %s (-want +got):\n%s", look.by, d)
		}
		if story := stories[0]; story.Stage != "decided" || story.DecisionType != "WARNING" || story.UserReference != "customer-1" || story.ExpectedAt.IsZero() {
			t.Errorf("by %s: %+v", look.by, story)
		}
	}
	if p, err := s.Results().Place(t.Context(), "w"); err != nil || p.DataCenter != "emea-1" || p.AccountID != "a" || p.State != "retrieved" {
		t.Errorf("the place: %+v, %v", p, err)
	}
	if p, err := s.Results().Place(t.Context(), "unknown"); err != nil || p != (results.Place{}) {
		t.Errorf("the place of an unknown one: %+v, %v", p, err)
	}
}
