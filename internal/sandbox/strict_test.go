package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestTokenEndpointIsAsStrictAsTheGuide(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		want   int
	}{
		{"as in the guide", func(*http.Request) {}, 200},
		{"JSON among others in Accept", func(r *http.Request) { r.Header.Set("Accept", "text/html, application/json;q=0.5") }, 200},
		{"charset in the Content-Type", func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		}, 200},
		{"no User-Agent", func(r *http.Request) { r.Header.Set("User-Agent", "") }, 403},
		{"the library's User-Agent", func(r *http.Request) { r.Header.Del("User-Agent") }, 403},
		{"no Accept", func(r *http.Request) { r.Header.Del("Accept") }, 403},
		{"another Accept", func(r *http.Request) { r.Header.Set("Accept", "text/html") }, 403},
		{"a wildcard Accept", func(r *http.Request) { r.Header.Set("Accept", "*/*") }, 403},
		{"no Content-Type", func(r *http.Request) { r.Header.Del("Content-Type") }, 400},
		{"another Content-Type", func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 400},
		{"another grant", func(r *http.Request) { r.Body = body("grant_type=password") }, 400},
		{"no client", func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		{"wrong client", func(r *http.Request) { r.SetBasicAuth("somebody", "sandbox") }, 401},
		{"wrong secret", func(r *http.Request) { r.SetBasicAuth("sandbox", "guess") }, 401},
		{"GET", func(r *http.Request) { r.Method = http.MethodGet }, 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := tokenRequest(t, s)
			r.ContentLength = -1
			tt.change(r)
			c.wantAnswer(t, r, tt.want)
		})
	}
}

func body(text string) *stringBody { return &stringBody{strings.NewReader(text)} }

type stringBody struct{ *strings.Reader }

func (*stringBody) Close() error { return nil }

// wantAnswer sends a request and wants this status, with a problem as the body of an error.
func (c *apiClient) wantAnswer(t *testing.T, r *http.Request, want int) {
	t.Helper()
	status, answer, err := c.do(r)
	if err != nil || status != want {
		t.Fatalf("%d %s %v, want %d", status, answer, err, want)
	}
	if status != 200 && status != 405 {
		checkProblem(t, status, answer)
	}
}

func checkProblem(t *testing.T, status int, answer []byte) {
	t.Helper()
	var problem struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal(answer, &problem); err != nil || problem.Title != http.StatusText(status) || problem.Status != status || problem.Detail == "" {
		t.Errorf("error body %s (%v)", answer, err)
	}
}

func TestRetrievalIsAsStrictAsTheGuide(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	j := newJourney(t, s, "passed-passport")
	front := partPath(partOf(t, j, "FRONT"))
	short := "/api/v1/workflow-executions/" + j.WorkflowExecutionID
	unknown := "00000000-0000-4000-8000-000000000000"
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, tt := range []struct {
		name   string
		path   string
		change func(*http.Request)
		want   int
	}{
		{"details", detailsPath(j), nil, 200},
		{"details, short form", short, nil, 200},
		{"status", detailsPath(j) + "/status", nil, 200},
		{"status, short form", short + "/status", nil, 200},
		{"image", front, nil, 200},
		{"image with an image's Accept too", front, header("Accept", "image/jpeg, application/json;q=0.5"), 200},
		{"Basic authentication", detailsPath(j), func(r *http.Request) { r.SetBasicAuth("sandbox", "sandbox") }, 200},
		{"no Authorization", detailsPath(j), func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		{"wrong token", detailsPath(j), header("Authorization", "Bearer guess"), 401},
		{"empty token", detailsPath(j), header("Authorization", "Bearer "), 401},
		{"another scheme", detailsPath(j), header("Authorization", "Digest "+c.token), 401},
		{"wrong Basic secret", detailsPath(j), func(r *http.Request) { r.SetBasicAuth("sandbox", "guess") }, 401},
		{"unknown workflow execution", "/api/v1/workflow-executions/" + unknown, nil, 404},
		{"another account's workflow execution", "/api/v1/accounts/" + unknown + "/workflow-executions/" + j.WorkflowExecutionID, nil, 404},
		{"unknown credential", "/api/v1/accounts/" + j.AccountID + "/credentials/" + unknown + "/parts/FRONT", nil, 404},
		{"unknown classifier", strings.TrimSuffix(front, "FRONT") + "BACK", nil, 404},
		{"another account's image", strings.Replace(front, j.AccountID, unknown, 1), nil, 404},
		{"suspicious id", "/api/v1/workflow-executions/x%27%20OR%201=1", nil, 403},
		{"no such resource", "/api/v1/accounts/" + j.AccountID, nil, 404},
		{"POST", detailsPath(j), func(r *http.Request) { r.Method = http.MethodPost }, 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := c.request(tt.path)
			if tt.change != nil {
				tt.change(r)
			}
			c.wantAnswer(t, r, tt.want)
		})
	}
}

