package jumio

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
)

// TestRequests: paths and headers are the guide's.
func TestRequests(t *testing.T) {
	png := drawPNG(t)
	var mu sync.Mutex
	var seen []string
	record := func(r *http.Request, want http.Header) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Method+" "+r.URL.String())
		for name, value := range want {
			if diff := cmp.Diff(value, r.Header[name]); diff != "" {
				t.Errorf("%s, header %s: %s", r.URL.Path, name, diff)
			}
		}
	}
	agent := []string{"YourCompany YourApp/v1.0"}
	s := newServer(t,
		func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil || r.PostForm.Encode() != "grant_type=client_credentials" {
				t.Errorf("token form %q, %v", r.PostForm.Encode(), err)
			}
			record(r, http.Header{
				"Accept":        {"application/json"},
				"Content-Type":  {"application/x-www-form-urlencoded"},
				"User-Agent":    agent,
				"Authorization": {basicHeader(testCredentials)}, // as curl sends it, not percent-encoded
			})
			writeToken(w, "tok", 3600)
		},
		func(w http.ResponseWriter, r *http.Request) {
			want := http.Header{
				"Accept":          {"application/json"},
				"Content-Type":    {"application/json"},
				"User-Agent":      agent,
				"Authorization":   {"Bearer tok"},
				"Accept-Encoding": nil,
			}
			if strings.Contains(r.URL.Path, "/parts/") {
				want["Accept"] = []string{acceptImage}
				w.Header().Set("Content-Type", "image/png")
				_, _ = w.Write(png)
			} else {
				_, _ = w.Write([]byte(goodDetails))
			}
			record(r, want)
		})
	c := newClient(t, testConfig(s.URL))
	short := Workflow{DataCenter: "amer-1", ID: workflowID}
	for _, err := range []error{
		call(t.Context(), c, EndpointStatus),
		call(t.Context(), c, EndpointDetails),
		call(t.Context(), c, EndpointImage),
		second(c.Status(t.Context(), short)),
		second(c.Details(t.Context(), short)),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		"POST /oauth2/token",
		"GET /api/v1/accounts/" + accountID + "/workflow-executions/" + workflowID + "/status",
		"GET /api/v1/accounts/" + accountID + "/workflow-executions/" + workflowID,
		"GET /api/v1/accounts/" + accountID + "/credentials/" + credentialID + "/parts/FRONT",
		"GET /api/v1/workflow-executions/" + workflowID + "/status",
		"GET /api/v1/workflow-executions/" + workflowID,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func second[T any](_ T, err error) error { return err }

func TestStatusAnswers(t *testing.T) {
	guide := `{
    "account": {
        "id": "11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
        "href": "https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
    },
    "workflowExecution": {
        "id": "22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
        "href": "https://retrieval.apac-1.jumio.ai/api/v1/workflow-executions/22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
        "definitionKey": "2",
        "status": "PROCESSED"
    }
}`
	tests := map[string]struct {
		body string
		want StatusResult
	}{
		"the guide's example":         {guide, StatusResult{"PROCESSED", accountID, "2"}},
		"definition key as a number":  {`{"workflowExecution":{"status":"NEW_ONE","definitionKey":10011}}`, StatusResult{"NEW_ONE", "", "10011"}},
		"nothing known":               {`{"something":"else"}`, StatusResult{}},
		"other types":                 {`{"account":"a","workflowExecution":[{"status":"PROCESSED"}]}`, StatusResult{}},
		"odd fields":                  {`{"account":{"id":7},"workflowExecution":{"status":{"a":1},"definitionKey":[3]}}`, StatusResult{}},
		"an id that is not one":       {`{"account":{"id":"../x"},"workflowExecution":null}`, StatusResult{}},
		"status with a NUL character": {`{"workflowExecution":{"status":"A\u0000B"}}`, StatusResult{Status: "A\uFFFDB"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, nil, answer(200, "application/json", tt.body))
			got, err := newClient(t, testConfig(s.URL)).Status(t.Context(), testWorkflow)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDetailsAreVerbatim(t *testing.T) {
	body := " \n{\"a\":\"\\u0000\", \"a\" : 1e400,\t\"bad utf-8\":\"\xff\", \"later\":{}}\r\n"
	s := newServer(t, nil, answer(200, "text/plain", body))
	got, err := newClient(t, testConfig(s.URL)).Details(t.Context(), testWorkflow)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, []byte(body)) {
		t.Errorf("got %q", got)
	}
}

// TestTargets: where the requests of a data center go, and as whom.
func TestTargets(t *testing.T) {
	private, _ := url.Parse("http://Sandbox:8081/")
	amer, emea := Credentials{"amer", "a"}, Credentials{"emea", "e"}
	both := map[string]Credentials{"amer-1": amer, "emea-1": emea}
	tests := map[string]struct {
		cfg        Config
		dataCenter string
		want       target
		refused    bool
	}{
		"the data center's own endpoints": {
			cfg: Config{Credentials: testCredentials}, dataCenter: "apac-1",
			want: target{"apac-1", "https://auth.apac-1.jumio.ai", "https://retrieval.apac-1.jumio.ai", testCredentials},
		},
		"its own credentials": {
			cfg: Config{Credentials: testCredentials, DataCenter: both}, dataCenter: "emea-1",
			want: target{"emea-1", "https://auth.emea-1.jumio.ai", "https://retrieval.emea-1.jumio.ai", emea},
		},
		"configured endpoints, credentials by data center": {
			cfg: Config{Credentials: testCredentials, DataCenter: both, TokenURL: private, RetrievalURL: private}, dataCenter: "amer-1",
			want: target{"amer-1", "http://sandbox:8081", "http://sandbox:8081", amer},
		},
		"configured endpoints, unknown data center": {
			cfg:  Config{Credentials: testCredentials, DataCenter: both, TokenURL: private, RetrievalURL: private},
			want: target{"", "http://sandbox:8081", "http://sandbox:8081", testCredentials},
		},
		"only the retrieval endpoint configured": {
			cfg: Config{Credentials: testCredentials, RetrievalURL: private}, dataCenter: "amer-1",
			want: target{"amer-1", "https://auth.amer-1.jumio.ai", "http://sandbox:8081", testCredentials},
		},
		"unknown data center, one configured": {
			cfg:  Config{DataCenter: map[string]Credentials{"amer-1": amer}},
			want: target{"amer-1", "https://auth.amer-1.jumio.ai", "https://retrieval.amer-1.jumio.ai", amer},
		},
		"unknown data center, several configured":        {cfg: Config{DataCenter: both}, refused: true},
		"unknown data center, default credentials":       {cfg: Config{Credentials: testCredentials}, refused: true},
		"unknown data center, only a retrieval endpoint": {cfg: Config{Credentials: testCredentials, RetrievalURL: private}, refused: true},
		"unknown data center, only a token endpoint":     {cfg: Config{Credentials: testCredentials, TokenURL: private}, refused: true},
		"data center without credentials":                {cfg: Config{DataCenter: both}, dataCenter: "apac-1", refused: true},
		"label that is none":                             {cfg: Config{Credentials: testCredentials}, dataCenter: "evil.example/", refused: true},
		"label of no data center":                        {cfg: Config{Credentials: testCredentials}, dataCenter: "evil", refused: true},
		"label of no data center, configured endpoints": {
			cfg: Config{Credentials: testCredentials, TokenURL: private, RetrievalURL: private}, dataCenter: "evil", refused: true,
		},
		"label that only its credentials make known": {
			cfg: Config{DataCenter: map[string]Credentials{"me-1": amer}}, dataCenter: "me-1",
			want: target{"me-1", "https://auth.me-1.jumio.ai", "https://retrieval.me-1.jumio.ai", amer},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.cfg.target(tt.dataCenter)
			if (err != nil) != tt.refused {
				t.Fatalf("error %v", err)
			}
			if got != tt.want {
				t.Errorf("got %s, %s, right credentials: %v", got.tokenOrigin, got.retrievalOrigin, got.credentials == tt.want.credentials)
			}
		})
	}
}

func TestKnownDataCenters(t *testing.T) {
	private, _ := url.Parse("http://127.0.0.1:8099")
	amer, emea := Credentials{"amer", "a"}, Credentials{"emea", "e"}
	with := func(change func(*Config)) Config {
		cfg := testConfig("http://127.0.0.1")
		cfg.TokenURL, cfg.RetrievalURL = nil, nil
		change(&cfg)
		return cfg
	}
	tests := map[string]struct {
		cfg  Config
		want []string
	}{
		"default credentials": {with(func(*Config) {}), []string{"amer-1", "emea-1", "apac-1"}},
		"besides, some of their own": {
			with(func(cfg *Config) { cfg.DataCenter = map[string]Credentials{"xy-2": emea, "emea-1": emea, "me-1": amer} }),
			[]string{"amer-1", "emea-1", "apac-1", "me-1", "xy-2"},
		},
		"no default credentials": {
			with(func(cfg *Config) {
				cfg.Credentials, cfg.DataCenter = Credentials{}, map[string]Credentials{"me-1": amer, "apac-1": emea}
			}),
			[]string{"apac-1", "me-1"},
		},
		"configured endpoints": {
			with(func(cfg *Config) { cfg.TokenURL, cfg.RetrievalURL = private, private }),
			[]string{""},
		},
		"configured endpoints, credentials by data center": {
			with(func(cfg *Config) {
				cfg.TokenURL, cfg.RetrievalURL = private, private
				cfg.DataCenter = map[string]Credentials{"emea-1": emea, "me-1": emea, "amer-1": testCredentials}
			}),
			[]string{"", "emea-1"},
		},
		"configured endpoints, no default credentials": {
			with(func(cfg *Config) {
				cfg.TokenURL, cfg.RetrievalURL = private, private
				cfg.Credentials, cfg.DataCenter = Credentials{}, map[string]Credentials{"emea-1": emea, "amer-1": amer}
			}),
			[]string{"amer-1", "emea-1"},
		},
		"only the retrieval endpoint configured": {
			with(func(cfg *Config) { cfg.RetrievalURL = private }),
			[]string{"amer-1"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := newClient(t, tt.cfg).KnownDataCenters()
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			got[0] = "changed"
			if DataCenters()[0] != "amer-1" {
				t.Error("the caller can change the list")
			}
		})
	}
}

func TestNoDataCenter(t *testing.T) {
	cfg := testConfig("http://127.0.0.1")
	cfg.TokenURL, cfg.RetrievalURL = nil, nil
	_, err := newClient(t, cfg).Details(t.Context(), Workflow{ID: workflowID})
	wantCode(t, err, CodeNoDataCenter)
}

// TestPublicEndpoints sends requests for two data centers over TLS and looks at
// the host names that they were meant for.
func TestPublicEndpoints(t *testing.T) {
	var mu sync.Mutex
	var hosts []string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		mu.Lock()
		hosts = append(hosts, r.Host+" "+user)
		mu.Unlock()
		if r.URL.Path == "/oauth2/token" {
			writeToken(w, "token-of-"+user, 3600)
			return
		}
		owner := map[string]string{"retrieval.amer-1.jumio.ai": "amer", "retrieval.emea-1.jumio.ai": "client"}[r.Host]
		if r.Header.Get("Authorization") != "Bearer token-of-"+owner {
			t.Errorf("%s got a token that is not its own", r.Host)
		}
		_, _ = w.Write([]byte(goodDetails))
	}))
	defer s.Close()

	cfg := testConfig(s.URL)
	cfg.TokenURL, cfg.RetrievalURL = nil, nil
	cfg.DataCenter = map[string]Credentials{"amer-1": {"amer", "a"}}
	c := newClient(t, cfg)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c.transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}
	c.transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
	for _, dataCenter := range []string{"amer-1", "emea-1"} {
		if _, err := c.Details(t.Context(), Workflow{DataCenter: dataCenter, ID: workflowID}); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"auth.amer-1.jumio.ai amer", "retrieval.amer-1.jumio.ai ",
		"auth.emea-1.jumio.ai client", "retrieval.emea-1.jumio.ai ",
	}
	if diff := cmp.Diff(want, hosts); diff != "" {
		t.Error(diff)
	}
}

