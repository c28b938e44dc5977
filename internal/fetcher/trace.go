package fetcher

import (
	"context"
	"time"

	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"callbackd/internal/queue"
)

// The spans' own attributes, named as in the logs.
const (
	attrWorkflowExecution = attribute.Key("callbackd.workflow_execution_id")
	attrRetrievalState    = attribute.Key("callbackd.retrieval_state")
	attrAttempt           = attribute.Key("callbackd.attempt")
	attrRefetch           = attribute.Key("callbackd.refetch")
	attrOutcome           = attribute.Key("callbackd.outcome")
	attrImages            = attribute.Key("callbackd.images")
)

// startSpan starts the span of an attempt that began at start, as a child of the
// promotion that caused it. If the job names no span, as after a refetch or from an
// older version, the span is a root of the same trace.
func (w *worker) startSpan(ctx context.Context, job *river.Job[queue.Retrieval], a *attempt, start time.Time) (context.Context, trace.Span) {
	if w.tracer == nil {
		return ctx, trace.SpanFromContext(ctx) // does nothing
	}
	return w.tracer.StartChild(ctx, a.lease.WorkflowExecutionID, queue.ReadTraceparent(job.JobRow), "retrieve",
		trace.WithTimestamp(start), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			attrWorkflowExecution.String(a.lease.WorkflowExecutionID),
			attrAttempt.Int(a.args.Attempt),
			attrRefetch.Bool(a.args.Refetch)))
}

// The outcomes of attempts that do not count.
const (
	endNotStored  = "not_stored" // the database failed
	endSuperseded = "superseded"
)

// endSpan ends an attempt's span. Of a failure it records only the code.
func (a *attempt) endSpan(span trace.Span, end string) {
	span.SetAttributes(attrOutcome.String(end), attrImages.Int(a.images))
	if a.state != "" {
		span.SetAttributes(attrRetrievalState.String(string(a.state)))
	}
	if end != attemptOK && end != endSuperseded {
		span.SetAttributes(semconv.ErrorTypeKey.String(end))
		span.SetStatus(codes.Error, end)
	}
	span.End()
}
