package sandbox

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"callbackd/internal/workflow"
)

func TestAcquisitionByTheAPI(t *testing.T) {
	r := newReceiver(t)
	clock := newFakeClock()
	cfg := clock.config(r.URL)
	cfg.Processing = time.Minute
	s := start(t, cfg)
	c := login(t, s)
	a, j := c.create(initiationOf("3", `"reportingCriteria":"kind=passed-passport"`))
	id, selfie := credentialOf(t, a, "ID"), credentialOf(t, a, "SELFIE")

	c.wantStatus(j, "INITIATED")
	clock.advance(3 * time.Minute)
	front, face := pngOf(t, 40, 30), jpegOf(t, 30, 40)
	status, answer := c.upload(id, "front", front)
	var uploaded struct {
		Timestamp                  string
		Account, WorkflowExecution struct{ ID string }
		API                        apiAnswer
	}
	if err := json.Unmarshal(answer, &uploaded); err != nil || status != 200 {
		t.Fatalf("upload: %d %s %v", status, answer, err)
	}
	if uploaded.Account.ID != j.AccountID || uploaded.WorkflowExecution.ID != j.WorkflowExecutionID || uploaded.Timestamp == "" || uploaded.API.Token != id.API.Token ||
		uploaded.API.Parts["front"] != id.API.Parts["front"] || uploaded.API.WorkflowExecution != id.API.WorkflowExecution {
		t.Errorf("upload answered %s", answer)
	}
	c.wantStatus(j, "ACQUISITION_STARTED")
	if status, answer := c.upload(selfie, "face", face); status != 200 {
		t.Fatalf("upload: %d %s", status, answer)
	}
	if status, _ := c.get(partPath(partOf(t, j, "FRONT"))); status != 404 {
		t.Errorf("the image before the result: %d", status)
	}
	if state := j.entry().Expected.State; state != workflow.Awaiting {
		t.Errorf("expected %s before the end", state)
	}
	if status, answer := c.finalize(id); status != 200 || !strings.Contains(string(answer), `"workflowExecution":{"id":"`+j.WorkflowExecutionID+`"}`) {
		t.Fatalf("finalize: %d %s", status, answer)
	}
	c.wantStatus(j, "ACQUIRED")
	if len(r.statuses()) != 0 {
		t.Errorf("callbacks %v before the end", r.statuses())
	}
	clock.advance(time.Minute)
	c.wantStatus(j, "PROCESSED")
	waitFor(t, "the callback", func() bool { return len(r.statuses()) == 1 })

	details := fetchDetails(t, c, j)
	if details.CreatedAt != "2026-03-01T12:00:00.000Z" || details.StartedAt != "2026-03-01T12:03:00.000Z" || details.CompletedAt != "2026-03-01T12:04:00.000Z" {
		t.Errorf("times %s, %s, %s", details.CreatedAt, details.StartedAt, details.CompletedAt)
	}
	var parts []string
	for _, credential := range details.Credentials {
		for _, part := range credential.Parts {
			parts = append(parts, part.Classifier)
		}
	}
	if strings.Join(parts, " ") != "FRONT FACE FACEMAP" {
		t.Errorf("parts %v", parts)
	}
	for classifier, want := range map[string][]byte{"FRONT": front, "FACE": face} {
		if status, got := c.get(partPath(partOf(t, j, classifier))); status != 200 || !bytes.Equal(got, want) {
			t.Errorf("%s is not what was uploaded: %d", classifier, status)
		}
	}
	checkImages(t, c, j)
	e := j.entry()
	if e.Expected.State != workflow.Retrieved || !e.Created || e.UploadRequests != (Hits{2, 2}) || e.FinalizeRequests != (Hits{1, 1}) || s.Ledger().Totals.Uploads != 2 {
		t.Errorf("ledger %+v", e)
	}
	for name, again := range map[string]func() (int, []byte){
		"upload":   func() (int, []byte) { return c.upload(id, "back", front) },
		"finalize": func() (int, []byte) { return c.finalize(selfie) },
	} {
		if status, answer := again(); status != 404 {
			t.Errorf("%s after the end: %d %s", name, status, answer)
		}
	}
}

func TestAnUploadedBackBelongsToADocumentThatHasNone(t *testing.T) {
	s := start(t, Config{FastImages: true})
	c := login(t, s)
	a, j := c.create(initiationOf("2", `"reportingCriteria":"kind=passed-passport"`))
	if status, answer := c.upload(credentialOf(t, a, "ID"), "back", pngOf(t, 4, 3)); status != 200 {
		t.Fatalf("upload: %d %s", status, answer)
	}
	c.finalize(credentialOf(t, a, "ID"))
	if images := s.Expected(j).Images; len(images) != 2 {
		t.Errorf("images %+v", images)
	}
	checkImages(t, c, j)
}

