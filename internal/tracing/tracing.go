// Package tracing sends to an OpenTelemetry collector what happens to workflow
// executions, each of them one trace.
//
// It owns the SDK, the exporter and the ids; the rooms name their spans. It never
// trusts a trace context from outside, waits for a collector, or logs a header or
// a collector's words. A nil [Tracer] is one that is off.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
)

// Options are what New needs.
type Options struct {
	Exporter
	// Sampler is always_on, always_off or traceidratio, or one of them after
	// parentbased_ (OpenTelemetry's OTEL_TRACES_SAMPLER). SampleRatio, from 0 to 1,
	// is for traceidratio.
	Sampler     string
	SampleRatio float64
	// Version is callbackd's. ResourceAttributes go before what is known of the
	// process and include service.name.
	Version            string
	ResourceAttributes map[string]string
	Log                *zap.Logger
	Registerer         prometheus.Registerer
}

// Tracer makes the spans. It is safe for concurrent use. Check for nil, which is
// off, before asking for a span.
type Tracer struct {
	trace.Tracer
	provider *sdktrace.TracerProvider
	sampler  sdktrace.Sampler
	exporter *exporter
	stop     sync.Once
	stopErr  error
}

// New makes no connection: an unreachable collector is logged when there is
// something to send.
func New(ctx context.Context, o Options) (*Tracer, error) {
	sampler, err := newSampler(o.Sampler, o.SampleRatio)
	if err != nil {
		return nil, err
	}
	setHandlers(o.Log)
	described, err := describe(ctx, o)
	if err != nil {
		return nil, err
	}
	exporter, err := newExporter(ctx, o)
	if err != nil {
		return nil, err
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithSampler(sampler), sdktrace.WithIDGenerator(idGenerator{}),
		sdktrace.WithResource(described),
		sdktrace.WithoutPanicRecording(), // a panic's value may hold anything
	)
	return &Tracer{
		Tracer:   provider.Tracer("callbackd", trace.WithInstrumentationVersion(o.Version), trace.WithSchemaURL(semconv.SchemaURL)),
		provider: provider, sampler: sampler, exporter: exporter,
	}, nil
}

// setHandlers sends what the SDK says outside of an export to the log.
func setHandlers(log *zap.Logger) {
	quieter := log.WithOptions(zap.IncreaseLevel(zapcore.WarnLevel), zap.WithCaller(false))
	otel.SetLogger(logr.FromSlogHandler(zapslog.NewHandler(quieter.Core(), zapslog.WithName("opentelemetry"))))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("OpenTelemetry has a problem", zap.String("error", safeText(err)))
	}))
}

// newSampler makes a sampler that decides by the trace's id, so every instance
// decides alike. With parentbased_, retrievals follow their promotion's decision.
func newSampler(name string, ratio float64) (sdktrace.Sampler, error) {
	rootName, parentBased := strings.CutPrefix(name, "parentbased_")
	root := map[string]sdktrace.Sampler{
		"always_on": sdktrace.AlwaysSample(), "always_off": sdktrace.NeverSample(), "traceidratio": sdktrace.TraceIDRatioBased(ratio),
	}[rootName]
	switch {
	case root == nil:
		return nil, fmt.Errorf("tracing: no sampler is named %q", name)
	case parentBased:
		return sdktrace.ParentBased(root), nil
	}
	return root, nil
}

// describe says which process the spans come from.
func describe(ctx context.Context, o Options) (*resource.Resource, error) {
	var attributes []attribute.KeyValue
	for name, value := range o.ResourceAttributes {
		attributes = append(attributes, attribute.String(name, value))
	}
	r, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithAttributes(semconv.ServiceVersion(o.Version)), resource.WithAttributes(attributes...))
	if err != nil && !errors.Is(err, resource.ErrPartialResource) && !errors.Is(err, resource.ErrSchemaURLConflict) {
		return nil, fmt.Errorf("tracing: describe the process: %w", err)
	}
	return r, nil
}

// Shutdown sends the ended spans until ctx ends; the rest is lost. Only the first
// call does anything.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.stop.Do(func() {
		t.stopErr = t.provider.Shutdown(ctx)
		t.exporter.abandon()
	})
	return t.stopErr
}

// API is the tracer as OpenTelemetry's API has it; a no-op when tracing is off.
func (t *Tracer) API() trace.Tracer {
	if t == nil {
		return noop.NewTracerProvider().Tracer("")
	}
	return t.Tracer
}

// Sampled reports whether the spans of a workflow execution's trace are sent.
func (t *Tracer) Sampled(workflowExecutionID string) bool {
	return t != nil && t.sampled(TraceID(workflowExecutionID))
}

func (t *Tracer) sampled(id trace.TraceID) bool {
	return t.sampler.ShouldSample(sdktrace.SamplingParameters{
		ParentContext: context.Background(), TraceID: id,
	}).Decision == sdktrace.RecordAndSample
}

// LogID is the field trace_id of a log line about a workflow execution, skipped
// when its trace is not sent.
func (t *Tracer) LogID(workflowExecutionID string) zap.Field {
	if t == nil {
		return zap.Skip()
	}
	id := TraceID(workflowExecutionID)
	if !t.sampled(id) {
		return zap.Skip()
	}
	return zap.String("trace_id", id.String())
}

// StartReceived starts the span of a received callback: a root, whose ids
// follow from those of the workflow execution and of the callback.
func (t *Tracer) StartReceived(ctx context.Context, workflowExecutionID string, callbackID uuid.UUID, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	return t.startRoot(ctx, rootIDs{TraceID(workflowExecutionID), spanID(callbackID)}, name, o...)
}

// StartRoot starts a span of a workflow execution's trace without a known cause.
func (t *Tracer) StartRoot(ctx context.Context, workflowExecutionID, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	return t.startRoot(ctx, rootIDs{trace: TraceID(workflowExecutionID)}, name, o...)
}

func (t *Tracer) startRoot(ctx context.Context, ids rootIDs, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	return t.Start(context.WithValue(trace.ContextWithSpanContext(ctx, trace.SpanContext{}), rootIDsKey{}, ids), name, o...)
}

// Received is the span that the callback's receiver made, perhaps another process.
// This process's sampler, which decides alike, says whether it is sampled.
func (t *Tracer) Received(workflowExecutionID string, callbackID uuid.UUID) trace.SpanContext {
	c := trace.SpanContextConfig{TraceID: TraceID(workflowExecutionID), SpanID: spanID(callbackID), Remote: true}
	if t.sampled(c.TraceID) {
		c.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(c)
}

// Traceparent is a span's context as W3C Trace Context writes it (section 3.2).
func Traceparent(span trace.SpanContext) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), span), carrier)
	return carrier["traceparent"]
}

// StartChild starts a span below the one that traceparent names. If traceparent is
// invalid or of another trace, the span is a root of the workflow execution's.
func (t *Tracer) StartChild(ctx context.Context, workflowExecutionID, traceparent, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	parent := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if parent.TraceID() != TraceID(workflowExecutionID) {
		return t.StartRoot(ctx, workflowExecutionID, name, o...)
	}
	return t.Start(trace.ContextWithRemoteSpanContext(ctx, parent), name, o...)
}
