package fetcher

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"callbackd/internal/store"
	"callbackd/internal/tracing"
)

// What the spans say beside OpenTelemetry's own attributes; as in the logs.
const (
	attrWorkflowExecution = attribute.Key("callbackd.workflow_execution_id")
	attrCallbacks         = attribute.Key("callbackd.callbacks")
	attrDecided           = attribute.Key("callbackd.decided")
	attrRetrievalState    = attribute.Key("callbackd.retrieval_state")
	attrAttempt           = attribute.Key("callbackd.attempt")
	attrRefetch           = attribute.Key("callbackd.refetch")
	attrOutcome           = attribute.Key("callbackd.outcome")
	attrImages            = attribute.Key("callbackd.images")
)

// jobMetadata is what a job carries beside its arguments: the span of the
// promotion that it comes of (W3C Trace Context, section 3.2).
type jobMetadata struct {
	Traceparent string `json:"traceparent,omitempty"`
}

func noMetadata(store.Retrieval) []byte { return nil }

// tracedBatch follows one batch of a promoter. Each workflow execution in it
// gets one span, however many callbacks it has there, below the span of the
// callback that decides; the others are linked. A nil one follows nothing.
type tracedBatch struct {
	tracer    *tracing.Tracer
	start     time.Time
	workflows map[string]*tracedWorkflow
}

type tracedWorkflow struct {
	state     *store.WorkflowExecution
	callbacks []uuid.UUID
	parent    uuid.UUID  // one of them
	decided   bool       // one of them began a retrieval
	span      trace.Span // nil before it is needed
}

// begin is a store.Promotion's. Spans of a try that came to nothing are never
// ended, and so never sent.
func (b *tracedBatch) begin() {
	b.start, b.workflows = time.Now(), make(map[string]*tracedWorkflow)
}

// follow notes a delivery that has been applied, and whether it began a retrieval.
func (b *tracedBatch) follow(w *store.WorkflowExecution, d *store.Delivery, began bool) {
	t := b.workflows[w.ID]
	if t == nil {
		t = &tracedWorkflow{state: w, parent: d.CallbackID}
		b.workflows[w.ID] = t
	}
	t.callbacks = append(t.callbacks, d.CallbackID)
	if began {
		t.decided, t.parent = true, d.CallbackID
	}
}

// metadata is that of a retrieval's job.
func (b *tracedBatch) metadata(r store.Retrieval) []byte {
	if b == nil {
		return nil
	}
	span := b.span(b.workflows[r.WorkflowExecutionID])
	encoded, _ := json.Marshal(jobMetadata{tracing.Traceparent(span.SpanContext())}) // cannot fail: a string
	return encoded
}

func (b *tracedBatch) span(w *tracedWorkflow) trace.Span {
	if w.span == nil {
		id := w.state.ID
		var links []trace.Link
		for _, callback := range w.callbacks {
			if callback != w.parent {
				links = append(links, trace.Link{SpanContext: b.tracer.Received(id, callback)})
			}
		}
		ctx := trace.ContextWithRemoteSpanContext(context.Background(), b.tracer.Received(id, w.parent))
		_, w.span = b.tracer.Start(ctx, "promote", trace.WithTimestamp(b.start), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...))
	}
	return w.span
}

// end ends the spans of a batch that is committed.
func (b *tracedBatch) end() {
	if b == nil {
		return
	}
	now := trace.WithTimestamp(time.Now())
	for _, w := range b.workflows {
		span := b.span(w)
		if span.IsRecording() {
			span.SetAttributes(
				attrWorkflowExecution.String(w.state.ID),
				attrCallbacks.Int(len(w.callbacks)),
				attrDecided.Bool(w.decided),
				attrRetrievalState.String(string(w.state.RetrievalState)))
		}
		span.End(now)
	}
}

// startSpan starts the span of an attempt that began at start, below the
// promotion that it comes of. A job that names none, as after a refetch or from
// an older version, is a root of the same trace.
func (w *worker) startSpan(ctx context.Context, job *river.Job[retrievalArgs], a *attempt, start time.Time) (context.Context, trace.Span) {
	if w.tracer == nil {
		return ctx, trace.SpanFromContext(ctx) // one that does nothing
	}
	var m jobMetadata
	_ = json.Unmarshal(job.Metadata, &m) // what cannot be read names none
	return w.tracer.StartChild(ctx, a.lease.WorkflowExecutionID, m.Traceparent, "retrieve",
		trace.WithTimestamp(start), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			attrWorkflowExecution.String(a.lease.WorkflowExecutionID),
			attrAttempt.Int(a.args.attempt),
			attrRefetch.Bool(a.args.Refetch)))
}

// What became of an attempt that is not counted.
const (
	endNotStored  = "not_stored" // the database did not take it
	endSuperseded = "superseded"
)

// endSpan ends an attempt's span. Of what failed it tells the code alone.
func (a *attempt) endSpan(span trace.Span) {
	span.SetAttributes(attrOutcome.String(a.end), attrImages.Int(a.images))
	if a.state != "" {
		span.SetAttributes(attrRetrievalState.String(string(a.state)))
	}
	if a.end != attemptOK && a.end != endSuperseded {
		span.SetAttributes(semconv.ErrorTypeKey.String(a.end))
		span.SetStatus(codes.Error, a.end)
	}
	span.End()
}
