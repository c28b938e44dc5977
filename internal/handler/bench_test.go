package handler

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"callbackd/internal/callback"
	"callbackd/internal/tracing"
)

// nopStore claims that everything is durable at once.
type nopStore struct{}

func (nopStore) InsertCallback(context.Context, *callback.Callback) (bool, error) { return false, nil }
func (nopStore) InsertRejected(context.Context, *callback.Rejected) error         { return nil }
func (nopStore) Ready(context.Context) (string, error)                            { return "", nil }

// BenchmarkCallback is the handler alone, without sockets, without tracing and
// with it.
func BenchmarkCallback(b *testing.B) {
	b.Run("untraced", func(b *testing.B) { benchmarkCallback(b, nil) })
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	for name, sampler := range map[string]string{"sampled": "always_on", "not sampled": "always_off"} {
		b.Run(name, func(b *testing.B) {
			tracer := newTracer(b, collector.URL, sampler)
			defer func() { _ = tracer.Shutdown(context.Background()) }()
			benchmarkCallback(b, tracer)
		})
	}
}

func benchmarkCallback(b *testing.B, tracer *tracing.Tracer) {
	registry := prometheus.NewRegistry()
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	h, err := New(Options{
		CallbackPath: callbackPath, MaxBodyBytes: 1 << 20,
		Check:   func(*http.Request) (netip.Addr, string) { return allowedAddr, "" },
		Store:   nopStore{},
		Logger:  zap.New(zapcore.NewCore(encoder, zapcore.AddSync(io.Discard), zap.InfoLevel)),
		Metrics: NewMetrics(registry), Gatherer: registry, Tracer: tracer,
	})
	if err != nil {
		b.Fatal(err)
	}
	listener := h.Callback()
	body := []byte(guideExample)
	b.ReportAllocs()
	for b.Loop() {
		req := httptest.NewRequest(http.MethodPost, callbackPath, bytes.NewReader(body))
		rec := httptest.NewRecorder()
		listener.ServeHTTP(rec, req)
		if rec.Code != http.StatusOK {
			b.Fatal(rec.Code)
		}
	}
}
