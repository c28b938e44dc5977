package handler

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// trace records the span of a callback that names a workflow execution. It does so
// at the end, because the trace is unknown until the body is decoded. It ignores the
// request's traceparent, which is a stranger's, and leaves out the path, the client's
// address and what the body says.
func (h *Handler) trace(x *exchange, end time.Time) {
	_, span := h.opt.Tracer.StartReceived(context.Background(), x.workflowExecution, x.id, "receive",
		trace.WithTimestamp(x.start), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			semconv.HTTPRequestMethodPost,
			semconv.HTTPResponseStatusCode(x.status),
			attribute.String("callbackd.outcome", x.outcome),
			attribute.String("callbackd.workflow_execution_id", x.workflowExecution),
			attribute.Stringer("callbackd.callback_id", x.id)))
	if x.status >= http.StatusInternalServerError {
		span.SetAttributes(semconv.ErrorTypeKey.String(x.outcome))
		span.SetStatus(codes.Error, x.outcome)
	}
	span.End(trace.WithTimestamp(end))
}
