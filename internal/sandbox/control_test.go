package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/workflow"
)

func post(t *testing.T, s *Sandbox, path, body string) (int, []byte) {
	t.Helper()
	answer, err := http.Post(s.URL()+path, "application/x-www-form-urlencoded", strings.NewReader(body)) // as curl -d does
	if err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, answer)
}

func browse(t *testing.T, s *Sandbox, path string) (int, []byte) {
	t.Helper()
	answer, err := http.Get(s.URL() + path)
	if err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, answer)
}

func readAnswer(t *testing.T, answer *http.Response) (int, []byte) {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, body
}

func TestJourneysAreStartedByHand(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{FastImages: true})
	for body, reason := range map[string]string{
		`{"kind":"passed-passport"}`:                             "no callback URL",
		`{"kind":"nonsense","callback_url":"` + r.URL + `"}`:     "unknown kind",
		`{"callback_url":"nonsense"}`:                            "callback URL",
		`{"callback_url":"` + r.URL + `","count":-1}`:            "count",
		`{"callback_url":"` + r.URL + `","rate":-1}`:             "rate",
		`{"callback_url":"` + r.URL + `","faults":["x:y"]}`:      "x:y",
		`{"callback_url":"` + r.URL + `","colour":"blue"}`:       "colour",
		`{"callback_url":"` + r.URL + `"`:                        "JSON",
		`{"callback_url":"` + r.URL + `","faults":["token:500"]`: "JSON",
	} {
		if status, answer := post(t, s, "/_sandbox/journeys", body); status != 400 || !strings.Contains(string(answer), reason) {
			t.Errorf("%s: %d %s, want 400 with %q", body, status, answer, reason)
		}
	}
	status, answer := post(t, s, "/_sandbox/journeys", `{"kind":"passed-passport","count":2,"faults":["image:404:1"],"callback_url":"`+r.URL+`","user_reference":"me"}`)
	var entries []Entry
	if err := json.Unmarshal(answer, &entries); err != nil || status != 202 || len(entries) != 2 {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	if entries[0].Expected.State != workflow.Retrieved || entries[0].Faults[0] != "image:404:1" || len(entries[0].Expected.Images) != 3 {
		t.Errorf("entry %+v", entries[0])
	}
	waitFor(t, "the callbacks", func() bool { return s.Ledger().Totals.CallbacksAcknowledged == 2 })
	if r.got[0].callback.UserReference != "me" {
		t.Errorf("callback %s", r.got[0].body)
	}

	id := entries[0].WorkflowExecutionID
	if status, answer := post(t, s, "/_sandbox/journeys/"+id+"/callbacks", `{"status":"PROCESSED"}`); status != 200 {
		t.Errorf("another callback: %d %s", status, answer)
	}
	if status, answer := post(t, s, "/_sandbox/journeys/"+id+"/callbacks", ""); status != 200 {
		t.Errorf("all callbacks again: %d %s", status, answer)
	}
	if status, _ := post(t, s, "/_sandbox/journeys/unknown/callbacks", ""); status != 404 {
		t.Errorf("unknown journey: %d", status)
	}
	j, _ := s.journey(id)
	callbacks := j.entry().Callbacks
	if len(callbacks) != 3 || !callbacks[1].CallbackSentAt.After(callbacks[0].CallbackSentAt) || !callbacks[2].CallbackSentAt.After(callbacks[1].CallbackSentAt) {
		t.Errorf("callbacks %+v", callbacks)
	}
}

func TestPagesForPeople(t *testing.T) {
	s := start(t, Config{FastImages: true})
	if status, body := browse(t, s, "/_sandbox/"); status != 200 || !bytes.Contains(body, []byte("No journeys yet")) {
		t.Errorf("empty page: %d %s", status, body)
	}
	status, _ := post(t, s, "/_sandbox/journeys", `{"kind":"passed-id-card","hold":true}`)
	if status != 202 {
		t.Fatalf("held journey: %d", status)
	}
	j := s.Journeys()[0]
	base := "/_sandbox/journeys/" + j.WorkflowExecutionID
	for path, want := range map[string]string{
		"/_sandbox/":              j.WorkflowExecutionID,
		"/_sandbox/kinds":         "liveness-id-used-as-selfie",
		"/_sandbox/ledger":        `"workflow_execution_id": "` + j.WorkflowExecutionID,
		base:                      `"state": "retrieved"`,
		base + "/details":         `"capabilities"`,
		base + "/images/BACK":     "\x89PNG",
		base + "/images/FRONT":    "\xff\xd8",
		base + "/images/FACEMAP":  "FACEMAP",
		base + "/images/LIVENESS": "no such image",
		"/_sandbox/journeys/none": "unknown workflow execution",
	} {
		if _, body := browse(t, s, path); !bytes.Contains(body, []byte(want)) {
			t.Errorf("%s does not hold %q: %.200s", path, want, body)
		}
	}
}

