package jumio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The values of Error.Code. A token request that failed has the prefix "token_", for
// example token_unauthorized.
const (
	// A response other than 200.
	CodeBadRequest       = "bad_request"       // 400
	CodeUnauthorized     = "unauthorized"      // 401, also with a new token
	CodeForbidden        = "forbidden"         // 403
	CodeNotFound         = "not_found"         // 404: not visible yet, or deleted
	CodeRateLimited      = "rate_limited"      // 429
	CodeServerError      = "server_error"      // 5xx
	CodeRedirected       = "redirected"        // 3xx, never followed
	CodeUnexpectedStatus = "unexpected_status" // any other

	// No response, or only part of it.
	CodeTimeout          = "timeout"           // no progress for Config.ProgressTimeout, the caller's deadline, or 408
	CodeConnectionFailed = "connection_failed" // DNS, connect, TLS, or a connection that broke
	CodeCanceled         = "canceled"          // the caller's context ended; Jumio is not to blame

	// A 200 that cannot be used.
	CodeInvalidJSON     = "invalid_json"      // not a JSON object, or a token response without a usable token
	CodeDetailsTooLarge = "details_too_large" // over 32 MiB
	CodeDetailsMismatch = "details_mismatch"  // details, or a status, of another workflow execution or account
	CodeImageEmpty      = "image_empty"       // 0 bytes
	CodeImageTruncated  = "image_truncated"   // ends before its Content-Length or its end marker
	CodeImageType       = "image_type"        // neither JPEG nor PNG, a facemap of an unknown type, or content that contradicts its type
	CodeImageBroken     = "image_broken"      // JPEG or PNG with an unreadable header, over 100,000 pixels a side or a gigapixel
	CodeImageTooLarge   = "image_too_large"   // over Config.MaxImageBytes

	CodeNoWorkflowExecution = "no_workflow_execution" // the answer to a creation names none

	// No request was made.
	CodeNoDataCenter = "no_data_center" // the data center or its credentials are unknown
	CodeInvalidID    = "invalid_id"     // no URL can be built from an id
	CodeForeignHref  = "foreign_href"   // an href for an upload or a finalization is not what the ids say
	CodeNoBudget     = "no_budget"      // the budget could not be asked; Jumio is not to blame
)

// The values of Error.Endpoint and of the label endpoint.
const (
	EndpointToken   = "token"
	EndpointStatus  = "status"
	EndpointDetails = "details"
	EndpointImage   = "image"

	EndpointAccount  = "account" // creation and update
	EndpointUpload   = "upload"
	EndpointFinalize = "finalize"
	EndpointDelete   = "delete"
	EndpointHealth   = "health"
)

// Verdict says what a failed request means for the rest of an attempt.
type Verdict int

const (
	// EndAttempt means that the next request would fail too: wait for the next attempt.
	EndAttempt Verdict = iota
	// SkipPart means that only this image failed: continue with the others.
	SkipPart
	// OutcomeUnknown means that Jumio may have done what was asked: a creation that got
	// no answer, one that broke off, or one that neither confirms nor refuses. To try
	// again may do it twice.
	OutcomeUnknown
)

// Error is a failed request. Its text is safe to store and to log: it has no id, no
// URL, and nothing of a response.
type Error struct {
	// Code is one of the constants above.
	Code string
	// Endpoint is where it failed; a retrieval may fail at EndpointToken.
	Endpoint string
	// HTTPStatus is 0 if there was no response.
	HTTPStatus int
	Verdict    Verdict
	// RetryAfter is the wait that Jumio asked for, at most an hour; 0 if none.
	RetryAfter time.Duration
	// Err is the cause, if it may be shown.
	Err error
}

// Error gives the code, ": " and details.
func (e *Error) Error() string {
	text := e.Code + ": " + e.Endpoint
	if e.HTTPStatus != 0 && e.HTTPStatus != http.StatusOK {
		text += " answered " + strconv.Itoa(e.HTTPStatus)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// failure is an Error without a request.
func failure(endpoint, code, format string, args ...any) *Error {
	return &Error{Code: code, Endpoint: endpoint, Err: fmt.Errorf(format, args...)}
}

// contentError is an Error about the content of a 200.
func contentError(endpoint, code, detail string) *Error {
	e := &Error{Code: code, Endpoint: endpoint, HTTPStatus: http.StatusOK, Err: errors.New(detail)}
	if endpoint == EndpointImage {
		e.Verdict = SkipPart
	}
	return e
}

// statusCodes are the codes of single statuses; of the others, 3xx and 5xx have one.
var statusCodes = map[int]string{
	http.StatusBadRequest:      CodeBadRequest,
	http.StatusUnauthorized:    CodeUnauthorized,
	http.StatusForbidden:       CodeForbidden,
	http.StatusNotFound:        CodeNotFound,
	http.StatusRequestTimeout:  CodeTimeout,
	http.StatusTooManyRequests: CodeRateLimited,
}

// statusError is the error for a response other than 200. A status that is about the
// URL, not about us or Jumio, skips only the one image.
func statusError(endpoint string, status int, header http.Header) *Error {
	e := &Error{
		Code: statusCodes[status], Endpoint: endpoint, HTTPStatus: status,
		RetryAfter: retryAfter(header.Get("Retry-After"), time.Now()),
	}
	switch {
	case e.Code != "":
	case status >= 500 && status <= 599:
		e.Code = CodeServerError
	case status >= 300 && status <= 399:
		e.Code = CodeRedirected
	default:
		e.Code = CodeUnexpectedStatus
	}
	if endpoint == EndpointImage && slices.Contains([]string{CodeBadRequest, CodeNotFound, CodeUnexpectedStatus}, e.Code) {
		e.Verdict = SkipPart
	}
	return e
}

// transportError is the error for a request that got no response, or only part of
// one. ctx is the caller's.
func transportError(ctx context.Context, endpoint string, err error) *Error {
	netErr, _ := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, errNoProgress):
		return &Error{Endpoint: endpoint, Code: CodeTimeout, Err: errNoProgress}
	case ctx.Err() != nil:
		return waitError(ctx, endpoint)
	case netErr != nil && netErr.Timeout():
		return &Error{Endpoint: endpoint, Code: CodeTimeout, Err: showable(err)}
	}
	return &Error{Endpoint: endpoint, Code: CodeConnectionFailed, Err: showable(err)}
}

// showable picks the part of a transport's error that may be shown. The rest may hold
// the URL, bytes of a malformed response, or a proxy's password.
func showable(err error) error {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e
	}
	for _, known := range []error{io.ErrUnexpectedEOF, io.EOF, http.ErrSchemeMismatch} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("the HTTP exchange failed")
}

// maxRetryAfter caps Retry-After.
const maxRetryAfter = time.Hour

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3), seconds or a date.
// The past, and anything else, is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if value != "" && strings.Trim(value, "0123456789") == "" {
		// For a number out of range, ParseUint gives the greatest one.
		seconds, _ := strconv.ParseUint(value, 10, 64)
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), maxRetryAfter)
}
