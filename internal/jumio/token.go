package jumio

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// tokenPrefix marks the codes of a token request.
const tokenPrefix = "token_"

// TokenCode is code as a token request has it.
func TokenCode(code string) string { return tokenPrefix + code }

const (
	// assumedLifetime is for a response without expires_in.
	assumedLifetime = 5 * time.Minute
	maxLifetime     = 24 * time.Hour
	// refreshMargin is how long before its end a token is renewed, but at most a
	// fifth of its lifetime.
	refreshMargin = 5 * time.Minute
	// refreshPause is how long a valid token stays in use after a failed renewal.
	refreshPause = 30 * time.Second
	// tokenRPS is half of Jumio's limit on token requests a second, for all data
	// centers together, in case a wrong secret meets a long backlog.
	tokenRPS = 5
)

// tokenPattern is a little more than RFC 6750, section 2.1, allows in a header.
var tokenPattern = regexp.MustCompile(`^[!-~]+$`)

// token is an access token. refreshAt is guarded by its source's mutex.
type token struct {
	value     string
	refreshAt time.Time
	expiresAt time.Time
}

func newToken(value string, lifetime time.Duration, now time.Time) *token {
	return &token{
		value:     value,
		refreshAt: now.Add(lifetime - min(refreshMargin, lifetime/5)),
		expiresAt: now.Add(lifetime),
	}
}

// tokenCache holds one access token for each token endpoint and client. There are few:
// all belong to trusted data centers.
type tokenCache struct {
	fetch   func(context.Context, target) (*token, error)
	timeout time.Duration
	limiter *rate.Limiter
	ctx     context.Context // ends with close
	close   context.CancelFunc

	mu      sync.Mutex
	sources map[tokenKey]*tokenSource
}

type tokenKey struct {
	origin      string
	credentials Credentials
}

// tokenSource is one client's token at one endpoint.
type tokenSource struct {
	flight singleflight.Group

	mu      sync.Mutex
	current *token
}

func newTokenCache(fetch func(context.Context, target) (*token, error), timeout time.Duration) *tokenCache {
	ctx, cancel := context.WithCancel(context.Background())
	return &tokenCache{
		fetch: fetch, timeout: timeout, limiter: rate.NewLimiter(tokenRPS, tokenRPS),
		ctx: ctx, close: cancel, sources: make(map[tokenKey]*tokenSource),
	}
}

func (c *tokenCache) source(t target) *tokenSource {
	key := tokenKey{t.tokenOrigin, t.credentials}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sources[key]
	if s == nil {
		s = &tokenSource{}
		c.sources[key] = s
	}
	return s
}

// get gives a valid token, and fetches one if necessary. All waiting callers share one
// request, which goes on if one of them leaves. Errors are of type *Error.
func (c *tokenCache) get(ctx context.Context, t target) (*token, error) {
	s := c.source(t)
	if token := s.fresh(); token != nil {
		return token, nil
	}
	done := s.flight.DoChan("", func() (any, error) {
		// Another request may have ended in the meantime.
		if token := s.fresh(); token != nil {
			return token, nil
		}
		// The request is in the trace of the caller that makes it.
		shared := trace.ContextWithSpan(c.ctx, trace.SpanFromContext(ctx))
		ctx, cancel := context.WithTimeout(shared, c.timeout)
		defer cancel()
		if err := c.limiter.Wait(ctx); err != nil {
			return nil, waitError(ctx, EndpointToken)
		}
		token, err := c.fetch(ctx, t)
		if err != nil {
			return s.spare(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.current = token
		return token, nil
	})
	select {
	case <-ctx.Done():
		return nil, waitError(ctx, EndpointToken)
	case result := <-done:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*token), nil
	}
}

// invalidate forgets a rejected token, unless there is a newer one. It compares
// pointers: Jumio may issue the same text again.
func (c *tokenCache) invalidate(t target, rejected *token) {
	s := c.source(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == rejected {
		s.current = nil
	}
}

func (s *tokenSource) fresh() *token {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || !time.Now().Before(s.current.refreshAt) {
		return nil
	}
	return s.current
}

// spare gives the old token while it is valid, after a failed early renewal.
func (s *tokenSource) spare(err error) (*token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.current == nil || !now.Before(s.current.expiresAt) {
		return nil, err
	}
	s.current.refreshAt = now.Add(min(refreshPause, s.current.expiresAt.Sub(now)))
	return s.current, nil
}

// fetchToken makes one token request (guide, "Request Access Token"). x/oauth2 would
// percent-encode the credentials, unlike the guide's `curl --basic --user`, and put
// the response's body into its errors.
func (c *Client) fetchToken(ctx context.Context, t target) (*token, error) {
	start := time.Now()
	form := strings.NewReader("grant_type=client_credentials")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.tokenOrigin+"/oauth2/token", form)
	if err != nil {
		return nil, failure(EndpointToken, CodeNoDataCenter, "no address can be built")
	}
	req.Header.Set("Accept", acceptJSON)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(t.credentials.ClientID, t.credentials.ClientSecret)

	var fetched *token
	err = c.do(req, EndpointToken, 0, func(resp *http.Response) error {
		body, err := readJSONObject(EndpointToken, resp.Body, smallLimit)
		if err != nil {
			return err
		}
		fetched, err = parseToken(body, start)
		return err
	})
	if e, ok := errors.AsType[*Error](err); ok && e.Code != CodeCanceled {
		e.Code = tokenPrefix + e.Code
	}
	return fetched, err
}

// parseToken reads a token response (RFC 6749, section 5.1). The lifetime counts from
// the start of the request.
func parseToken(body []byte, start time.Time) (*token, error) {
	var answer struct {
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(body, &answer) != nil || !tokenPattern.MatchString(answer.AccessToken) {
		return nil, contentError(EndpointToken, CodeInvalidJSON, "the response holds no usable access_token")
	}
	lifetime := assumedLifetime
	var expiresIn json.Number // a number or a string
	if json.Unmarshal(answer.ExpiresIn, &expiresIn) == nil {
		if seconds, err := expiresIn.Float64(); err == nil && seconds > 0 {
			lifetime = time.Duration(min(seconds, maxLifetime.Seconds()) * float64(time.Second))
		}
	}
	return newToken(answer.AccessToken, lifetime, start), nil
}
