package jumio

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const workers = 16

// together runs one request in each of many goroutines.
func together(t *testing.T, request func() error) {
	t.Helper()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			if err := request(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestTokenOnce: one token request for all waiting workers.
func TestTokenOnce(t *testing.T) {
	s := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-1" {
			t.Errorf("authorization %q", r.Header.Get("Authorization"))
		}
		_, _ = w.Write([]byte(goodDetails))
	})
	c := newClient(t, testConfig(s.URL))
	together(t, func() error { return call(t.Context(), c, EndpointDetails) })
	// Another data center at the same endpoint, as the same client.
	if _, err := c.Details(t.Context(), Workflow{DataCenter: "emea-1", ID: workflowID}); err != nil {
		t.Error(err)
	}
	if n := s.tokenRequests.Load(); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

// TestTokenRefused: the token that all workers hold is refused, and renewed
// once; the same text may come again.
func TestTokenRefused(t *testing.T) {
	for name, values := range map[string][2]string{
		"a new token":   {"old", "new"},
		"the same text": {"same", "same"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			refused := 0
			allRefused := make(chan struct{})
			var s *jumioServer
			s = newServer(t,
				func(w http.ResponseWriter, _ *http.Request) {
					writeToken(w, values[min(s.tokenRequests.Load()-1, 1)], 3600)
				},
				func(w http.ResponseWriter, _ *http.Request) {
					// Every worker's first request waits for the others'.
					mu.Lock()
					first := refused < workers
					if first {
						if refused++; refused == workers {
							close(allRefused)
						}
					}
					mu.Unlock()
					if first {
						<-allRefused
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					_, _ = w.Write([]byte(goodDetails))
				})
			c := newClient(t, testConfig(s.URL))
			together(t, func() error { return call(t.Context(), c, EndpointDetails) })
			if n := s.tokenRequests.Load(); n != 2 {
				t.Errorf("%d token requests, want 2", n)
			}
			if n := s.apiRequests.Load(); n != 2*workers {
				t.Errorf("%d requests, want %d", n, 2*workers)
			}
		})
	}
}

// TestTokenRefusedLate: a worker that learns late that the old token is refused
// takes the new one and does not renew it.
func TestTokenRefusedLate(t *testing.T) {
	held, release := make(chan struct{}), make(chan struct{})
	var s *jumioServer
	s = newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer token-1":
			_, _ = w.Write([]byte(goodDetails))
			return
		case s.apiRequests.Load() == 1:
			close(held)
			<-release
		}
		w.WriteHeader(http.StatusUnauthorized)
	})
	c := newClient(t, testConfig(s.URL))
	late := make(chan error, 1)
	go func() { late <- call(t.Context(), c, EndpointDetails) }()
	<-held
	if err := call(t.Context(), c, EndpointDetails); err != nil {
		t.Error(err)
	}
	close(release)
	if err := <-late; err != nil {
		t.Error(err)
	}
	if n := s.tokenRequests.Load(); n != 2 {
		t.Errorf("%d token requests, want 2", n)
	}
}

// TestTokenRenewedOnce: the second 401 is the verdict.
func TestTokenRenewedOnce(t *testing.T) {
	s := newServer(t, nil, answer(401, "", ""))
	e := asError(t, call(t.Context(), newClient(t, testConfig(s.URL)), EndpointDetails), CodeUnauthorized)
	if e.Endpoint != EndpointDetails || e.Verdict != EndAttempt {
		t.Errorf("got %+v", e)
	}
	if api, token := s.apiRequests.Load(), s.tokenRequests.Load(); api != 2 || token != 2 {
		t.Errorf("%d requests and %d for a token, want 2 and 2", api, token)
	}
}

// TestTokenRenewedOnceInAttempt: the requests of one attempt share its renewal.
func TestTokenRenewedOnceInAttempt(t *testing.T) {
	accepted := atomic.Pointer[string]{}
	s := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		// Every token is good for one answer.
		if used := accepted.Swap(new(r.Header.Get("Authorization"))); used == nil || *used == r.Header.Get("Authorization") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(goodDetails))
	})
	c := newClient(t, testConfig(s.URL))
	ctx := WithAttempt(t.Context())
	if err := call(ctx, c, EndpointDetails); err != nil {
		t.Errorf("the first request, with the renewal: %v", err)
	}
	wantCode(t, call(ctx, c, EndpointDetails), CodeUnauthorized)
	if err := call(WithAttempt(t.Context()), c, EndpointDetails); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
}

