package jumio

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The answers of this file are the guide's ("Account Update", "Response").
const (
	createdAccount  = "11111111-1111-1111-1111-aaaaaaaaaaaa"
	createdWorkflow = "22222222-2222-2222-2222-aaaaaaaaaaaa"
	guideCreation   = `{
    "timestamp": "2021-05-28T09:17:50.240Z",
    "account": {
        "id": "11111111-1111-1111-1111-aaaaaaaaaaaa"
    },
    "web": {
        "href": "https://mycompany.web.amer-1.jumio.ai/web/v4/app?authorizationTokenxxx&locale=es"
    },
    "sdk": {
        "token": "xxx"
    },
    "workflowExecution": {
        "id": "22222222-2222-2222-2222-aaaaaaaaaaaa",
        "credentials": [
            {
                "id": "33333333-3333-3333-aaaaaaaaaaaa",
                "category": "ID",
                "country": {"values": ["USA", "AUT"]},
                "type": {"predefinedType": "DEFINED", "values": ["PASSPORT"]},
                "allowedChannels": [
                    "WEB",
                    "API",
                    "SDK"
                ],
                "api": {
                    "token": "yyy",
                    "parts": {
                        "front": "https://api.amer-1.jumio.ai/api/v1/accounts/11111111-1111-1111-1111-aaaaaaaaaaaa/workflow-executions/22222222-2222-2222-2222-aaaaaaaaaaaa/credentials/33333333-3333-3333-aaaaaaaaaaaa/parts/FRONT",
                        "back": "https://api.amer-1.jumio.ai/api/v1/accounts/11111111-1111-1111-1111-aaaaaaaaaaaa/workflow-executions/22222222-2222-2222-2222-aaaaaaaaaaaa/credentials/33333333-3333-3333-aaaaaaaaaaaa/parts/BACK"
                    },
                    "workflowExecution": "https://api.amer-1.jumio.ai/api/v1/accounts/11111111-1111-1111-1111-aaaaaaaaaaaa/workflow-executions/22222222-2222-2222-2222-aaaaaaaaaaaa"
                }
            }
        ]
    }
}`
	requestBody = `{"customerInternalReference":"CUSTOMER_REFERENCE","workflowDefinition":{"key":2}}`
)

