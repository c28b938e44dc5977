package jumio

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	accountID    = "11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	workflowID   = "22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	credentialID = "33333333-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
)

var (
	testCredentials = Credentials{ClientID: "client", ClientSecret: "s3cret %+:/"}
	testWorkflow    = Workflow{DataCenter: "amer-1", AccountID: accountID, ID: workflowID}
	frontPart       = Part{AccountID: accountID, CredentialID: credentialID, Category: "ID", Classifier: "FRONT"}
)

// jumioServer is a real server whose two endpoints a test scripts.
type jumioServer struct {
	*httptest.Server
	tokenRequests atomic.Int64
	apiRequests   atomic.Int64
}

// newServer serves token and api; a nil token gives numbered tokens for an hour.
func newServer(t *testing.T, token, api http.HandlerFunc) *jumioServer {
	t.Helper()
	s := &jumioServer{}
	if token == nil {
		token = func(w http.ResponseWriter, _ *http.Request) {
			writeToken(w, fmt.Sprintf("token-%d", s.tokenRequests.Load()), 3600)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/oauth2/token", func(w http.ResponseWriter, r *http.Request) {
		s.tokenRequests.Add(1)
		token(w, r)
	})
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		s.apiRequests.Add(1)
		api(w, r)
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { // health
		s.apiRequests.Add(1)
		api(w, r)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func writeToken(w http.ResponseWriter, value string, expiresIn int) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": value, "expires_in": expiresIn, "token_type": "Bearer"})
}

// answer is a handler that always says the same.
func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func testConfig(base string) Config {
	u, err := url.Parse(base)
	if err != nil {
		panic(err)
	}
	return Config{
		Credentials:     testCredentials,
		UserAgent:       "YourCompany YourApp/v1.0",
		TokenURL:        u,
		RetrievalURL:    u,
		AccountURL:      u,
		APIURL:          u,
		StatusURL:       u,
		Budget:          NewLocalBudget(10000),
		MaxImageBytes:   1 << 20,
		ProgressTimeout: 30 * time.Second,
	}
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg, zap.NewNop(), NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// asError fails the test unless err is an *Error with that code.
func asError(t *testing.T, err error, code string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want an *Error with code %s", err, code)
	}
	if e.Code != code {
		t.Fatalf("got code %s (%v), want %s", e.Code, err, code)
	}
	if !strings.HasPrefix(e.Error(), code+": ") {
		t.Errorf("text %q does not begin with the code", e.Error())
	}
	return e
}

// wantCode is asError for tests that look at nothing but the code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	_ = asError(t, err, code)
}

func basicHeader(c Credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.ClientID+":"+c.ClientSecret))
}