// TestEveryEndpointChecksTheGuidesHeaders: "Retrieval", "Request Headers".
func TestEveryEndpointChecksTheGuidesHeaders(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	j := newJourney(t, s, "passed-passport")
	short := "/api/v1/workflow-executions/" + j.WorkflowExecutionID
	for endpoint, path := range map[string]string{
		"details": detailsPath(j), "details, short form": short, "status": detailsPath(j) + "/status", "status, short form": short + "/status",
		"image": partPath(partOf(t, j, "FRONT")), "facemap": partPath(partOf(t, j, "FACEMAP")),
	} {
		for _, tt := range []struct {
			header, value string // an empty value: the header is missing
			want          int
		}{
			{"Accept", "application/json", 200},
			{"Accept", "image/jpeg, application/json;q=0.5", 200},
			{"Accept", "", 403},
			{"Accept", "*/*", 403},
			{"Accept", "image/jpeg", 403},
			{"Content-Type", "application/json; charset=utf-8", 200},
			{"Content-Type", "", 403},
			{"Content-Type", "application/x-www-form-urlencoded", 403},
			{"User-Agent", "YourCompany YourApp/v1.0", 200},
			{"User-Agent", "", 403}, // Go's client sends its own
			{"User-Agent", "Go-http-client/1.1", 403},
			{"Authorization", "Bearer " + c.token, 200},
			{"Authorization", "", 401},
			{"Authorization", "Bearer guess", 401},
		} {
			r := c.request(path)
			r.Header.Del(tt.header)
			if tt.value != "" {
				r.Header.Set(tt.header, tt.value)
			}
			status, answer, err := c.do(r)
			if err != nil || status != tt.want {
				t.Errorf("%s with %s %q: %d %v, want %d", endpoint, tt.header, tt.value, status, err, tt.want)
			} else if status != 200 {
				checkProblem(t, status, answer)
			}
		}
	}
}

func TestTokensExpireAndAreGivenOutAgain(t *testing.T) {
	var now atomic.Pointer[time.Time]
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	set := func(d time.Duration) { later := at.Add(d); now.Store(&later) }
	set(0)
	s := start(t, Config{TokenLifetime: 10 * time.Minute, Now: func() time.Time { return *now.Load() }})
	c := login(t, s)
	first := c.token
	j := newJourney(t, s, "passed-passport")

	set(2 * time.Minute)
	c.renew()
	if c.token != first {
		t.Error("a young token was not given out again")
	}
	set(6 * time.Minute)
	c.renew()
	if c.token == first {
		t.Error("an old token was given out again")
	}
	second := c.token
	c.token = first
	if status, _ := c.get(detailsPath(j)); status != 200 {
		t.Errorf("the old token before its end: %d", status)
	}
	set(11 * time.Minute)
	if status, _ := c.get(detailsPath(j)); status != 401 {
		t.Errorf("the expired token: %d", status)
	}
	c.token = second
	if status, _ := c.get(detailsPath(j)); status != 200 {
		t.Errorf("the second token: %d", status)
	}
	s.RevokeTokens()
	if status, _ := c.get(detailsPath(j)); status != 401 {
		t.Errorf("the revoked token: %d", status)
	}
	if totals := s.Ledger().Totals; totals.TokenRequests != 3 || totals.TokensIssued != 2 {
		t.Errorf("%d token requests, %d tokens", totals.TokenRequests, totals.TokensIssued)
	}
}

func TestClientsOfOneDataCenterSeeItsWorkflowsOnly(t *testing.T) {
	s := start(t, Config{DataCenter: "emea-1", Clients: []Client{
		{ID: "sandbox", Secret: "sandbox"}, {ID: "eu", Secret: "e", DataCenter: "emea-1"}, {ID: "us", Secret: "u", DataCenter: "amer-1"},
	}})
	c := login(t, s)
	j := newJourney(t, s, "passed-passport")
	if !strings.HasPrefix(j.WorkflowHref(), "https://retrieval.emea-1.jumio.ai/api/v1/accounts/") {
		t.Errorf("href %s", j.WorkflowHref())
	}
	for id, want := range map[string]int{"eu": 200, "us": 403, "sandbox": 200} {
		for _, path := range []string{detailsPath(j), partPath(j.parts[0])} {
			r := c.request(path)
			r.SetBasicAuth(id, map[string]string{"eu": "e", "us": "u", "sandbox": "sandbox"}[id])
			if status, _, err := c.do(r); err != nil || status != want {
				t.Errorf("client %s: %d %v, want %d", id, status, err, want)
			}
		}
	}
}

func TestRequestLimitAnswers429(t *testing.T) {
	s := start(t, Config{RequestsPerSecond: 0.001})
	c := login(t, s)
	j := newJourney(t, s, "passed-passport")
	first, _ := c.get(detailsPath(j))
	second, answer := c.get(detailsPath(j))
	if first != 200 || second != 429 || string(answer) != `{"detail":"Request limit exceeded","status":429,"title":"Too Many Requests"}` {
		t.Errorf("%d, then %d %s", first, second, answer)
	}
}