// TestAccountRequests: methods, paths, headers and bodies are the guide's, also when the
// token is renewed, and 201 is as good as 200.
func TestAccountRequests(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	s := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization"))
		want := http.Header{
			"Accept":         {"application/json"},
			"Content-Type":   {"application/json"},
			"Content-Length": {fmt.Sprint(len(requestBody))},
			"User-Agent":     {"YourCompany YourApp/v1.0"},
			"Authorization":  r.Header["Authorization"],
		}
		if diff := cmp.Diff(want, r.Header); diff != "" {
			t.Errorf("headers: %s", diff)
		}
		if string(body) != requestBody {
			t.Errorf("body %q", body)
		}
		if len(seen) == 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer(199+len(seen)-1, "application/json", guideCreation)(w, r) // 200, then 201
	})
	c := newClient(t, testConfig(s.URL))
	if _, err := c.CreateAccount(t.Context(), "emea-1", []byte(requestBody)); err != nil {
		t.Error(err)
	}
	if _, err := c.UpdateAccount(t.Context(), "emea-1", createdAccount, []byte(requestBody)); err != nil {
		t.Error(err)
	}
	want := []string{
		"POST /api/v1/accounts Bearer token-1",
		"POST /api/v1/accounts Bearer token-2",
		"PUT /api/v1/accounts/" + createdAccount + " Bearer token-2",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func TestParseCreation(t *testing.T) {
	const prefix = "https://api.amer-1.jumio.ai/api/v1/accounts/" + createdAccount + "/workflow-executions/" + createdWorkflow
	whole := Creation{
		Timestamp: "2021-05-28T09:17:50.240Z", AccountID: createdAccount, WorkflowExecutionID: createdWorkflow, SDKToken: "xxx",
		WebHref: "https://mycompany.web.amer-1.jumio.ai/web/v4/app?authorizationTokenxxx&locale=es",
		Credentials: []CreatedCredential{{
			ID: "33333333-3333-3333-aaaaaaaaaaaa", Category: "ID", Countries: []string{"USA", "AUT"}, Types: []string{"PASSPORT"},
			AllowedChannels: []string{"WEB", "API", "SDK"},
			API: Actions{
				Token: "yyy",
				Parts: map[string]string{
					"front": prefix + "/credentials/33333333-3333-3333-aaaaaaaaaaaa/parts/FRONT",
					"back":  prefix + "/credentials/33333333-3333-3333-aaaaaaaaaaaa/parts/BACK",
				},
				WorkflowExecution: prefix,
			},
		}},
	}
	tests := map[string]struct {
		body string
		want Creation
		code string
	}{
		"the guide's example":   {body: guideCreation, want: whole},
		"the workflow alone":    {body: `{"workflowExecution":{"id":"w"},"later":1e400}`, want: Creation{WorkflowExecutionID: "w"}},
		"other types":           {body: `{"timestamp":1,"account":[],"sdk":"t","web":{"href":{}},"workflowExecution":{"id":"w","credentials":{"id":"c"}}}`, want: Creation{WorkflowExecutionID: "w"}},
		"no api":                {body: `{"workflowExecution":{"id":"w","credentials":[{"id":"c","category":"SELFIE"},null]}}`, want: Creation{WorkflowExecutionID: "w", Credentials: []CreatedCredential{{ID: "c", Category: "SELFIE", API: Actions{Parts: map[string]string{}}}, {API: Actions{Parts: map[string]string{}}}}}},
		"no workflow execution": {body: `{"account":{"id":"a"}}`, want: Creation{AccountID: "a"}, code: CodeNoWorkflowExecution},
		"an id that is none":    {body: `{"workflowExecution":{"id":"../w"}}`, code: CodeNoWorkflowExecution},
		"another case":          {body: `{"WorkflowExecution":{"id":"w"}}`, code: CodeNoWorkflowExecution},
		"HTML":                  {body: "<html>", code: CodeInvalidJSON},
		"half":                  {body: guideCreation[:300], code: CodeInvalidJSON},
		"nothing":               {code: CodeInvalidJSON},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseCreation([]byte(tt.body))
			if tt.code != "" {
				wantCode(t, err, tt.code)
			} else if err != nil {
				t.Fatal(err)
			}
			if string(got.Raw.Reveal()) != tt.body {
				t.Error("the answer is not kept")
			}
			got.Raw = nil
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCreationOutcome is the table of what is known after a creation that failed. No
// creation is repeated, except once after a 401.
func TestCreationOutcome(t *testing.T) {
	status := func(code int) http.HandlerFunc { return answer(code, "application/json", guideCreation) }
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	tests := map[string]struct {
		token, api http.HandlerFunc
		code       string
		unknown    bool
		requests   int64
		raw        string
	}{
		"202":                            {api: status(202), code: CodeUnexpectedStatus, unknown: true, requests: 1},
		"204":                            {api: answer(204, "", ""), code: CodeUnexpectedStatus, unknown: true, requests: 1},
		"302":                            {api: status(302), code: CodeRedirected, unknown: true, requests: 1},
		"400":                            {api: status(400), code: CodeBadRequest, requests: 1},
		"401 twice":                      {api: status(401), code: CodeUnauthorized, requests: 2},
		"403":                            {api: status(403), code: CodeForbidden, requests: 1},
		"404":                            {api: status(404), code: CodeNotFound, requests: 1},
		"408":                            {api: status(408), code: CodeTimeout, requests: 1},
		"429":                            {api: status(429), code: CodeRateLimited, requests: 1},
		"500":                            {api: status(500), code: CodeServerError, unknown: true, requests: 1},
		"503":                            {api: status(503), code: CodeServerError, unknown: true, requests: 1},
		"no answer":                      {api: hangUp, code: CodeConnectionFailed, unknown: true, requests: 1},
		"a 200 that breaks off":          {api: brokenOff("application/json", `{"account":`), code: CodeConnectionFailed, unknown: true, requests: 1, raw: `{"account":`},
		"a 200 without a workflow":       {api: answer(200, "", `{"account":{"id":"a"}}`), code: CodeNoWorkflowExecution, unknown: true, requests: 1, raw: `{"account":{"id":"a"}}`},
		"a 200 that is no JSON":          {api: answer(200, "text/html", "<html>"), code: CodeInvalidJSON, unknown: true, requests: 1, raw: "<html>"},
		"no token":                       {token: answer(500, "", ""), code: "token_" + CodeServerError},
		"no answer to the token request": {token: hangUp, code: "token_" + CodeConnectionFailed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, tt.token, tt.api)
			created, err := newClient(t, testConfig(s.URL)).CreateAccount(t.Context(), "amer-1", []byte(requestBody))
			if e := asError(t, err, tt.code); (e.Verdict == OutcomeUnknown) != tt.unknown {
				t.Errorf("verdict %d", e.Verdict)
			}
			if n := s.apiRequests.Load(); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
			raw := ""
			if created != nil {
				raw = string(created.Raw.Reveal())
			}
			if raw != tt.raw {
				t.Errorf("kept %q, want %q", raw, tt.raw)
			}
		})
	}
}

// TestNothingCreated: what never reached Jumio has created nothing.
func TestNothingCreated(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := "http://" + listener.Addr().String()
	_ = listener.Close()
	cfg := testConfig(refusing)
	cfg.Basic = true
	_, err = newClient(t, cfg).CreateAccount(t.Context(), "amer-1", []byte(requestBody))
	if e := asError(t, err, CodeConnectionFailed); e.Verdict == OutcomeUnknown {
		t.Error("a refused connection leaves it open")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newClient(t, cfg).CreateAccount(ctx, "amer-1", []byte(requestBody))
	if e := asError(t, err, CodeCanceled); e.Verdict == OutcomeUnknown {
		t.Error("a caller that leaves before leaves it open")
	}
	_, err = newClient(t, testConfig(refusing)).CreateAccount(t.Context(), "", []byte(requestBody))
	wantCode(t, err, CodeNoDataCenter)
	_, err = newClient(t, testConfig(refusing)).CreateAccount(t.Context(), "mars-1", []byte(requestBody))
	wantCode(t, err, CodeNoDataCenter)
	_, err = newClient(t, testConfig(refusing)).UpdateAccount(t.Context(), "amer-1", "../x", []byte(requestBody))
	wantCode(t, err, CodeInvalidID)
}

// TestCreationTimesOut: without an answer nobody knows; without a connection everybody
// does.
func TestCreationTimesOut(t *testing.T) {
	for name, connects := range map[string]bool{"no answer": true, "no connection": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newPipeClient(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
				c.cfg.Basic = true
				if !connects {
					c.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
						<-ctx.Done()
						return nil, ctx.Err()
					}
				}
				start := time.Now()
				_, err := c.CreateAccount(t.Context(), "amer-1", []byte(requestBody))
				if e := asError(t, err, CodeTimeout); (e.Verdict == OutcomeUnknown) != connects {
					t.Errorf("verdict %d", e.Verdict)
				}
				if took := time.Since(start); took != 30*time.Second {
					t.Errorf("ended after %v, want 30s", took)
				}
			})
		})
	}
}

