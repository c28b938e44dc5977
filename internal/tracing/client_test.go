package tracing

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/tracing/tracetest"
)

// export sends one span, and returns what the log says of it.
func export(t *testing.T, o Options) []observer.LoggedEntry {
	t.Helper()
	core, logged := observer.New(zap.DebugLevel)
	o.Log = zap.New(core)
	tracer := newTracer(t, o)
	_, span := tracer.StartRoot(t.Context(), "w", "x")
	span.End()
	flush(t, tracer)
	return logged.All()
}

// TestRepeatedExport: a collector that is busy gets the batch again (OTLP
// specification, "Retryable Response Codes").
func TestRepeatedExport(t *testing.T) {
	collector := tracetest.Start(t)
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		collector.ServeHTTP(w, r)
	}))
	defer server.Close()
	if lines := export(t, options(server.URL)); len(lines) > 0 || asked != 2 || len(collector.Spans()) != 1 {
		t.Errorf("asked %d times, %d spans, log %v", asked, len(collector.Spans()), lines)
	}
}

// TestRetryAfter beyond the time-out is not waited for.
func TestRetryAfter(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer server.Close()
	o := options(server.URL)
	o.Timeout = 2 * time.Second
	if lines := export(t, o); asked != 1 || len(lines) != 1 || lines[0].ContextMap()["error"] != "the collector answered 429" {
		t.Errorf("asked %d times, log %v", asked, lines)
	}
}

func TestPartialSuccess(t *testing.T) {
	collector := tracetest.Start(t)
	collector.Reject(http.StatusOK, "\x0a\x0a\x08\x03\x12\x06SECRET") // 3 spans rejected, with a text
	lines := export(t, options(collector.URL))
	if len(lines) != 1 || lines[0].ContextMap()["error"] != "the collector rejected 3 spans" {
		t.Errorf("log %v", lines)
	}
}

func TestGzip(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	collector := tracetest.Start(t)
	lines := export(t, options(collector.URL))
	if _, last := collector.Requests(); len(lines) > 0 || last.Header.Get("Content-Encoding") != "gzip" || len(collector.Spans()) != 1 {
		t.Errorf("%d spans, header %v, log %v", len(collector.Spans()), last.Header, lines)
	}
}

func TestCertificate(t *testing.T) {
	collector := tracetest.Start(t)
	server := httptest.NewTLSServer(collector)
	defer server.Close()
	server.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	if lines := export(t, options(server.URL)); len(lines) != 1 || len(collector.Spans()) != 0 {
		t.Errorf("an unknown certificate: %d spans, log %v", len(collector.Spans()), lines)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", file) // goes first
	if lines := export(t, options(server.URL)); len(lines) > 0 || len(collector.Spans()) != 1 {
		t.Errorf("a known certificate: %d spans, log %v", len(collector.Spans()), lines)
	}
}

// TestWrongVariables stop the start, with the variable's name.
func TestWrongVariables(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_COMPRESSION":               "zstd",
		"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE":        "/dev/null",
		"OTEL_EXPORTER_OTLP_CERTIFICATE":               "/nonexistent",
		"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE": "/nonexistent",
		"OTEL_EXPORTER_OTLP_CLIENT_KEY":                "/nonexistent",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if _, err := New(t.Context(), options("http://127.0.0.1:1")); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestRedirect: the headers, which are secrets, do not follow.
func TestRedirect(t *testing.T) {
	collector := tracetest.Start(t)
	server := httptest.NewServer(http.RedirectHandler(collector.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	lines := export(t, options(server.URL))
	if asked, _ := collector.Requests(); asked > 0 || len(lines) != 1 || lines[0].ContextMap()["error"] != "the collector answered 307" {
		t.Errorf("followed %d times, log %v", asked, lines)
	}
}