func TestBasicAuthentication(t *testing.T) {
	s := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != basicHeader(testCredentials) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(goodDetails))
	})
	cfg := testConfig(s.URL)
	cfg.Basic = true
	if err := call(t.Context(), newClient(t, cfg), EndpointDetails); err != nil {
		t.Fatal(err)
	}
	cfg.Credentials.ClientSecret = "wrong"
	wantCode(t, call(t.Context(), newClient(t, cfg), EndpointDetails), CodeUnauthorized)
	if api, token := s.apiRequests.Load(), s.tokenRequests.Load(); api != 2 || token != 0 {
		t.Errorf("%d requests and %d for a token, want 2 and none: Basic authentication has nothing to renew", api, token)
	}
}

func TestConfigErrors(t *testing.T) {
	withUser, _ := url.Parse("https://user:hunter2@jumio.example")
	withPath, _ := url.Parse("https://jumio.example/api")
	withQuery, _ := url.Parse("https://jumio.example?key=hunter2")
	ftp, _ := url.Parse("ftp://jumio.example")
	_, err := New(Config{
		Credentials:  Credentials{ClientID: "client-mark"},
		DataCenter:   map[string]Credentials{"AMER-1": {ClientSecret: "secret-mark"}},
		UserAgent:    "a\r\nX: y",
		TokenURL:     withUser,
		RetrievalURL: withPath,
		AccountURL:   withUser,
		APIURL:       withQuery,
		StatusURL:    withPath,
	}, zap.NewNop(), nil)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"default credentials", "AMER-1", "user agent", "token URL", "retrieval URL", "account URL", "API URL", "status URL", "budget", "largest image", "progress timeout"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not named in %q", part, err)
		}
	}
	for _, secret := range []string{"mark", "hunter2"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q shows in %q", secret, err)
		}
	}
	cfg := testConfig("http://127.0.0.1")
	cfg.RetrievalURL = ftp
	if _, err := New(cfg, zap.NewNop(), nil); err == nil || !strings.Contains(err.Error(), "http") {
		t.Errorf("got %v", err)
	}
}

