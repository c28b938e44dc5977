package tracing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/status"
)

// Exporter says where the spans go.
type Exporter struct {
	// Endpoint is a complete URL; of one for gRPC only scheme and host count.
	Endpoint string
	// Protocol is http/protobuf, http/json or grpc (OTEL_EXPORTER_OTLP_PROTOCOL).
	Protocol string
	// Headers go with each export. Secrets.
	Headers map[string]string
	// Timeout bounds one export.
	Timeout time.Duration
}

// failureLines is how often a failing export is logged.
const failureLines = time.Minute

// exporter counts what the one below it sends, and logs what it cannot.
type exporter struct {
	sdktrace.SpanExporter
	log   *zap.Logger
	limit *rate.Limiter
	spans *prometheus.CounterVec

	abandoned context.Context // ends with the last wait for an export
	abandon   context.CancelFunc

	mu   sync.Mutex
	lost int // spans since the last line
}

func newExporter(ctx context.Context, o Options) (*exporter, error) {
	client, err := newClient(o.Exporter)
	if err != nil {
		return nil, err
	}
	below, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("tracing: set up the exporter: %s", safeText(err))
	}
	e := &exporter{
		SpanExporter: below, log: o.Log, limit: rate.NewLimiter(rate.Every(failureLines), 1),
		spans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_trace_spans_total",
			Help: "Spans by whether the collector has taken them.",
		}, []string{"outcome"}),
	}
	e.abandoned, e.abandon = context.WithCancel(context.Background())
	for _, outcome := range []string{spansExported, spansFailed} {
		e.spans.WithLabelValues(outcome)
	}
	o.Registerer.MustRegister(e.spans)
	return e, nil
}

// The outcomes of callbackd_trace_spans_total.
const (
	spansExported = "exported"
	spansFailed   = "failed"
)

func newClient(o Exporter) (otlptrace.Client, error) {
	switch o.Protocol {
	case "http/protobuf", "http/json":
		encoding := otlptracehttp.EncodingProtobuf
		if o.Protocol == "http/json" {
			encoding = otlptracehttp.EncodingJSON
		}
		return otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(o.Endpoint), otlptracehttp.WithEncoding(encoding),
			otlptracehttp.WithHeaders(o.Headers), otlptracehttp.WithTimeout(o.Timeout)), nil
	case "grpc":
		return otlptracegrpc.NewClient(otlptracegrpc.WithEndpointURL(o.Endpoint),
			otlptracegrpc.WithHeaders(o.Headers), otlptracegrpc.WithTimeout(o.Timeout)), nil
	}
	return nil, fmt.Errorf("tracing: no protocol is named %q", o.Protocol)
}

// ExportSpans implements sdktrace.SpanExporter. It keeps its errors to itself:
// the SDK would only log each of them, with all that the collector said.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.abandoned, cancel)()
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		e.spans.WithLabelValues(spansExported).Add(float64(len(spans)))
		return nil
	}
	e.spans.WithLabelValues(spansFailed).Add(float64(len(spans)))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost += len(spans)
	if e.limit.Allow() {
		e.log.Warn("spans could not be sent to the collector and are lost", zap.Int("spans", e.lost), zap.String("error", safeText(err)))
		e.lost = 0
	}
	return nil
}

// answered finds the status in the HTTP exporter's error, which has no other form.
var answered = regexp.MustCompile(`^(?:traces export: )?failed to send to \S+: (\d{3}) `)

// safeText says what is known of an error without a text of others: the whole
// may hold what the collector answered.
func safeText(err error) string {
	var (
		dnsErr  *net.DNSError
		opErr   *net.OpError
		certErr *tls.CertificateVerificationError
		netErr  net.Error
	)
	switch {
	case errors.As(err, &certErr):
		return certErr.Error()
	case errors.As(err, &dnsErr):
		return dnsErr.Error()
	case errors.As(err, &opErr):
		return opErr.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "timed out"
	case errors.Is(err, context.Canceled):
		return "given up"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the connection broke"
	}
	if match := answered.FindStringSubmatch(err.Error()); match != nil {
		return "the collector answered " + match[1]
	}
	if s, ok := status.FromError(err); ok {
		return "the collector answered " + s.Code().String()
	}
	return fmt.Sprintf("the export failed (%T)", err)
}
