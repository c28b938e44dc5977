package promoter

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/tracing"
	"callbackd/internal/tracing/tracetest"
	"callbackd/internal/workflow"
)

func newTracer(t testing.TB, collector *tracetest.Collector) *tracing.Tracer {
	t.Helper()
	tracer, err := tracing.New(t.Context(), tracing.Options{
		Exporter: tracing.Exporter{Endpoint: collector.URL, Timeout: 10 * time.Second},
		Sampler:  "parentbased_always_on", Log: zap.NewNop(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

func flush(t testing.TB, tracer *tracing.Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tracer.Shutdown(ctx); err != nil {
		t.Errorf("shut down tracing: %v", err)
	}
}

// TestPromoteSpans: one span for each workflow execution of a batch, below the
// callback that decides, with links to the others; nothing of a try that was
// made anew.
func TestPromoteSpans(t *testing.T) {
	collector := tracetest.Start(t)
	tracer := newTracer(t, collector)
	now := time.Now()
	at := func(id, status string, sent time.Time) workflow.Delivery {
		return workflow.Delivery{Callback: callback.Callback{
			ID: uuid.Must(uuid.NewV7()), WorkflowExecutionID: id, ReceivedAt: now, CallbackSentAt: sent, WorkflowStatus: status,
		}}
	}
	span := func(d workflow.Delivery) string { return tracer.Received("", d.ID).SpanID().String() }

	newBatch(tracer, "", now).apply() // a try that was made anew
	b := newBatch(tracer, "", now)
	b.known = map[string]*workflow.Execution{"done": {ID: "done", RetrievalState: workflow.Retrieved, DecidedSentAt: now}}
	acquired, processed := at("several", workflow.StatusAcquired, now), at("several", workflow.StatusProcessed, now.Add(time.Second))
	repeated, late := at("several", workflow.StatusProcessed, now.Add(time.Second)), at("done", workflow.StatusAcquired, now.Add(-time.Hour))
	b.deliveries = []workflow.Delivery{acquired, processed, repeated, late}
	b.apply()
	metadata := b.traced.metadata()(workflow.Retrieval{WorkflowExecutionID: "several"})
	b.traced.end()
	flush(t, tracer)

	got := map[string]tracetest.Span{}
	for _, s := range collector.Spans() {
		got[s.Attributes["callbackd.workflow_execution_id"]] = s
	}
	linked := func(id string, d workflow.Delivery) string { return tracing.TraceID(id).String() + "-" + span(d) }
	want := map[string]tracetest.Span{
		"several": {Parent: span(processed), Links: []string{linked("several", acquired), linked("several", repeated)}, Attributes: map[string]string{
			"callbackd.workflow_execution_id": "several", "callbackd.callbacks": "3", "callbackd.decided": "true", "callbackd.retrieval_state": "pending",
		}},
		"done": {Parent: span(late), Attributes: map[string]string{
			"callbackd.workflow_execution_id": "done", "callbackd.callbacks": "1", "callbackd.decided": "false", "callbackd.retrieval_state": "retrieved",
		}},
	}
	for id, s := range want {
		s.Name, s.Kind, s.Status, s.TraceID, s.SpanID = "promote", "CONSUMER", "UNSET", tracing.TraceID(id).String(), got[id].SpanID
		s.Resource, s.Start, s.End = got[id].Resource, got[id].Start, got[id].End
		want[id] = s
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := fmt.Sprintf(`00-%s-%s-01`, got["several"].TraceID, got["several"].SpanID); metadata != want {
		t.Errorf("traceparent %s, want %s", metadata, want)
	}
}