func TestMetrics(t *testing.T) {
	png := drawPNG(t)
	answers := []http.HandlerFunc{
		answer(401, "", ""),
		answer(200, "", goodDetails),
		answer(777, "", ""),
		answer(200, "", "<html>"),
		answer(200, "image/png", string(png)),
		brokenOff("image/png", string(png)),
	}
	s := newServer(t, nil, nil)
	s.Config.Handler.(*http.ServeMux).HandleFunc("/api/v1/", func(w http.ResponseWriter, r *http.Request) {
		answers[s.apiRequests.Add(1)-1](w, r)
	})
	reg := prometheus.NewRegistry()
	c, err := New(testConfig(s.URL), zap.NewNop(), NewMetrics(reg))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, endpoint := range []string{EndpointDetails, EndpointStatus, EndpointStatus, EndpointImage, EndpointImage} {
		_ = call(t.Context(), c, endpoint)
	}
	want := map[string]float64{
		"details 200": 1, "image 200": 1, "token 200": 2, "details 401": 1,
		"image image_truncated": 1, "status invalid_json": 1, "status other": 1,
	}
	if diff := cmp.Diff(want, requestsCounted(t, reg)); diff != "" {
		t.Errorf("callbackd_jumio_requests_total (-want +got):\n%s", diff)
	}
	if got := testutil.ToFloat64(c.metrics.imageBytes); got != float64(len(png)) {
		t.Errorf("callbackd_image_bytes_total is %v, want %d", got, len(png))
	}
	if n := testutil.CollectAndCount(c.metrics.duration); n != 6 {
		t.Errorf("durations of %d endpoints, want 6", n)
	}
}