func TestAKindThatStaysAcquired(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{CallbackURL: r.URL})
	c := login(t, s)
	a, j := c.create(initiationOf("3", `"reportingCriteria":"kind=acquired"`))
	c.finalize(credentialOf(t, a, "ID"))
	c.wantStatus(j, "ACQUIRED")
	waitFor(t, "the callbacks", func() bool { return strings.Join(r.statuses(), " ") == "ACQUISITION_STARTED ACQUIRED" })
}

func TestTokensExpire(t *testing.T) {
	r := newReceiver(t)
	clock := newFakeClock()
	s := start(t, clock.config(r.URL))
	c := login(t, s)
	a, j := c.create(initiationOf("3"))
	_, long := c.create(initiationOf("3", `"tokenLifetime":"60d"`))
	clock.advance(30*time.Minute - time.Second)
	c.wantStatus(j, "INITIATED")
	clock.advance(time.Second)
	c.wantStatus(j, "TOKEN_EXPIRED")
	waitFor(t, "the callback", func() bool { return len(r.statuses()) == 1 })
	if r.statuses()[0] != "TOKEN_EXPIRED" || j.entry().Expected.State != workflow.NotRequired {
		t.Errorf("callbacks %v, expected %s", r.statuses(), j.entry().Expected.State)
	}
	details := fetchDetails(t, c, j)
	if details.Workflow.Status != "TOKEN_EXPIRED" || details.StartedAt != "" || len(details.Credentials) != 0 {
		t.Errorf("details %+v", details)
	}
	if status, answer := c.upload(credentialOf(t, a, "ID"), "front", pngOf(t, 4, 3)); status != 401 {
		t.Errorf("upload with an expired token: %d %s", status, answer)
	}
	if status, answer := c.finalize(credentialOf(t, a, "ID")); status != 401 {
		t.Errorf("finalize with an expired token: %d %s", status, answer)
	}
	clock.advance(59 * 24 * time.Hour)
	if status := long.now().Status; status != "INITIATED" {
		t.Errorf("status %s after 59 of 60 days", status)
	}
}

func TestSessionsExpire(t *testing.T) {
	r := newReceiver(t)
	clock := newFakeClock()
	s := start(t, clock.config(r.URL))
	c := login(t, s)
	a, j := c.create(initiationOf("3"))
	clock.advance(29 * time.Minute)
	for range 3 { // each upload starts the time-out anew, also when the token's lifetime is over
		if status, answer := c.upload(credentialOf(t, a, "ID"), "front", pngOf(t, 4, 3)); status != 200 {
			t.Fatalf("upload: %d %s", status, answer)
		}
		clock.advance(15*time.Minute - time.Second)
		c.wantStatus(j, "ACQUISITION_STARTED")
	}
	clock.advance(time.Second)
	c.wantStatus(j, "SESSION_EXPIRED")
	waitFor(t, "the callback", func() bool { return len(r.statuses()) == 1 })
	if r.statuses()[0] != "SESSION_EXPIRED" || j.entry().Expected.State != workflow.NotRequired {
		t.Errorf("callbacks %v, expected %s", r.statuses(), j.entry().Expected.State)
	}
	if details := fetchDetails(t, c, j); details.StartedAt != "2026-03-01T12:29:00.000Z" {
		t.Errorf("started at %s", details.StartedAt)
	}
	if status, answer := c.finalize(credentialOf(t, a, "ID")); status != 401 {
		t.Errorf("finalize after the session: %d %s", status, answer)
	}
}

func TestASpedUpClock(t *testing.T) {
	clock := newFakeClock()
	cfg := clock.config("")
	cfg.Speed = 60
	s := start(t, cfg)
	c := login(t, s)
	_, j := c.create(initiationOf("3"))
	clock.advance(30*time.Second - time.Millisecond)
	c.wantStatus(j, "INITIATED")
	clock.advance(time.Millisecond)
	c.wantStatus(j, "TOKEN_EXPIRED")
}

// The real clock works, too.
func TestASpedUpClockRuns(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{CallbackURL: r.URL, Speed: 1e6})
	login(t, s).create(initiationOf("3"))
	waitFor(t, "the callback", func() bool { return len(r.statuses()) == 1 })
	if r.statuses()[0] != "TOKEN_EXPIRED" {
		t.Errorf("callbacks %v", r.statuses())
	}
}
