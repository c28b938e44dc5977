package fetcher

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/sandbox"
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
	if err := Refetch(t.Context(), r.store.DB, r.schedule, []string{id}, ""); err != nil {
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
	if err := Refetch(t.Context(), r.store.DB, r.schedule, []string{j.WorkflowExecutionID}, ""); err != nil {
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