// TestTokenVerdicts: a failed token request ends the attempt, whatever was to be
// retrieved.
func TestTokenVerdicts(t *testing.T) {
	tests := map[string]struct {
		handler http.HandlerFunc
		code    string
		retry   time.Duration
	}{
		"400": {answer(400, "application/json", `{"error":"invalid_client"}`), CodeBadRequest, 0},
		"401": {answer(401, "application/json", `{"error":"invalid_client"}`), CodeUnauthorized, 0},
		"403": {answer(403, "", ""), CodeForbidden, 0},
		"404": {answer(404, "", ""), CodeNotFound, 0},
		"429": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}, CodeRateLimited, 7 * time.Second},
		"500":                 {answer(500, "", ""), CodeServerError, 0},
		"HTML with 200":       {answer(200, "text/html", "<html>"), CodeInvalidJSON, 0},
		"no token":            {answer(200, "", `{"expires_in":3600}`), CodeInvalidJSON, 0},
		"empty token":         {answer(200, "", `{"access_token":"","expires_in":3600}`), CodeInvalidJSON, 0},
		"token of many lines": {answer(200, "", `{"access_token":"a\r\nX-Evil: b","expires_in":3600}`), CodeInvalidJSON, 0},
		"token is a number":   {answer(200, "", `{"access_token":5,"expires_in":3600}`), CodeInvalidJSON, 0},
		"connection cut":      {brokenOff("application/json", `{"access_token":"a"`), CodeConnectionFailed, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, tt.handler, nil)
			e := asError(t, call(t.Context(), newClient(t, testConfig(s.URL)), EndpointImage), "token_"+tt.code)
			if e.Verdict != EndAttempt || e.Endpoint != EndpointToken || e.RetryAfter != tt.retry {
				t.Errorf("got %+v", e)
			}
			if n := s.apiRequests.Load(); n != 0 {
				t.Errorf("%d requests without a token", n)
			}
		})
	}
}

// TestTokenWaiterLeaves: a waiter whose context ends goes at once, and the
// others get their token.
func TestTokenWaiterLeaves(t *testing.T) {
	asked, give := make(chan struct{}), make(chan struct{})
	s := newServer(t,
		func(w http.ResponseWriter, _ *http.Request) {
			close(asked)
			<-give
			writeToken(w, "tok", 3600)
		},
		answer(200, "", goodDetails))
	c := newClient(t, testConfig(s.URL))
	ctx, cancel := context.WithCancel(t.Context())
	left, stayed := make(chan error, 1), make(chan error, 1)
	go func() { left <- call(ctx, c, EndpointDetails) }() // it started the token request
	<-asked
	go func() { stayed <- call(t.Context(), c, EndpointDetails) }()
	cancel()
	err := <-left
	close(give)
	wantCode(t, err, CodeCanceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not context.Canceled", err)
	}
	if err := <-stayed; err != nil {
		t.Errorf("the other one: %v", err)
	}
	if n := s.tokenRequests.Load(); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

// TestTokenLifetime: when a token is fetched again.
func TestTokenLifetime(t *testing.T) {
	tests := map[string]struct {
		expiresIn string
		refresh   time.Duration // after which it is fetched again
	}{
		"an hour":         {"3600", 55 * time.Minute},
		"a minute":        {"60", 48 * time.Second},
		"as a string":     {`"3600"`, 55 * time.Minute},
		"as a fraction":   {"100.0", 80 * time.Second},
		"absent":          {"null", 4 * time.Minute},
		"zero":            {"0", 4 * time.Minute},
		"negative":        {"-1", 4 * time.Minute},
		"garbage":         {`"soon"`, 4 * time.Minute},
		"another type":    {"[1]", 4 * time.Minute},
		"beyond all ages": {"1e300", 24*time.Hour - 5*time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				c := newPipeClient(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/oauth2/token" {
						requests++
						_, _ = fmt.Fprintf(w, `{"access_token":"tok","expires_in":%s}`, tt.expiresIn)
						return
					}
					_, _ = w.Write([]byte(goodDetails))
				})
				for _, step := range []struct {
					sleep time.Duration
					want  int
				}{{0, 1}, {tt.refresh - time.Second, 1}, {time.Second, 2}} {
					time.Sleep(step.sleep)
					if err := call(t.Context(), c, EndpointDetails); err != nil {
						t.Fatal(err)
					}
					if requests != step.want {
						t.Fatalf("%d token requests after %v, want %d", requests, step.sleep, step.want)
					}
				}
			})
		})
	}
}

