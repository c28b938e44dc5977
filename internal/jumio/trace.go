package jumio

import (
	"cmp"
	"errors"
	"net"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// startSpan starts a request's span (OpenTelemetry, "Semantic Conventions for HTTP
// client spans"). It has the endpoint's name instead of the URL, which holds ids. The
// request gets no traceparent: our traces are none of Jumio's business.
// A health check belongs to no trace, and makes none.
func (c *Client) startSpan(req *http.Request, endpoint string, resent int) (*http.Request, trace.Span) {
	if endpoint == EndpointHealth {
		return req, noop.Span{}
	}
	ctx, span := c.cfg.Tracer.Start(req.Context(), req.Method+" "+endpoint, trace.WithSpanKind(trace.SpanKindClient))
	if !span.IsRecording() {
		return req, span
	}
	port, _ := net.DefaultResolver.LookupPort(ctx, "tcp", cmp.Or(req.URL.Port(), req.URL.Scheme)) // cannot fail: a number, http or https
	span.SetAttributes(
		semconv.HTTPRequestMethodKey.String(req.Method),
		semconv.ServerAddress(req.URL.Hostname()),
		semconv.ServerPort(port),
		attribute.String("jumio.endpoint", endpoint))
	if resent > 0 {
		span.SetAttributes(semconv.HTTPRequestResendCount(resent))
	}
	return req.WithContext(ctx), span
}

// endSpan ends a request's span. An error shows as in the metric, with its code.
func endSpan(span trace.Span, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	status := http.StatusOK
	if err != nil {
		code := "other"
		status = 0
		if e, ok := errors.AsType[*Error](err); ok {
			status, code = e.HTTPStatus, e.Code
		}
		span.SetAttributes(semconv.ErrorTypeKey.String(outcome(err)))
		span.SetStatus(codes.Error, code)
	}
	if status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	}
}
