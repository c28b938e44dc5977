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

// trace makes the span of a callback that names a workflow execution, when all
// is done: before the body is decoded there is no trace to begin it in. A
// traceparent that the request may hold is a stranger's and counts for nothing.
// The path, the client's address and what the body says are left out.
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
