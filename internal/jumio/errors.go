package jumio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The values of Error.Code. A token request that was made and failed has them
// with "token_" before, token_unauthorized for example.
const (
	// Answers other than 200.
	CodeBadRequest       = "bad_request"       // 400
	CodeUnauthorized     = "unauthorized"      // 401, also with a new token
	CodeForbidden        = "forbidden"         // 403
	CodeNotFound         = "not_found"         // 404: not visible yet, or deleted
	CodeRateLimited      = "rate_limited"      // 429
	CodeServerError      = "server_error"      // 5xx
	CodeRedirected       = "redirected"        // 3xx, never followed
	CodeUnexpectedStatus = "unexpected_status" // any other

	// No answer, or not all of it.
	CodeTimeout          = "timeout"           // no progress for Config.ProgressTimeout, the caller's deadline, or 408
	CodeConnectionFailed = "connection_failed" // DNS, connect, TLS, or a connection that broke
	CodeCanceled         = "canceled"          // the caller's context ended; Jumio is not to blame

	// A 200 that is of no use.
	CodeInvalidJSON     = "invalid_json"      // not a JSON object; a token answer without a usable token
	CodeDetailsTooLarge = "details_too_large" // over 32 MiB
	CodeDetailsMismatch = "details_mismatch"  // details, or a status, of another workflow execution or account
	CodeImageEmpty      = "image_empty"       // 0 bytes
	CodeImageTruncated  = "image_truncated"   // ends before its Content-Length or its end marker
	CodeImageType       = "image_type"        // neither JPEG nor PNG, or a facemap of a type not known; or content that contradicts its type
	CodeImageBroken     = "image_broken"      // JPEG or PNG with an unreadable header, over 100,000 pixels a side or a gigapixel
	CodeImageTooLarge   = "image_too_large"   // over Config.MaxImageBytes

	// No request was made.
	CodeNoDataCenter = "no_data_center" // the data center, or its credentials, are not known
	CodeInvalidID    = "invalid_id"     // an id that no address can be built from
)

// The values of Error.Endpoint and of the label endpoint.
const (
	EndpointToken   = "token"
	EndpointStatus  = "status"
	EndpointDetails = "details"
	EndpointImage   = "image"
)

// Verdict says what a failed request means for the rest of an attempt.
type Verdict int

const (
	// EndAttempt means that the next request would fare alike: make the next attempt.
	EndAttempt Verdict = iota
	// SkipPart means that only this image failed: go on with the others.
	SkipPart
)

// Error is the outcome of a request that failed. Its text is safe to store and
// to log: no id, no URL, nothing that an answer held.
type Error struct {
	// Code is one of the constants above.
	Code string
	// Endpoint is where it failed; a retrieval may fail at the token already.
	Endpoint string
	// HTTPStatus is 0 when there was no answer.
	HTTPStatus int
	Verdict    Verdict
	// RetryAfter is the wait that Jumio asked for, at most an hour; 0 if none.
	RetryAfter time.Duration
	// Err is the cause, where there is one that may be shown.
	Err error
}

// Error gives the code, then ": " and a detail.
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

// failure is an Error before a request was made.
func failure(endpoint, code, format string, args ...any) *Error {
	return &Error{Code: code, Endpoint: endpoint, Err: fmt.Errorf(format, args...)}
}

// contentError is an Error about a 200's content.
func contentError(endpoint, code, detail string) *Error {
	e := &Error{Code: code, Endpoint: endpoint, HTTPStatus: http.StatusOK, Err: errors.New(detail)}
	if endpoint == EndpointImage {
		e.Verdict = SkipPart
	}
	return e
}

// statusError is the verdict over an answer other than 200. Of an image's
// statuses, those that speak of the one address leave the other parts alone.
func statusError(endpoint string, status int, header http.Header) *Error {
	e := &Error{
		Endpoint:   endpoint,
		HTTPStatus: status,
		RetryAfter: retryAfter(header.Get("Retry-After"), time.Now()),
	}
	ofAddress := false
	switch {
	case status == http.StatusBadRequest:
		e.Code, ofAddress = CodeBadRequest, true
	case status == http.StatusUnauthorized:
		e.Code = CodeUnauthorized
	case status == http.StatusForbidden:
		e.Code = CodeForbidden
	case status == http.StatusNotFound:
		e.Code, ofAddress = CodeNotFound, true
	case status == http.StatusRequestTimeout:
		e.Code = CodeTimeout
	case status == http.StatusTooManyRequests:
		e.Code = CodeRateLimited
	case status >= 500 && status <= 599:
		e.Code = CodeServerError
	case status >= 300 && status <= 399:
		e.Code = CodeRedirected
	default:
		e.Code, ofAddress = CodeUnexpectedStatus, true
	}
	if ofAddress && endpoint == EndpointImage {
		e.Verdict = SkipPart
	}
	return e
}

// transportError is the verdict over a request that got no answer, or whose
// answer broke off. ctx is the caller's.
func transportError(ctx context.Context, endpoint string, err error) *Error {
	e := &Error{Endpoint: endpoint, Code: CodeConnectionFailed}
	var netErr net.Error
	switch {
	case errors.Is(err, errNoProgress):
		e.Code, e.Err = CodeTimeout, errNoProgress
	case errors.Is(ctx.Err(), context.Canceled):
		e.Code, e.Err = CodeCanceled, context.Canceled
	case ctx.Err() != nil:
		e.Code, e.Err = CodeTimeout, context.DeadlineExceeded
	case errors.As(err, &netErr) && netErr.Timeout():
		e.Code, e.Err = CodeTimeout, showable(err)
	default:
		e.Err = showable(err)
	}
	return e
}

// showable picks the part of a transport's error that may be shown. The whole
// may hold the URL, or bytes of a malformed answer, or a proxy's password.
func showable(err error) error {
	var (
		dnsErr  *net.DNSError
		opErr   *net.OpError
		certErr *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &certErr):
		return certErr
	case errors.As(err, &dnsErr):
		return dnsErr
	case errors.As(err, &opErr):
		return opErr
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, http.ErrSchemeMismatch):
		return http.ErrSchemeMismatch
	}
	return errors.New("the HTTP exchange failed")
}

// maxRetryAfter caps what a header may ask for.
const maxRetryAfter = time.Hour

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds or
// a date. Anything else, and the past, is no wait.
func retryAfter(value string, now time.Time) time.Duration {
	if value != "" && strings.Trim(value, "0123456789") == "" {
		// ParseUint gives the greatest number for one that is out of range.
		seconds, _ := strconv.ParseUint(value, 10, 64)
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), maxRetryAfter)
}