// requestsCounted are the samples of callbackd_jumio_requests_total that are not
// 0, by endpoint and code.
func requestsCounted(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "callbackd_jumio_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := metric.GetLabel() // in the order of their names: code, endpoint
			if n := metric.GetCounter().GetValue(); n > 0 {
				counted[labels[1].GetValue()+" "+labels[0].GetValue()] = n
			}
		}
	}
	return counted
}

// What an alert compares with before must show before it first happens.
func TestMetricsBeginAtZero(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	before := testutil.CollectAndCount(m.requests)
	for _, endpoint := range []string{EndpointToken, EndpointStatus, EndpointDetails, EndpointImage, EndpointDelete, EndpointHealth} {
		for _, code := range []string{"200", "401", "403", "429", "503", CodeTimeout, CodeConnectionFailed} {
			if n := testutil.ToFloat64(m.requests.WithLabelValues(endpoint, code)); n != 0 {
				t.Errorf("%s %s is %v", endpoint, code, n)
			}
		}
	}
	if n := testutil.CollectAndCount(m.requests); n != before {
		t.Errorf("%d series were not there", n-before)
	}
}

// TestRate: retrieval requests keep to the limit, and a wait ends with its
// caller.
func TestRate(t *testing.T) {
	s := newServer(t, nil, answer(200, "application/json", goodDetails))
	cfg := testConfig(s.URL)
	cfg.Budget = NewLocalBudget(0.001)
	c := newClient(t, cfg)
	if err := call(t.Context(), c, EndpointDetails); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wantCode(t, call(ctx, c, EndpointDetails), CodeTimeout) // at once: its turn is too late
	cancel()
	wantCode(t, call(ctx, c, EndpointDetails), CodeCanceled)
	if n := s.apiRequests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}
