package jumio

import (
	"errors"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// startSpan starts a request's span (OpenTelemetry, "Semantic Conventions for
// HTTP client spans"). In place of the address, which holds ids, stands the
// endpoint's name. The request gets no traceparent: what we do is none of
// Jumio's business.
func (c *Client) startSpan(req *http.Request, endpoint string, resent int) (*http.Request, trace.Span) {
	ctx, span := c.cfg.Tracer.Start(req.Context(), req.Method+" "+endpoint, trace.WithSpanKind(trace.SpanKindClient))
	if !span.IsRecording() {
		return req, span
	}
	span.SetAttributes(
		semconv.HTTPRequestMethodKey.String(req.Method),
		semconv.ServerAddress(req.URL.Hostname()),
		semconv.ServerPort(port(req)),
		attribute.String("jumio.endpoint", endpoint))
	if resent > 0 {
		span.SetAttributes(semconv.HTTPRequestResendCount(resent))
	}
	return req.WithContext(ctx), span
}

func port(req *http.Request) int {
	if n, err := strconv.Atoi(req.URL.Port()); err == nil {
		return n
	}
	if req.URL.Scheme == "http" {
		return 80
	}
	return 443
}

// endSpan ends a request's span; of an error it shows what the metric does, and
// the code.
func endSpan(span trace.Span, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	status := http.StatusOK
	if err != nil {
		var e *Error
		code := "other"
		if status = 0; errors.As(err, &e) {
			status, code = e.HTTPStatus, e.Code
		}
		span.SetAttributes(semconv.ErrorTypeKey.String(outcome(err)))
		span.SetStatus(codes.Error, code)
	}
	if status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	}
}