func TestPagesRejectOtherSites(t *testing.T) {
	s := start(t, Config{})
	r, err := http.NewRequest(http.MethodPost, s.URL()+"/_sandbox/tokens/revoke", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", "https://example.com")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := readAnswer(t, answer); status != 403 {
		t.Errorf("another site's form: %d", status)
	}
}

func TestRevokeByHandAndTheTrap(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	j := newJourney(t, s, "passed-passport")
	if status, _ := post(t, s, "/_sandbox/tokens/revoke", ""); status != 204 {
		t.Errorf("revoke: %d", status)
	}
	if status, _ := c.get(detailsPath(j)); status != 401 {
		t.Errorf("details: %d", status)
	}
	browse(t, s, trapPath)
	if n := s.Ledger().Totals.RedirectsFollowed; n != 1 {
		t.Errorf("%d redirects followed", n)
	}
}

func TestLedgerCountsWhatWasServed(t *testing.T) {
	s := start(t, Config{FastImages: true})
	c := login(t, s)
	j := newJourney(t, s, "passed-passport", WithFaults(faults(t, "details:404:2 details:not_final:1 image:truncated:1:part=FACE")...))
	for range 4 {
		_, _ = c.get(detailsPath(j))
	}
	_, _ = c.get(detailsPath(j) + "/status")
	for range 2 {
		for _, classifier := range []string{"FRONT", "FACE"} {
			_, _, _ = c.do(c.request(partPath(partOf(t, j, classifier)))) // one of them breaks off
		}
	}
	status, body := browse(t, s, "/_sandbox/ledger")
	var l Ledger
	if err := json.Unmarshal(body, &l); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	e := l.Journeys[0]
	if e.DetailsRequests != (Hits{4, 1}) || e.StatusRequests != (Hits{1, 1}) {
		t.Errorf("details %+v, status %+v", e.DetailsRequests, e.StatusRequests)
	}
	want := map[string]Hits{"FRONT": {2, 2}, "FACE": {2, 1}, "FACEMAP": {}}
	for _, i := range e.Images {
		if i.Hits != want[i.Classifier] || (i.SHA256 != "") != (i.Classifier != "FACEMAP") {
			t.Errorf("%s: %+v", i.Classifier, i)
		}
	}
	if e.MaxConcurrent != 1 || e.MaxConcurrentSame != 1 {
		t.Errorf("one request at a time counts as %d and %d", e.MaxConcurrent, e.MaxConcurrentSame)
	}
	for name, n := range map[string]int{"details 404": 2, "details 200": 2, "status 200": 1, "image 200": 3, "image truncated": 1, "token 200": 1} {
		if l.Totals.Responses[name] != n {
			t.Errorf("%s: %d, want %d in %v", name, l.Totals.Responses[name], n, l.Totals.Responses)
		}
	}
}

func TestLedgerSeesRequestsAtTheSameTime(t *testing.T) {
	s := start(t, Config{FastImages: true, Faults: faults(t, "details:slow:0:delay=1h image:slow:0:delay=1h")})
	c := login(t, s)
	j := newJourney(t, s, "passed-passport")
	var group sync.WaitGroup
	defer group.Wait()
	defer s.cancel()
	for _, path := range []string{detailsPath(j), detailsPath(j), partPath(j.parts[0])} {
		group.Go(func() { _, _, _ = c.do(c.request(path)) })
	}
	waitFor(t, "three requests at the same time", func() bool { return j.entry().MaxConcurrent == 3 })
	if same := j.entry().MaxConcurrentSame; same != 2 {
		t.Errorf("%d requests to the same address at the same time, want 2", same)
	}
}

