package promoter

import (
	"context"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"callbackd/internal/queue"
	"callbackd/internal/tracing"
	"callbackd/internal/workflow"
)

// The spans' own attributes, named as in the logs.
const (
	attrWorkflowExecution = attribute.Key("callbackd.workflow_execution_id")
	attrCallbacks         = attribute.Key("callbackd.callbacks")
	attrDecided           = attribute.Key("callbackd.decided")
	attrRetrievalState    = attribute.Key("callbackd.retrieval_state")
)

// tracedBatch traces one batch. Each workflow execution in it gets one span, however
// many callbacks it has there: a child of the span of the callback that decides, linked
// to the others. A nil tracedBatch does nothing.
type tracedBatch struct {
	tracer    *tracing.Tracer
	start     time.Time
	workflows map[string]*tracedWorkflow
}

type tracedWorkflow struct {
	state     *workflow.Execution
	callbacks []uuid.UUID
	parent    uuid.UUID  // one of the callbacks
	decided   bool       // whether the parent began a retrieval
	span      trace.Span // nil before it is needed
}

func newTracedBatch(tracer *tracing.Tracer, start time.Time) *tracedBatch {
	if tracer == nil {
		return nil
	}
	return &tracedBatch{tracer: tracer, start: start, workflows: make(map[string]*tracedWorkflow)}
}

// follow adds a delivery that has been applied, and whether it began a retrieval.
func (b *tracedBatch) follow(w *workflow.Execution, d *workflow.Delivery, began bool) {
	if b == nil {
		return
	}
	t := b.workflows[w.ID]
	if t == nil {
		t = &tracedWorkflow{state: w, parent: d.ID}
		b.workflows[w.ID] = t
	}
	t.callbacks = append(t.callbacks, d.ID)
	if began {
		t.decided, t.parent = true, d.ID
	}
}

// metadata returns the metadata of the retrievals' jobs.
func (b *tracedBatch) metadata() queue.Metadata {
	if b == nil {
		return nil
	}
	return func(r workflow.Retrieval) string {
		return tracing.Traceparent(b.span(b.workflows[r.WorkflowExecutionID]).SpanContext())
	}
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

// end ends the spans of a committed batch.
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
