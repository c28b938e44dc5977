// Package jumio is the client of the KYX Platform's Retrieval API (guide,
// "Retrieval"): access tokens, workflow status, workflow details and images.
//
// One call is one attempt. It renews a refused token once and returns a result
// or an *Error with a verdict; when to try again is the caller's business.
//
// It refuses to send credentials or tokens anywhere but to the configured
// endpoints and to https://auth.<label>.jumio.ai and
// https://retrieval.<label>.jumio.ai of the three data centers and of those that
// are configured with credentials: addresses are built from checked ids, an
// href is only ever read, and redirects are not followed. It keeps nothing,
// and shows nothing that Jumio sent in an error, a log or a label.
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

	"github.com/tidwall/gjson"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"callbackd/internal/callback"
)

// The statuses of a workflow execution (guide, "Callback Parameters" and "Get
// Status"; ACQUISITION_STARTED is known from integrations).
const (
	StatusInitiated          = "INITIATED"
	StatusAcquisitionStarted = "ACQUISITION_STARTED"
	StatusAcquired           = "ACQUIRED"
	StatusProcessed          = "PROCESSED"
	StatusSessionExpired     = "SESSION_EXPIRED"
	StatusTokenExpired       = "TOKEN_EXPIRED"
)

// FinalStatus tells whether a status is the last one, and whether it is known
// at all.
func FinalStatus(status string) (final, known bool) {
	switch status {
	case StatusProcessed, StatusSessionExpired, StatusTokenExpired:
		return true, true
	case StatusInitiated, StatusAcquisitionStarted, StatusAcquired:
		return false, true
	}
	return false, false
}

// Limits of what is read into memory besides images.
const (
	detailsLimit = 32 << 20
	smallLimit   = 1 << 20
)

// What the guide's "Request Headers" ask of every retrieval. Images are asked
// for by their types first, and by the guide's one after them.
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

// New checks cfg and makes a client; it connects nowhere yet.
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
	// A token is fetched for all that wait for it, so no single caller's
	// deadline holds, and it gets one of its own.
	c.tokens = newTokenCache(c.fetchToken, 2*cfg.ProgressTimeout)
	return c, nil
}

// Close ends token requests that nobody waits for any more and closes idle
// connections. The client must not be used afterwards.
func (c *Client) Close() {
	c.tokens.close()
	c.transport.CloseIdleConnections()
}

// StatusResult is the answer of Get Status. Fields that are missing or odd are
// empty.
type StatusResult struct {
	Status        string
	AccountID     string
	DefinitionKey string
}

// Status asks for the status of a workflow execution (guide, "Get Status").
// An answer about another workflow execution or account is an error with
// CodeDetailsMismatch. Errors are of type *Error.
func (c *Client) Status(ctx context.Context, w Workflow) (*StatusResult, error) {
	body, err := c.getWorkflow(ctx, EndpointStatus, w, "/status", smallLimit)
	if err != nil {
		return nil, err
	}
	var execution workflow
	var accountID string
	eachMember(gjson.ParseBytes(body), func(name string, value gjson.Result) {
		switch name {
		case "workflowExecution":
			execution = readWorkflow(value)
		case "account":
			accountID = readID(value)
		}
	})
	if err := checkSubject(EndpointStatus, w, execution.id, accountID); err != nil {
		return nil, err
	}
	return &StatusResult{Status: execution.status, AccountID: accountID, DefinitionKey: execution.definitionKey}, nil
}

// Details gets the details of a workflow execution (guide, "Get Workflow
// Details"), byte for byte; they are known to be a JSON object of at most
// 32 MiB. Errors are of type *Error.
func (c *Client) Details(ctx context.Context, w Workflow) ([]byte, error) {
	return c.getWorkflow(ctx, EndpointDetails, w, "", detailsLimit)
}

// getWorkflow gets the JSON object at a workflow execution's address.
func (c *Client) getWorkflow(ctx context.Context, endpoint string, w Workflow, suffix string, limit int64) ([]byte, error) {
	if !callback.ValidID(w.ID) || (w.AccountID != "" && !callback.ValidID(w.AccountID)) {
		return nil, failure(endpoint, CodeInvalidID, "no address can be built from these ids")
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

// WithAttempt returns a context for all requests of one attempt: together they
// may renew a refused token once. Without it, every request may.
func WithAttempt(ctx context.Context) context.Context {
	return context.WithValue(ctx, renewalKey{}, new(atomic.Bool))
}

// mayRenew tells whether a 401 may still be answered with a new token.
func mayRenew(ctx context.Context) bool {
	spent, inAttempt := ctx.Value(renewalKey{}).(*atomic.Bool)
	return !inAttempt || spent.CompareAndSwap(false, true)
}

// get makes one GET request to a data center's retrieval endpoint, and a second
// one with a new token if the first is answered 401.
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
			return failure(endpoint, CodeInvalidID, "no address can be built")
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
		c.log.Debug("jumio access token refused, renewing", zap.String("endpoint", endpoint))
	}
}

// do sends one request, hands a 200 to read, and records the outcome. resent is
// how often the same was sent before. Errors are of type *Error.
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
	var e *Error
	if err != nil && !errors.As(err, &e) {
		return transportError(req.Context(), endpoint, err)
	}
	return err
}

func isUnauthorized(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == CodeUnauthorized
}

// waitError is the verdict when the caller's context ends, or is bound to end,
// before a request could be made.
func waitError(ctx context.Context, endpoint string) *Error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &Error{Code: CodeCanceled, Endpoint: endpoint, Err: context.Canceled}
	}
	return &Error{Code: CodeTimeout, Endpoint: endpoint, Err: context.DeadlineExceeded}
}
