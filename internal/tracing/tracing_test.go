package tracing

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/tracing/tracetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var callbackID = uuid.MustParse("0199a0b1-c2d3-7e4f-8a5b-6c7d8e9f0a1b")

// options are those of a tracer that sends everything to a collector.
func options(endpoint string) Options {
	return Options{
		Exporter: Exporter{Endpoint: endpoint, Timeout: 10 * time.Second},
		Sampler:  "parentbased_always_on", Version: "v1.2.3", ResourceAttributes: map[string]string{"service.name": "kyc", "team": "x"},
		Log: zap.NewNop(), Registerer: prometheus.NewRegistry(),
	}
}

func newTracer(t *testing.T, o Options) *Tracer {
	t.Helper()
	tracer, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { flush(t, tracer) })
	return tracer
}

func flush(t *testing.T, tracer *Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tracer.Shutdown(ctx); err != nil {
		t.Errorf("shut down: %v", err)
	}
}

// TestExport: the spans arrive with their ids, the headers and what is known of
// the process.
func TestExport(t *testing.T) {
	collector := tracetest.Start(t)
	o := options(collector.URL + "/v1/traces")
	o.Headers = map[string]string{"Api-Key": "k"}
	tracer := newTracer(t, o)

	ctx, received := tracer.StartReceived(t.Context(), "w", callbackID, "receive", trace.WithSpanKind(trace.SpanKindServer))
	_, inner := tracer.Start(ctx, "inner")
	inner.End()
	received.End()
	parent := trace.ContextWithRemoteSpanContext(t.Context(), tracer.Received("w", callbackID))
	_, promoted := tracer.Start(parent, "promote")
	promoted.End()
	_, retrieved := tracer.StartChild(t.Context(), "w", Traceparent(promoted.SpanContext()), "retrieve")
	retrieved.End()
	_, again := tracer.StartRoot(ctx, "w", "again")
	again.End()
	flush(t, tracer)

	const receivedID = "8a5b6c7d8e9f0a1b"
	want := map[string]string{
		"receive": "", "inner": receivedID, "promote": receivedID, "retrieve": promoted.SpanContext().SpanID().String(), "again": "",
	}
	got := map[string]string{}
	for _, s := range collector.Spans() {
		got[s.Name] = s.Parent
		if s.TraceID != TraceID("w").String() {
			t.Errorf("%s is in trace %s", s.Name, s.TraceID)
		}
		if (s.Name == "receive") != (s.SpanID == receivedID) {
			t.Errorf("%s has the id %s", s.Name, s.SpanID)
		}
		for name, value := range map[string]string{"service.name": "kyc", "service.version": "v1.2.3", "team": "x", "telemetry.sdk.language": "go"} {
			if s.Resource[name] != value {
				t.Errorf("resource %s is %q, want %q", name, s.Resource[name], value)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parents (-want +got):\n%s", diff)
	}
	_, last := collector.Requests()
	if last.Header.Get("Api-Key") != "k" {
		t.Errorf("the headers are not sent: %v", last.Header)
	}
	if last.Method != http.MethodPost || last.URL.Path != "/v1/traces" {
		t.Errorf("sent to %s %s", last.Method, last.URL.Path)
	}
}

// TestSampling: whatever span of a trace an instance makes, the sampler decides
// alike, by the trace's id; with parentbased_ a promotion's decision also holds
// for its retrievals.
func TestSampling(t *testing.T) {
	const workflows, none, all = 400, 0, 400
	most := func(n int) bool { return n > workflows/5 && n < workflows*2/5 }
	for _, test := range []struct {
		sampler string
		ratio   float64
		sampled func(n int) bool // of the spans that this instance's sampler judges
		// What a sampler says of a span whose parent is flagged otherwise than it
		// would itself.
		onUnsampled, onSampled bool
	}{
		{"always_on", 0, func(n int) bool { return n == all }, true, true},
		{"always_off", 1, func(n int) bool { return n == none }, false, false},
		{"traceidratio", 0.3, most, true, false},
		{"parentbased_always_on", 0, func(n int) bool { return n == all }, false, true},
		{"parentbased_always_off", 1, func(n int) bool { return n == none }, false, true},
		{"parentbased_traceidratio", 0.3, most, false, true},
	} {
		t.Run(test.sampler, func(t *testing.T) {
			collector := tracetest.Start(t)
			o := options(collector.URL)
			o.Sampler, o.SampleRatio = test.sampler, test.ratio
			receiver := newTracer(t, o)
			o.Registerer = prometheus.NewRegistry()
			worker := newTracer(t, o)
			sampled := 0
			for n := range workflows {
				id := fmt.Sprint("w", n)
				_, received := receiver.StartReceived(t.Context(), id, uuid.Must(uuid.NewV7()), "receive")
				remote := worker.Received(id, callbackID)
				_, promoted := worker.Start(trace.ContextWithRemoteSpanContext(t.Context(), remote), "promote")
				_, retrieved := worker.StartChild(t.Context(), id, Traceparent(promoted.SpanContext()), "retrieve")
				_, root := worker.StartRoot(t.Context(), id, "refetch")
				want := worker.Sampled(id)
				for name, got := range map[string]bool{
					"receive": received.IsRecording(), "parent": remote.IsSampled(), "promote": promoted.IsRecording(),
					"retrieve": retrieved.IsRecording(), "refetch": root.IsRecording(), "the receiver": receiver.Sampled(id),
				} {
					if got != want {
						t.Fatalf("%s: %s is sampled: %t, want %t", id, name, got, want)
					}
				}
				if want {
					sampled++
				}
				disagreeing := promoted.SpanContext().WithTraceFlags(promoted.SpanContext().TraceFlags() ^ trace.FlagsSampled)
				_, child := worker.StartChild(t.Context(), id, Traceparent(disagreeing), "retrieve")
				if want && child.IsRecording() != test.onUnsampled || !want && child.IsRecording() != test.onSampled {
					t.Fatalf("%s: below a parent that disagrees, sampled: %t", id, child.IsRecording())
				}
			}
			if !test.sampled(sampled) {
				t.Errorf("%d of %d traces are sampled", sampled, workflows)
			}
		})
	}
}

// TestStartChild: what is no traceparent, or names another trace, leads to a
// root in the workflow execution's own.
func TestStartChild(t *testing.T) {
	tracer := newTracer(t, options(tracetest.Start(t).URL))
	for name, test := range map[string]struct {
		traceparent string
		parent      string
	}{
		"right":         {"00-" + TraceID("w").String() + "-00f067aa0ba902b7-01", "00f067aa0ba902b7"},
		"none":          {"", "0000000000000000"},
		"nonsense":      {"00-x", "0000000000000000"},
		"another trace": {"00-" + TraceID("v").String() + "-00f067aa0ba902b7-01", "0000000000000000"},
	} {
		_, span := tracer.StartChild(t.Context(), "w", test.traceparent, "x")
		parent := span.(interface{ Parent() trace.SpanContext }).Parent().SpanID()
		if span.SpanContext().TraceID() != TraceID("w") || parent.String() != test.parent {
			t.Errorf("%s: trace %s, parent %s", name, span.SpanContext().TraceID(), parent)
		}
		span.End()
	}
}

// TestFailingExport: a collector that rejects or is away costs spans and a line
// a minute, which tells nothing of what it said.
func TestFailingExport(t *testing.T) {
	rejecting := tracetest.Start(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	away := "http://" + closed.Addr().String()
	for name, test := range map[string]struct {
		endpoint string
		status   int
		want     string
	}{
		"rejected": {rejecting.URL + "/in", http.StatusUnauthorized, "the collector answered 401"},
		"broken":   {rejecting.URL, http.StatusInternalServerError, "the collector answered 500"},
		"busy":     {rejecting.URL, http.StatusServiceUnavailable, "the collector answered 503"},
		"nobody":   {away, 0, "dial tcp " + closed.Addr().String() + ": connect: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			rejecting.Reject(test.status, "SECRET")
			core, logged := observer.New(zapcore.DebugLevel)
			registry := prometheus.NewRegistry()
			o := options(test.endpoint)
			o.Headers, o.Log, o.Registerer = map[string]string{"api-key": "SECRET"}, zap.New(core), registry
			o.Timeout = 500 * time.Millisecond
			tracer := newTracer(t, o)
			for range 3 {
				_, span := tracer.StartRoot(t.Context(), "w", "x")
				span.End()
				_ = tracer.provider.ForceFlush(t.Context())
			}
			flush(t, tracer)
			if n := logged.Len(); n != 1 {
				t.Fatalf("%d lines, want 1: %v", n, logged.All())
			}
			got := logged.All()[0].ContextMap()
			if diff := cmp.Diff(map[string]any{"spans": int64(1), "error": test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if strings.Contains(fmt.Sprint(got), "SECRET") {
				t.Error("a secret shows")
			}
			if n := testutil.ToFloat64(tracer.exporter.spans.WithLabelValues(spansFailed)); n != 3 {
				t.Errorf("%v spans are counted as failed, want 3", n)
			}
		})
	}
}

// TestExportedIsCounted beside TestFailingExport.
func TestExportedIsCounted(t *testing.T) {
	tracer := newTracer(t, options(tracetest.Start(t).URL))
	for range 5 {
		_, span := tracer.StartRoot(t.Context(), "w", "x")
		span.End()
	}
	flush(t, tracer)
	if n := testutil.ToFloat64(tracer.exporter.spans.WithLabelValues(spansExported)); n != 5 {
		t.Errorf("%v spans are counted as exported, want 5", n)
	}
}

// TestShutdownIsBounded: a collector that never answers keeps nobody waiting,
// and nothing of it is left behind.
func TestShutdownIsBounded(t *testing.T) {
	asked, gone := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is the client's end noticed
		close(asked)
		<-r.Context().Done()
		close(gone)
	}))
	defer server.Close()
	o := options(server.URL)
	o.Timeout = time.Hour
	tracer, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.StartRoot(t.Context(), "w", "x")
	span.End()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if err := tracer.Shutdown(ctx); err == nil {
		t.Error("the export that did not end is not told of")
	}
	select {
	case <-gone:
	case <-time.After(25 * time.Second): // the SDK's own limit is 30 s
		t.Error("the export goes on")
	}
}

// TestPanicsAreNotRecorded: their values may hold anything.
func TestPanicsAreNotRecorded(t *testing.T) {
	collector := tracetest.Start(t)
	tracer := newTracer(t, options(collector.URL))
	func() {
		defer func() { _ = recover() }()
		_, span := tracer.StartRoot(t.Context(), "w", "x")
		defer span.End()
		panic("SECRET")
	}()
	flush(t, tracer)
	if spans := collector.Spans(); len(spans) != 1 || spans[0].Events != 0 || strings.Contains(collector.Raw(), "SECRET") {
		t.Errorf("got %+v", spans)
	}
}

// TestOff: a nil Tracer is one that is off, and costs nothing.
func TestOff(t *testing.T) {
	var off *Tracer
	if off.Sampled("w") || off.LogID("w") != zap.Skip() {
		t.Error("something is sampled")
	}
	if _, span := off.API().Start(t.Context(), "x"); span.IsRecording() || span.SpanContext().IsValid() {
		t.Error("a span is made")
	}
	if err := off.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = off.LogID("w") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestLogID is there only when there is such a trace.
func TestLogID(t *testing.T) {
	o := options(tracetest.Start(t).URL)
	tracer := newTracer(t, o)
	if got := tracer.LogID("w"); got != zap.String("trace_id", TraceID("w").String()) {
		t.Errorf("got %v", got)
	}
	o.Sampler, o.Registerer = "always_off", prometheus.NewRegistry()
	if got := newTracer(t, o).LogID("w"); got != zap.Skip() {
		t.Errorf("not sampled: got %v", got)
	}
}

// TestWrongOptions is for what the configuration lets through by mistake.
func TestWrongOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"sampler": func(o *Options) { o.Sampler = "jaeger_remote" },
	} {
		o := options("http://127.0.0.1:1")
		o.ResourceAttributes = maps.Clone(o.ResourceAttributes)
		change(&o)
		if tracer, err := New(t.Context(), o); err == nil || tracer != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
