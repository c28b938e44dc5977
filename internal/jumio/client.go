// Package jumio is the client of Jumio's KYX Platform API: access tokens; accounts and
// the workflow executions that are started in them, uploads and their finalization;
// status, details and images; deletion; health.
//
// One call is one attempt. It renews a rejected token once and returns a result or
// an *Error with a verdict; the caller decides when to try again.
//
// Credentials and tokens go only to the configured endpoints, and to the hosts auth,
// account, api and retrieval.<label>.jumio.ai of Jumio's three data centers and of those
// configured with credentials: URLs are built from checked ids, an href is only read or
// compared, and redirects are not followed. The package keeps nothing, and no error, log
// or label holds anything that Jumio sent.
package jumio

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

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

// get makes a GET request to a data center's retrieval endpoint.
func (c *Client) get(ctx context.Context, endpoint, dataCenter, path, accept string, read func(*http.Response) error) error {
	t, err := c.cfg.target(dataCenter)
	if err != nil {
		return failure(endpoint, CodeNoDataCenter, "%w", err)
	}
	return c.send(ctx, t, classOf(ctx), request{
		endpoint: endpoint, method: http.MethodGet, url: t.retrievalOrigin + path,
		accept: accept, contentType: acceptJSON, // the guide demands it of every retrieval
		read: read,
	})
}
