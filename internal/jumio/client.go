// Package jumio is the client of the KYX Platform's Retrieval API (guide,
// "Retrieval"): access tokens, workflow status, workflow details and images.
//
// One call is one attempt. It renews a rejected token once and returns a result or
// an *Error with a verdict; the caller decides when to try again.
//
// Credentials and tokens go only to the configured endpoints, and to
// https://auth.<label>.jumio.ai and https://retrieval.<label>.jumio.ai of Jumio's
// three data centers and of those configured with credentials: URLs are built from
// checked ids, an href is only read, and redirects are not followed. The package
// keeps nothing, and no error, log or label holds anything that Jumio sent.
package jumio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"callbackd/internal/callback"
	"callbackd/internal/details"
)

// Limits of what is read into memory besides images.
const (
	detailsLimit = 32 << 20
	smallLimit   = 1 << 20
)

// The Accept headers. The guide's "Request Headers" want application/json of every
// retrieval; for images it comes last, after their own types.
const (
	acceptJSON  = "application/json"
	acceptImage = "image/jpeg, image/png, application/octet-stream;q=0.9, application/json;q=0.5"
)

// Client is safe for use by any number of goroutines.
type Client struct {
	// cfg is a pointer so that printing a Client shows no secret.
	cfg *Config
	// retrieval is the origin of the configured endpoint, or "".
	retrieval string
	http      *http.Client
	transport *http.Transport
	limiter   *rate.Limiter
	tokens    *tokenCache
	log       *zap.Logger
	metrics   *Metrics
}

// New checks cfg and makes a client. It opens no connection.
func New(cfg Config, log *zap.Logger, m *Metrics) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("jumio client: %w", err)
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noop.NewTracerProvider().Tracer("")
	}
	transport := newTransport(cfg.ProgressTimeout)
	c := &Client{
		cfg:       &cfg,
		retrieval: origin(cfg.RetrievalURL),
		http: &http.Client{
			Transport: &progressTransport{base: transport, timeout: cfg.ProgressTimeout},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
		transport: transport,
		limiter:   rate.NewLimiter(rate.Limit(cfg.RPS), 1),
		log:       log,
		metrics:   m,
	}
	// All waiting callers share a token request, so it has a deadline of its own.
	c.tokens = newTokenCache(c.fetchToken, 2*cfg.ProgressTimeout)
	return c, nil
}

// Close cancels token requests and closes idle connections. The client must not be
// used afterwards.
func (c *Client) Close() {
	c.tokens.close()
	c.transport.CloseIdleConnections()
}

// StatusResult is the response of Get Status. Missing and malformed fields are empty.
type StatusResult struct {
	Status        string
	AccountID     string
	DefinitionKey string
}

// Status gets the status of a workflow execution (guide, "Get Status"). A response
// about another workflow execution or account is an error with CodeDetailsMismatch.
// Errors are of type *Error.
func (c *Client) Status(ctx context.Context, w Workflow) (*StatusResult, error) {
	body, err := c.getWorkflow(ctx, EndpointStatus, w, "/status", smallLimit)
	if err != nil {
		return nil, err
	}
	status := details.ParseStatus(body)
	accountID := idOrNone(status.AccountID)
	if err := checkSubject(EndpointStatus, w, idOrNone(status.WorkflowID), accountID); err != nil {
		return nil, err
	}
	return &StatusResult{Status: status.Status, AccountID: accountID, DefinitionKey: status.DefinitionKey}, nil
}

// Details gets the details of a workflow execution (guide, "Get Workflow Details"),
// byte for byte: a JSON object of at most 32 MiB. Errors are of type *Error.
func (c *Client) Details(ctx context.Context, w Workflow) ([]byte, error) {
	return c.getWorkflow(ctx, EndpointDetails, w, "", detailsLimit)
}

// getWorkflow gets the JSON object at a workflow execution's URL.
func (c *Client) getWorkflow(ctx context.Context, endpoint string, w Workflow, suffix string, limit int64) ([]byte, error) {
	if !callback.ValidID(w.ID) || (w.AccountID != "" && !callback.ValidID(w.AccountID)) {
		return nil, failure(endpoint, CodeInvalidID, "no URL can be built from these ids")
	}
	path := "/api/v1/"
	if w.AccountID != "" {
		path += "accounts/" + w.AccountID + "/"
	}
	path += "workflow-executions/" + w.ID + suffix

	var body []byte
	err := c.get(ctx, endpoint, w.DataCenter, path, acceptJSON, func(resp *http.Response) (err error) {
		body, err = readJSONObject(endpoint, resp.Body, limit)
		return err
	})
	return body, err
}

// readJSONObject reads a body that must be a JSON object.
func readJSONObject(endpoint string, r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(body)) > limit && endpoint == EndpointDetails:
		return nil, contentError(endpoint, CodeDetailsTooLarge, "over 32 MiB")
	case !isJSONObject(body):
		return nil, notJSONObject(endpoint)
	}
	return body, nil
}

func notJSONObject(endpoint string) *Error {
	return contentError(endpoint, CodeInvalidJSON, "the body is not a JSON object")
}

func isJSONObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) && json.Valid(body)
}

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

// get makes one GET request to a data center's retrieval endpoint, and a second one
// with a new token if the first gets 401.
func (c *Client) get(ctx context.Context, endpoint, dataCenter, path, accept string, read func(*http.Response) error) error {
	t, err := c.cfg.target(dataCenter)
	if err != nil {
		return failure(endpoint, CodeNoDataCenter, "%w", err)
	}
	send := func(resent int, authorize func(*http.Request)) error {
		if err := c.limiter.Wait(ctx); err != nil {
			return waitError(ctx, endpoint)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.retrievalOrigin+path, nil)
		if err != nil {
			return failure(endpoint, CodeInvalidID, "no URL can be built")
		}
		req.Header.Set("Accept", accept)
		req.Header.Set("Content-Type", acceptJSON) // the guide demands it of every retrieval
		authorize(req)
		return c.do(req, endpoint, resent, read)
	}
	if c.cfg.Basic {
		return send(0, func(req *http.Request) {
			req.SetBasicAuth(t.credentials.ClientID, t.credentials.ClientSecret)
		})
	}
	for resent := 0; ; resent++ {
		token, err := c.tokens.get(ctx, t)
		if err != nil {
			return err
		}
		err = send(resent, func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+token.value) })
		if !isUnauthorized(err) {
			return err
		}
		c.tokens.invalidate(t, token)
		if resent > 0 || !mayRenew(ctx) {
			return err
		}
		c.log.Debug("jumio access token rejected, renewing", zap.String("endpoint", endpoint))
	}
}

// do sends one request, passes a 200 to read, and records the outcome. resent is how
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

func (c *Client) exchange(req *http.Request, endpoint string, read func(*http.Response) error) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return transportError(req.Context(), endpoint, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return statusError(endpoint, resp.StatusCode, resp.Header)
	}
	err = read(resp)
	if _, judged := errors.AsType[*Error](err); err == nil || judged {
		return err
	}
	return transportError(req.Context(), endpoint, err)
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