// TestCallerLeavesCreation: whoever stops waiting for the answer does not know.
func TestCallerLeavesCreation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newServer(t, nil, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	_, err := newClient(t, testConfig(s.URL)).CreateAccount(ctx, "amer-1", []byte(requestBody))
	if e := asError(t, err, CodeCanceled); e.Verdict != OutcomeUnknown {
		t.Errorf("verdict %d", e.Verdict)
	}
}

// TestDeletion: methods, paths and headers are the guide's.
func TestDeletion(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	status := http.StatusOK
	s := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Method+" "+r.URL.String())
		want := http.Header{"Accept": {"application/json"}, "User-Agent": {"YourCompany YourApp/v1.0"}, "Authorization": {"Bearer token-1"}}
		if diff := cmp.Diff(want, r.Header); diff != "" {
			t.Errorf("headers: %s", diff)
		}
		w.WriteHeader(status)
	})
	c := newClient(t, testConfig(s.URL))
	for _, err := range []error{c.DeleteAccount(t.Context(), "amer-1", accountID), c.DeleteWorkflow(t.Context(), testWorkflow)} {
		if err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	status = http.StatusNotFound
	mu.Unlock()
	wantCode(t, c.DeleteWorkflow(t.Context(), testWorkflow), CodeNotFound)
	wantCode(t, c.DeleteWorkflow(t.Context(), Workflow{DataCenter: "amer-1", ID: workflowID}), CodeInvalidID)
	wantCode(t, c.DeleteAccount(t.Context(), "amer-1", ""), CodeInvalidID)
	want := []string{
		"DELETE /api/v1/accounts/" + accountID,
		"DELETE /api/v1/accounts/" + accountID + "/workflow-executions/" + workflowID,
		"DELETE /api/v1/accounts/" + accountID + "/workflow-executions/" + workflowID,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

// Whatever Jumio sends: no JSON object or no workflow execution is an error, the answer is
// kept, ids can be asked for, and nothing shows.
func FuzzParseCreation(f *testing.F) {
	for _, seed := range []string{
		guideCreation, `{"workflowExecution":{"id":"w","credentials":[{"api":{"parts":[]}},[],1]}}`, `{"workflowExecution":{"id":""}}`,
		"[]", "null", "{}{}", `{"workflowExecution":{"id":"w"},"workflowExecution":null}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := ParseCreation([]byte(body))
		if string(got.Raw.Reveal()) != body {
			t.Fatal("the answer is not kept")
		}
		if (err == nil) != (got.WorkflowExecutionID != "") {
			t.Errorf("error %v with workflow execution %q", err, got.WorkflowExecutionID)
		}
		ids := []string{got.WorkflowExecutionID, got.AccountID}
		for _, credential := range got.Credentials {
			ids = append(ids, credential.ID)
		}
		for _, id := range ids {
			if id != idOrNone(id) {
				t.Errorf("id %q", id)
			}
		}
		if shown := fmt.Sprintf("%v", got.Raw); shown != redacted || err != nil && len(body) > 40 && strings.Contains(err.Error(), body) {
			t.Errorf("shown: %s, %v", shown, err)
		}
	})
}
