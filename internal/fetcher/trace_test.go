package fetcher

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/sandbox"
	"callbackd/internal/store"
	"callbackd/internal/tracing"
	"callbackd/internal/tracing/tracetest"
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
	traced := &tracedBatch{tracer: tracer}
	b := &batch{f: &Fetcher{log: zap.NewNop(), metrics: NewMetrics(prometheus.NewRegistry(), quick)}, traced: traced}
	now := time.Now()
	callback := func(status string, sent time.Time) *store.Delivery {
		return &store.Delivery{CallbackID: uuid.Must(uuid.NewV7()), ReceivedAt: now, SentAt: sent, Status: status}
	}
	span := func(d *store.Delivery) string { return tracer.Received("", d.CallbackID).SpanID().String() }

	b.begin()
	b.apply(&store.WorkflowExecution{ID: "of an earlier try"}, callback(jumio.StatusProcessed, now))
	b.begin()
	acquired, processed, repeated := callback(jumio.StatusAcquired, now), callback(jumio.StatusProcessed, now.Add(time.Second)), callback(jumio.StatusProcessed, now.Add(time.Second))
	several := &store.WorkflowExecution{ID: "several", RetrievalState: store.Awaiting}
	for _, d := range []*store.Delivery{acquired, processed, repeated} {
		b.apply(several, d)
	}
	late := callback(jumio.StatusAcquired, now.Add(-time.Hour))
	done := &store.WorkflowExecution{ID: "done", RetrievalState: store.Retrieved, DecidedSentAt: now}
	b.apply(done, late)
	metadata := traced.metadata(store.Retrieval{WorkflowExecutionID: "several"})
	b.end()
	flush(t, tracer)

	got := map[string]tracetest.Span{}
	for _, s := range collector.Spans() {
		got[s.Attributes["callbackd.workflow_execution_id"]] = s
	}
	linked := func(id string, d *store.Delivery) string { return tracing.TraceID(id).String() + "-" + span(d) }
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
	if want := fmt.Sprintf(`{"traceparent":"00-%s-%s-01"}`, got["several"].TraceID, got["several"].SpanID); string(metadata) != want {
		t.Errorf("metadata %s, want %s", metadata, want)
	}
}

// TestRetrieveSpans: each attempt is a span below the promotion; after a refetch
// it is a root of the same trace, and Jumio's requests are below the attempt.
func TestRetrieveSpans(t *testing.T) {
	collector := tracetest.Start(t)
	r := newRig(t, quick, sandbox.Config{Seed: 31})
	r.tracer = newTracer(t, collector)
	f := r.start()
	j := r.journey("passed-passport", "details:429:1")
	id := j.WorkflowExecutionID
	r.settled(id)
	if err := Refetch(t.Context(), r.store, r.schedule, []string{id}, ""); err != nil {
		t.Fatal(err)
	}
	r.settled(id)
	r.stop(f)
	flush(t, r.tracer)

	names := map[string]string{}
	for _, s := range collector.Spans() {
		names[s.SpanID] = s.Name
	}
	type attempt struct{ Parent, Attempt, Refetch, Outcome, State, Status, Message string }
	var got []attempt
	requests := map[string]int{}
	for _, s := range collector.Spans() {
		if s.TraceID != tracing.TraceID(id).String() {
			t.Errorf("%s is in trace %s", s.Name, s.TraceID)
		}
		switch {
		case s.Name == "retrieve":
			a := s.Attributes
			got = append(got, attempt{names[s.Parent], a["callbackd.attempt"], a["callbackd.refetch"], a["callbackd.outcome"], a["callbackd.retrieval_state"], s.Status, s.Message})
		case s.Kind == "CLIENT":
			if names[s.Parent] != "retrieve" {
				t.Errorf("%s is below %q", s.Name, names[s.Parent])
			}
			requests[s.Name]++
		}
	}
	want := []attempt{
		{"promote", "1", "false", "rate_limited", "pending", "ERROR", "rate_limited"},
		{"promote", "2", "false", "ok", "retrieved", "UNSET", ""},
		{"", "1", "true", "ok", "retrieved", "UNSET", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	entry := r.ledger(j)
	images := 0
	for _, i := range entry.Images {
		images += i.Requests
	}
	if diff := cmp.Diff(map[string]int{"POST token": 1, "GET details": 3, "GET image": images}, requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestSupersededSpan: an attempt whose outcome nobody wants any more is no error.
func TestSupersededSpan(t *testing.T) {
	collector := tracetest.Start(t)
	r := newRig(t, quick, sandbox.Config{Seed: 32})
	r.tracer = newTracer(t, collector)
	f := r.start()
	j := r.journey("passed-passport", "details:slow:1")
	r.waitFor("the request for details", `SELECT EXISTS (SELECT FROM callbackd.workflow_executions WHERE lease_token IS NOT NULL)`)
	if err := Refetch(t.Context(), r.store, r.schedule, []string{j.WorkflowExecutionID}, ""); err != nil {
		t.Fatal(err)
	}
	r.settled(j.WorkflowExecutionID)
	r.stop(f)
	flush(t, r.tracer)
	var got []string
	for _, s := range collector.Spans() {
		if s.Name == "retrieve" {
			got = append(got, s.Attributes["callbackd.outcome"]+" "+s.Status+" "+s.Attributes["callbackd.retrieval_state"])
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"ok UNSET retrieved", "superseded UNSET "}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestJobsWithoutTracing: without tracing a job carries nothing more than before.
func TestJobsWithoutTracing(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 33})
	j := r.journey("passed-passport", "details:500:1")
	untraced := r.start()
	r.settled(j.WorkflowExecutionID)
	r.stop(untraced)
	var metadata map[string]any
	if err := json.Unmarshal(value[[]byte](r, `SELECT metadata FROM callbackd.river_job`), &metadata); err != nil || metadata["traceparent"] != nil {
		t.Errorf("metadata %v, %v", metadata, err)
	}
}