// TestTokenEndpointAway: while an early renewal fails, the old token is used to
// its end, and the endpoint is asked now and then.
func TestTokenEndpointAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		c := newPipeClient(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/oauth2/token" {
				_, _ = w.Write([]byte(goodDetails))
				return
			}
			if requests++; requests > 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			writeToken(w, "tok", 3600)
		})
		for sleep := time.Duration(0); sleep < time.Hour; sleep += time.Second {
			if err := call(t.Context(), c, EndpointDetails); err != nil {
				t.Fatalf("after %v: %v", sleep, err)
			}
			time.Sleep(time.Second)
		}
		if requests != 11 { // the first, and ten in the last five minutes
			t.Errorf("%d token requests, want 11", requests)
		}
		wantCode(t, call(t.Context(), c, EndpointDetails), "token_"+CodeServerError)
	})
}

// TestTokenRate: a refused client does not storm the token endpoint.
func TestTokenRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		c := newPipeClient(t, func(w http.ResponseWriter, _ *http.Request) {
			requests++
			w.WriteHeader(http.StatusUnauthorized)
		})
		start := time.Now()
		for time.Since(start) < 10*time.Second {
			wantCode(t, call(t.Context(), c, EndpointDetails), "token_"+CodeUnauthorized)
		}
		if requests < 45 || requests > 56 {
			t.Errorf("%d token requests in 10 s, want about 5 a second", requests)
		}
	})
}

// TestTokenRateOverAllDataCenters: the limit is the client's, however many data
// centers refuse it.
func TestTokenRateOverAllDataCenters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		c := newPipeClient(t, func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
		})
		c.cfg.DataCenter = map[string]Credentials{}
		var running sync.WaitGroup
		start := time.Now()
		for _, dataCenter := range []string{"amer-1", "emea-1", "apac-1"} {
			c.cfg.DataCenter[dataCenter] = Credentials{dataCenter, "secret"}
		}
		for dataCenter := range c.cfg.DataCenter {
			running.Go(func() {
				for time.Since(start) < 10*time.Second {
					_, err := c.Details(t.Context(), Workflow{DataCenter: dataCenter, ID: workflowID})
					if e := (*Error)(nil); !errors.As(err, &e) || e.Code != "token_"+CodeUnauthorized {
						t.Errorf("%s: got %v", dataCenter, err)
						return
					}
				}
			})
		}
		running.Wait()
		if n := requests.Load(); n < 45 || n > 60 {
			t.Errorf("%d token requests in 10 s, want about 5 a second", n)
		}
	})
}

// TestSecretGoesToNoUnknownDataCenter: labels that callbacks make up cost no
// token request and no memory.
func TestSecretGoesToNoUnknownDataCenter(t *testing.T) {
	s := newServer(t, nil, answer(200, "application/json", goodDetails))
	c := newClient(t, testConfig(s.URL))
	for i := range 300 {
		label := fmt.Sprintf("evil-%d", i)
		if w, err := c.ParseWorkflowHref("https://retrieval." + label + ".jumio.ai" + goodPath); !errors.Is(err, ErrForeignHref) {
			t.Errorf("the href of %s gave %+v, %v", label, w, err)
		}
		e := asError(t, second(c.Details(t.Context(), Workflow{DataCenter: label, ID: workflowID})), CodeNoDataCenter)
		if strings.Contains(e.Error(), label) {
			t.Errorf("%q shows the label", e)
		}
	}
	if n := s.tokenRequests.Load(); n != 0 || len(c.tokens.sources) != 0 {
		t.Errorf("%d token requests, %d tokens remembered, want none", n, len(c.tokens.sources))
	}
}

func TestTokenIsNotShown(t *testing.T) {
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	c.tokens.source(target{credentials: testCredentials}).current = newToken("token-mark", time.Hour, time.Now())
	for _, text := range []string{fmt.Sprintf("%v", c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
		if strings.Contains(text, "mark") || strings.Contains(text, testCredentials.ClientSecret) {
			t.Errorf("a secret shows in %s", text)
		}
	}
}
