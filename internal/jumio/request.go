package jumio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// renewalKey is the context key of an attempt's one renewal.
type renewalKey struct{}

// WithAttempt returns a context for all requests of one attempt: together they may
// renew a rejected token once. Without it, each request may.
func WithAttempt(ctx context.Context) context.Context {
	return context.WithValue(ctx, renewalKey{}, new(atomic.Bool))
}

// mayRenew tells whether the attempt may still get a new token after a 401.
func mayRenew(ctx context.Context) bool {
	spent, inAttempt := ctx.Value(renewalKey{}).(*atomic.Bool)
	return !inAttempt || spent.CompareAndSwap(false, true)
}

// request is one that the client's credentials authorize.
type request struct {
	endpoint, method, url string
	// accept and contentType are the headers; an empty one is not sent.
	accept, contentType string
	// body is nil for none.
	body []byte
	// read reads the response. A deletion's is not read.
	read func(*http.Response) error
}

// send makes a request of a class to a data center, and once more with a new token if
// the first one gets 401.
func (c *Client) send(ctx context.Context, t target, class Class, r request) error {
	once := func(resent int, authorize func(*http.Request)) error {
		if err := c.wait(ctx, r.endpoint, t, class); err != nil {
			return err
		}
		var body io.Reader
		if r.body != nil {
			body = bytes.NewReader(r.body)
		}
		req, err := http.NewRequestWithContext(ctx, r.method, r.url, body)
		if err != nil {
			return failure(r.endpoint, CodeInvalidID, "no URL can be built")
		}
		req.Header.Set("Accept", r.accept)
		if r.contentType != "" {
			req.Header.Set("Content-Type", r.contentType)
		}
		authorize(req)
		return c.do(req, r.endpoint, resent, r.read)
	}
	if c.cfg.Basic {
		return once(0, func(req *http.Request) {
			req.SetBasicAuth(t.credentials.ClientID, t.credentials.ClientSecret)
		})
	}
	for resent := 0; ; resent++ {
		token, err := c.tokens.get(ctx, t)
		if err != nil {
			return err
		}
		err = once(resent, bearer(token.value))
		if !isUnauthorized(err) {
			return err
		}
		c.tokens.invalidate(t, token)
		if resent > 0 || !mayRenew(ctx) {
			return err
		}
		c.log.Debug("jumio access token rejected, renewing", zap.String("endpoint", r.endpoint))
	}
}

func bearer(token string) func(*http.Request) {
	return func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+token) }
}

// do sends one request, passes a success to read, and records the outcome. resent is how
// often the request was sent before. Errors are of type *Error.
func (c *Client) do(req *http.Request, endpoint string, resent int, read func(*http.Response) error) error {
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	start := time.Now()
	req, span := c.startSpan(req, endpoint, resent)
	err := c.exchange(req, endpoint, read)
	took := time.Since(start)
	c.metrics.observe(endpoint, took, err)
	endSpan(span, err)
	c.log.Debug("jumio request", zap.String("endpoint", endpoint), zap.String("code", outcome(err)), zap.Duration("took", took))
	return err
}

// exchange is do without the records. If a request to create something may have reached
// Jumio, and Jumio does not refuse it, its error has the verdict OutcomeUnknown.
func (c *Client) exchange(req *http.Request, endpoint string, read func(*http.Response) error) error {
	if endpoint != EndpointAccount {
		return c.roundTrip(req, endpoint, read)
	}
	var connected atomic.Bool
	err := c.roundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})), endpoint, read)
	if e, ok := errors.AsType[*Error](err); ok && connected.Load() && e.HTTPStatus/100 != 4 {
		e.Verdict = OutcomeUnknown
	}
	return err
}

func (c *Client) roundTrip(req *http.Request, endpoint string, read func(*http.Response) error) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return transportError(req.Context(), endpoint, err)
	}
	defer func() { _ = resp.Body.Close() }()
	// In practice Jumio answers a creation with 201, too.
	if resp.StatusCode != http.StatusOK && (endpoint != EndpointAccount || resp.StatusCode != http.StatusCreated) {
		return statusError(endpoint, resp.StatusCode, resp.Header)
	}
	err = read(resp)
	if _, judged := errors.AsType[*Error](err); err == nil || judged {
		return err
	}
	return transportError(req.Context(), endpoint, err)
}

// wait waits until the budget has room for a request.
func (c *Client) wait(ctx context.Context, endpoint string, t target, class Class) error {
	err := c.cfg.Budget.Wait(ctx, t.dataCenter, class)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil:
		return waitError(ctx, endpoint)
	}
	return &Error{Code: CodeNoBudget, Endpoint: endpoint, Err: err}
}

func isUnauthorized(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == CodeUnauthorized
}

// waitError is the error when the caller's context ends, or will end, before the
// request can be made.
func waitError(ctx context.Context, endpoint string) *Error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &Error{Code: CodeCanceled, Endpoint: endpoint, Err: context.Canceled}
	}
	return &Error{Code: CodeTimeout, Endpoint: endpoint, Err: context.DeadlineExceeded}
}
