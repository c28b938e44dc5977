package tracing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Exporter says where the spans go.
type Exporter struct {
	// Endpoint is a complete URL.
	Endpoint string
	// Headers go with each export. Secrets.
	Headers map[string]string
	// Timeout bounds one export, with its repetitions.
	Timeout time.Duration
}

const (
	// failureLines is how often a failing export is logged.
	failureLines = time.Minute
	// The outcomes of callbackd_trace_spans_total.
	spansExported = "exported"
	spansFailed   = "failed"
)

// exporter counts the spans that the one below it sends or fails to send, and
// logs the failures.
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

// ExportSpans implements sdktrace.SpanExporter. It returns no error: the SDK would
// log each one, with all that the collector said.
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

// safeText says what went wrong in our own words, because the error's text may
// hold what the collector answered.
func safeText(err error) string {
	var (
		answered collectorError
		dnsErr   *net.DNSError
		opErr    *net.OpError
		certErr  *tls.CertificateVerificationError
		netErr   net.Error
	)
	switch {
	case errors.As(err, &answered):
		return answered.Error()
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
	return fmt.Sprintf("the export failed (%T)", err)
}
