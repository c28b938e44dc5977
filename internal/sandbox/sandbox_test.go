package sandbox

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start returns a listening sandbox that is closed after the test.
func start(t *testing.T, cfg Config) *Sandbox {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newJourney(t *testing.T, s *Sandbox, kind string, opts ...Option) *Journey {
	t.Helper()
	j, err := s.NewJourney(kind, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// apiClient is a well-behaved client with a token.
type apiClient struct {
	t     *testing.T
	s     *Sandbox
	http  *http.Client
	token string
}

func login(t *testing.T, s *Sandbox) *apiClient {
	t.Helper()
	c := newClient(t, s)
	c.renew()
	return c
}

// newClient has no token yet.
func newClient(t *testing.T, s *Sandbox) *apiClient {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &apiClient{t: t, s: s, http: &http.Client{
		Transport:     transport,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *apiClient) renew() {
	c.t.Helper()
	status, body, err := c.do(tokenRequest(c.t, c.s))
	if err != nil || status != http.StatusOK {
		c.t.Fatalf("token: %d %s %v", status, body, err)
	}
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		TokenType   string `json:"token_type"`
	}
	if err := json.Unmarshal(body, &token); err != nil {
		c.t.Fatal(err)
	}
	if token.AccessToken == "" || token.ExpiresIn <= 0 || token.TokenType != "Bearer" {
		c.t.Fatalf("token answer %s", body)
	}
	c.token = token.AccessToken
}

func tokenRequest(t *testing.T, s *Sandbox) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.URL()+"/oauth2/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("sandbox", "sandbox")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "Example Tests/v1.0")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func (c *apiClient) request(path string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequest(http.MethodGet, c.s.URL()+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Example Tests/v1.0")
	r.Header.Set("Authorization", "Bearer "+c.token)
	return r
}

// do returns the status, the body as far as it came, and what went wrong.
func (c *apiClient) do(r *http.Request) (int, []byte, error) {
	answer, err := c.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, body, err
}

func (c *apiClient) get(path string) (int, []byte) {
	c.t.Helper()
	status, body, err := c.do(c.request(path))
	if err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
	return status, body
}

func detailsPath(j *Journey) string {
	return "/api/v1/accounts/" + j.AccountID + "/workflow-executions/" + j.WorkflowExecutionID
}

func partPath(p *part) string {
	return "/api/v1/accounts/" + p.journey.AccountID + "/credentials/" + p.Credential + "/parts/" + p.Classifier
}

// partOf finds the journey's part by its classifier.
func partOf(t *testing.T, j *Journey, classifier string) *part {
	t.Helper()
	for _, p := range j.parts {
		if p.Classifier == classifier {
			return p
		}
	}
	t.Fatalf("%s has no part %s", j.Kind, classifier)
	return nil
}

func TestConfigurationErrorsComeAllAtOnce(t *testing.T) {
	_, err := New(Config{
		FaultRate: 2, Intermediate: -1, TokenLifetime: time.Millisecond, DataCenter: "mars-1", CallbackURL: "ftp://x", CallbackForm: "xml",
		Clients: []Client{{ID: "a", Secret: "b"}, {ID: "a", Secret: "c", DataCenter: "moon-1"}}, Repeat: -1, Attempts: -1,
		Faults: []Fault{{Endpoint: EndpointToken, Kind: FaultNotFinal}}, FaultPool: []Fault{{Endpoint: EndpointToken, Kind: "500"}},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{
		"fault rate", "intermediate", "token lifetime", "mars-1", "moon-1", "callback URL", "xml", `"a" is there twice`, "repeats", "attempts",
		"not_final happens at", "token requests belong to no journey",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not speak of %q:\n%v", part, err)
		}
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	s, err := New(Config{Faults: []Fault{{Endpoint: EndpointDetails, Kind: FaultHang}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	c := login(t, s)
	j := newJourney(t, s, "passed-passport")
	done := make(chan error, 1)
	go func() {
		_, _, err := c.do(c.request(detailsPath(j)))
		done <- err
	}()
	waitFor(t, "the request", func() bool { return j.entry().DetailsRequests.Requests == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the hanging request was answered")
	}
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestMemoryIsBoundedByForgettingTheOldestJourneys(t *testing.T) {
	s := start(t, Config{MaxJourneys: 3})
	c := login(t, s)
	journeys, err := s.NewJourneys(5, "passed-id-card")
	if err != nil {
		t.Fatal(err)
	}
	for i, j := range journeys {
		want := http.StatusOK
		if i < 2 {
			want = http.StatusNotFound
		}
		if status, _ := c.get(detailsPath(j)); status != want {
			t.Errorf("details of journey %d: %d, want %d", i, status, want)
		}
		if status, _ := c.get(partPath(j.parts[0])); status != want {
			t.Errorf("image of journey %d: %d, want %d", i, status, want)
		}
	}
	if l := s.Ledger(); l.Totals.Journeys != 5 || len(l.Journeys) != 3 || len(s.byPart) != 3*len(journeys[0].parts) {
		t.Errorf("%d journeys counted, %d kept, %d parts", l.Totals.Journeys, len(l.Journeys), len(s.byPart))
	}
}