// TestLedgerForgetsWhoHasGone: a client that gave up and asks again asks once at a time,
// though nothing of the sandbox's has noticed yet that it gave up.
func TestLedgerForgetsWhoHasGone(t *testing.T) {
	j := newJourney(t, start(t, Config{}), "passed-passport")
	v := visit{endpoint: EndpointDetails, journey: j}
	first, giveUp := context.WithCancel(t.Context())
	v.enter(first)
	giveUp()
	v.enter(t.Context())
	if e := j.entry(); e.MaxConcurrent != 1 || e.MaxConcurrentSame != 1 {
		t.Errorf("%d and %d requests at the same time, want 1", e.MaxConcurrent, e.MaxConcurrentSame)
	}
	v.leave(first, false)
	v.leave(t.Context(), true)
	if e := j.entry(); e.DetailsRequests != (Hits{2, 1}) {
		t.Errorf("details %+v", e.DetailsRequests)
	}
}

// slowWriter tells how much of an answer its client has.
type slowWriter struct {
	*httptest.ResponseRecorder
	written int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.written += len(p)
	return w.ResponseRecorder.Write(p)
}

func TestTheLedgerIsWrittenBeforeTheClientHasTheWholeAnswer(t *testing.T) {
	s := start(t, Config{})
	for name, answer := range map[string]*response{
		"whole":     {body: []byte("0123456789abcdef0123456789abcdef")},
		"one byte":  {body: []byte("0")},
		"dripping":  {body: []byte("0123456789abcdef0123456789abcdef"), dripOver: 16 * time.Millisecond},
		"truncated": {body: []byte("0123456789abcdef"), breaks: FaultTruncated},
		"empty":     {},
	} {
		t.Run(name, func(t *testing.T) {
			w := &slowWriter{ResponseRecorder: httptest.NewRecorder()}
			calls := 0
			answer.status = http.StatusOK
			answer.beforeEnd = func() {
				calls++
				if w.written > 0 && w.written >= len(answer.body) {
					t.Errorf("all %d bytes are out", w.written)
				}
			}
			defer func() {
				if broken := recover(); (broken != nil) != (answer.breaks != "") || calls != 1 {
					t.Errorf("%d calls, %v", calls, broken)
				}
			}()
			s.deliver(w, httptest.NewRequest(http.MethodGet, "/", nil), EndpointDetails, answer)
		})
	}
}

// A page of a stranger's can neither use the sandbox's control nor look at it, by
// DNS rebinding or across origins; people and programs can.
func TestControlRejectsForeignPages(t *testing.T) {
	s := start(t, Config{})
	s.listenName = "sandbox.test.internal" // as if it had been told to listen there
	for name, tc := range map[string]struct {
		method, host string
		header       map[string]string
		want         int
	}{
		"an address":           {"GET", "127.0.0.1:9480", nil, 200},
		"an IPv6 address":      {"GET", "[::1]:9480", nil, 200},
		"one without a port":   {"GET", "[::1]", nil, 200},
		"localhost":            {"GET", "localhost:9480", nil, 200},
		"a Compose service":    {"POST", "sandbox:9480", nil, 204},
		"where it listens":     {"POST", "Sandbox.Test.internal:9480", nil, 204},
		"rebinding":            {"GET", "evil.example:9480", nil, 403},
		"rebinding, post":      {"POST", "evil.example", map[string]string{"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403},
		"rebinding with a dot": {"GET", "sandbox.", nil, 403},
		"an address as a name": {"GET", "127.0.0.1.evil.example", nil, 403},
		"own origin":           {"POST", "127.0.0.1:9480", map[string]string{"Origin": "http://127.0.0.1:9480", "Sec-Fetch-Site": "same-origin"}, 204},
		"foreign origin":       {"POST", "127.0.0.1:9480", map[string]string{"Origin": "https://evil.example"}, 403},
		"foreign origin, get":  {"GET", "127.0.0.1:9480", map[string]string{"Origin": "https://evil.example"}, 403},
		"another port":         {"GET", "127.0.0.1:9480", map[string]string{"Origin": "http://127.0.0.1:3000"}, 403},
		"no origin in a frame": {"GET", "127.0.0.1:9480", map[string]string{"Origin": "null"}, 403},
		"cross-site image":     {"GET", "127.0.0.1:9480", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403},
		"cross-site post":      {"POST", "127.0.0.1:9480", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403},
		"a link":               {"GET", "127.0.0.1:9480", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200},
		"in a frame":           {"GET", "127.0.0.1:9480", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403},
	} {
		path := "/_sandbox/ledger"
		if tc.method == "POST" {
			path = "/_sandbox/tokens/revoke"
		}
		r, err := http.NewRequest(tc.method, s.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = tc.host
		for k, v := range tc.header {
			r.Header.Set(k, v)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if status, body := readAnswer(t, answer); status != tc.want {
			t.Errorf("%s: %d %s, want %d", name, status, body, tc.want)
		}
	}
}
