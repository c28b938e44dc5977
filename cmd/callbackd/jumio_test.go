package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// standIn is a Jumio whose answers a test scripts. It gives access tokens itself.
type standIn struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // method, path and body of the other requests
	api  http.HandlerFunc
}

func newStandIn(t *testing.T, api http.HandlerFunc) *standIn {
	t.Helper()
	s := &standIn{api: api}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth2/token" {
			_, _ = io.WriteString(w, `{"access_token":"MARK-access","expires_in":3600}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
			body = []byte(r.Header.Get("Authorization"))
		}
		s.mu.Lock()
		s.seen = append(s.seen, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+string(body)))
		s.mu.Unlock()
		s.api(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// requests gives what was asked since the last call.
func (s *standIn) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

func (s *standIn) environ(more ...string) []string {
	return append([]string{
		"JUMIO_CLIENT_ID=MARK-client", "JUMIO_CLIENT_SECRET=MARK-secret", "JUMIO_USER_AGENT=Test Tests/v1.0",
		"JUMIO_TOKEN_URL=" + s.URL, "JUMIO_ACCOUNT_URL=" + s.URL, "JUMIO_API_URL=" + s.URL, "JUMIO_STATUS_URL=" + s.URL,
	}, more...)
}

// answered always answers the same.
func answered(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// creation is an answer of Jumio's at origin, with a mark in each token.
func creation(origin string) string {
	at := origin + "/api/v1/accounts/a1/workflow-executions/w1"
	credential := func(id, category, parts string) string {
		return `{"id":"` + id + `","category":"` + category + `","allowedChannels":["API"],"api":{"token":"MARK-` + id + `","parts":{` + parts + `},"workflowExecution":"` + at + `"}}`
	}
	part := func(credential, name, classifier string) string {
		return `"` + name + `":"` + at + `/credentials/` + credential + `/parts/` + classifier + `"`
	}
	return `{"timestamp":"2026-11-30T12:00:00.000Z", "account":{"id":"a1"},"web":{"href":"https://c.web.amer-1.jumio.ai/web/v4/app?authorizationToken=MARK-web"},
 "sdk":{"token":"MARK-sdk"},"later":1e400,"workflowExecution":{"id":"w1","credentials":[` +
		credential("c1", "ID", part("c1", "front", "FRONT")+","+part("c1", "back", "BACK")) + `,` +
		credential("c2", "DOCUMENT", part("c2", "front", "FRONT")) + `,` +
		credential("c3", "SELFIE", part("c3", "face", "FACE")) + `]}}`
}

// TestJumioHealth: a line for each data center, and exit code 1 unless all is UP.
func TestJumioHealth(t *testing.T) {
	s := newStandIn(t, nil)
	bare := []string{"JUMIO_USER_AGENT=Test Tests/v1.0", "JUMIO_STATUS_URL=" + s.URL}
	down := "callbackd: not all of Jumio's services are UP: "
	for name, tt := range map[string]struct {
		body     string
		environ  []string
		args     []string
		want     result
		requests int
	}{
		"all of Jumio's":      {`{"status":"UP"}`, s.environ(), nil, result{0, "amer-1  UP\nemea-1  UP\napac-1  UP\n", ""}, 3},
		"the environment's":   {`{"status":"UP"}`, s.environ("JUMIO_DATA_CENTER=emea-1"), nil, result{0, "emea-1  UP\n", ""}, 1},
		"with credentials":    {`{"status":"UP"}`, append(bare, "JUMIO_CLIENT_ID_APAC_1=i", "JUMIO_CLIENT_SECRET_APAC_1=s"), nil, result{0, "apac-1  UP\n", ""}, 1},
		"the arguments'":      {`{"status":"UP"}`, s.environ("JUMIO_DATA_CENTER=emea-1"), []string{"apac-1", "amer-1"}, result{0, "apac-1  UP\namer-1  UP\n", ""}, 2},
		"without credentials": {`{"status":"UP","details":{"api":"UP"}}`, bare, []string{"amer-1"}, result{0, "amer-1  UP  api=UP\n", ""}, 1},
		"degraded":            {`{"status":"DEGRADED","details":{"retrieval":"DOWN","callback":"UP"}}`, bare, []string{"amer-1"}, result{1, "amer-1  DEGRADED  callback=UP  retrieval=DOWN\n", down + "amer-1\n"}, 1},
		"a service":           {`{"status":"UP","details":{"web":"DEGRADED"}}`, bare, []string{"amer-1"}, result{1, "amer-1  UP  web=DEGRADED\n", down + "amer-1\n"}, 1},
		"an unknown state":    {`{"status":"MARK"}`, bare, []string{"amer-1"}, result{1, "amer-1  unknown\n", down + "amer-1\n"}, 1},
		"no JSON":             {`MARK`, bare, []string{"amer-1"}, result{1, "amer-1  unknown (invalid_json: health: the body is not a JSON object)\n", down + "amer-1\n"}, 1},
		"none named":          {``, bare, nil, result{2, "", "callbackd: jumio-health: missing argument DATA_CENTER: neither JUMIO_DATA_CENTER nor credentials name one; see `callbackd jumio-health --help`\n"}, 0},
		"an unknown name":     {``, s.environ(), []string{"us"}, result{2, "", "callbackd: jumio-health: \"us\" is not a data center; Jumio's are amer-1, emea-1, apac-1; see `callbackd jumio-health --help`\n"}, 0},
		"no User-Agent":       {``, nil, []string{"amer-1"}, result{1, "", "callbackd: JUMIO_USER_AGENT is missing, want printable ASCII such as YourCompany YourApp/v1.0\n"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s.api = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "" {
					t.Error("with authorization")
				}
				answered(200, tt.body)(w, r)
			}
			if diff := cmp.Diff(tt.want, callbackd(t, tt.environ, append([]string{"jumio-health"}, tt.args...)...)); diff != "" {
				t.Error(diff)
			}
			if seen := s.requests(); len(seen) != tt.requests {
				t.Errorf("asked %q", seen)
			}
		})
	}
}
