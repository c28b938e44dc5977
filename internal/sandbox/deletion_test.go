package sandbox

import (
	"net/http"
	"testing"
)

func TestDeletion(t *testing.T) {
	clock := newFakeClock()
	s := start(t, clock.config(""))
	c := login(t, s)
	j := newJourney(t, s, "passed-passport")
	a, waiting := c.create(initiationOf("3"))
	_, sibling := c.initiate(http.MethodPut, accounts+"/"+a.Account.ID, initiationOf("9"))
	gone := func(j *Journey) {
		t.Helper()
		for _, path := range []string{detailsPath(j), detailsPath(j) + "/status", partPath(j.parts[0]), "/api/v1/workflow-executions/" + j.WorkflowExecutionID} {
			if status, answer := c.get(path); status != 404 {
				t.Errorf("%s: %d %s", path, status, answer)
			}
		}
		if !j.entry().Deleted {
			t.Error("the ledger does not know it")
		}
	}

	if status, answer := c.send(http.MethodDelete, detailsPath(j), "", ""); status != 200 {
		t.Fatalf("delete: %d %s", status, answer)
	}
	gone(j)
	if status, _ := c.send(http.MethodDelete, detailsPath(j), "", ""); status != 404 {
		t.Errorf("delete again: %d", status)
	}
	if e := j.entry(); e.DeleteRequests != (Hits{1, 1}) {
		t.Errorf("ledger %+v", e.DeleteRequests)
	}
	if status, answer := c.send(http.MethodPut, accounts+"/"+j.AccountID, "application/json", initiationOf("3")); status != 200 {
		t.Errorf("the account is gone with its workflow execution: %d %s", status, answer)
	}

	if status, answer := c.send(http.MethodDelete, accounts+"/"+a.Account.ID, "", ""); status != 200 {
		t.Fatalf("delete: %d %s", status, answer)
	}
	gone(waiting)
	gone(sibling)
	for method, body := range map[string]string{http.MethodDelete: "", http.MethodPut: initiationOf("3")} {
		if status, answer := c.send(method, accounts+"/"+a.Account.ID, "application/json", body); status != 404 {
			t.Errorf("%s on a deleted account: %d %s", method, status, answer)
		}
	}
	if status, _ := c.upload(credentialOf(t, a, "ID"), "front", pngOf(t, 4, 3)); status != 401 {
		t.Errorf("upload to a deleted workflow execution: %d", status)
	}
	clock.mu.Lock()
	defer clock.mu.Unlock()
	if n := len(clock.timers); n != 1 { // of the update of j's account
		t.Errorf("%d timers run", n)
	}
}

func TestDeletionIsAsStrictAsTheGuide(t *testing.T) {
	s := start(t, Config{DataCenter: "emea-1", Clients: []Client{{ID: "sandbox", Secret: "sandbox"}, {ID: "us", Secret: "u", DataCenter: "amer-1"}}})
	c := login(t, s)
	j := newJourney(t, s, "passed-passport", WithFaults(faults(t, "delete:500:1")...))
	unknown := "00000000-0000-4000-8000-000000000000"
	for _, path := range []string{detailsPath(j), accounts + "/" + j.AccountID} {
		for _, tt := range []struct {
			path   string
			change func(*http.Request)
			want   int
		}{
			{path, func(r *http.Request) { r.Header.Del("Accept") }, 403},
			{path, func(r *http.Request) { r.Header.Set("User-Agent", "") }, 403},
			{path, func(r *http.Request) { r.Header.Del("Authorization") }, 401},
			{path, func(r *http.Request) { r.SetBasicAuth("us", "u") }, 403},
			{accounts + "/" + unknown, func(*http.Request) {}, 404},
			{accounts + "/" + unknown + "/workflow-executions/" + j.WorkflowExecutionID, func(*http.Request) {}, 404},
		} {
			r := c.request(tt.path)
			r.Method = http.MethodDelete
			tt.change(r)
			if status, answer, err := c.do(r); err != nil || status != tt.want {
				t.Errorf("%s: %d %s %v, want %d", tt.path, status, answer, err, tt.want)
			}
		}
	}
	for _, want := range []int{500, 200, 404} {
		if status, _ := c.send(http.MethodDelete, detailsPath(j), "", ""); status != want {
			t.Errorf("delete: %d, want %d", status, want)
		}
	}
}
