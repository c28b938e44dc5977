package handler

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/callback"
	"callbackd/internal/store"
	"callbackd/internal/tracing"
	"callbackd/internal/tracing/tracetest"
)

func newTracer(t testing.TB, endpoint, sampler string) *tracing.Tracer {
	t.Helper()
	tracer, err := tracing.New(t.Context(), tracing.Options{
		Exporter: tracing.Exporter{Endpoint: endpoint, Timeout: 10 * time.Second},
		Sampler:  sampler, Log: zap.NewNop(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

// A callback that names a workflow execution has one span, whatever its outcome;
// other requests have none.
func TestReceiveSpan(t *testing.T) {
	const (
		id   = "marked-workflow"
		mark = "marked-reference-or-body"
	)
	body := `{"userReference":"` + mark + `","workflowExecution":{"id":"` + id + `","status":"PROCESSED"}}`
	signed, err := callback.SignUserReference("key", "x")
	if err != nil {
		t.Fatal(err)
	}
	signedBody := strings.Replace(body, mark, signed, 1)
	type want struct{ Status, Message, Code, Outcome, ErrorType string }
	for name, test := range map[string]struct {
		store *fakeStore
		addr  netip.Addr
		body  string
		want  *want
	}{
		"stored":      {&fakeStore{}, allowedAddr, signedBody, &want{"UNSET", "", "200", "stored", ""}},
		"spooled":     {&fakeStore{spooled: true}, allowedAddr, signedBody, &want{"UNSET", "", "200", "spooled", ""}},
		"unavailable": {&fakeStore{insertErr: errors.Join(store.ErrUnavailable, errors.New(mark))}, allowedAddr, signedBody, &want{"ERROR", "unavailable", "503", "unavailable", "unavailable"}},
		"unsigned":    {&fakeStore{}, allowedAddr, body, &want{"UNSET", "", "403", "forbidden", ""}},
		"malformed":   {&fakeStore{}, allowedAddr, `{"userReference":"` + mark + `"}`, nil},
		"forbidden":   {&fakeStore{}, netip.Addr{}, signedBody, nil},
	} {
		t.Run(name, func(t *testing.T) {
			collector := tracetest.Start(t)
			tracer := newTracer(t, collector.URL, "always_on")
			core, logged := observer.New(zapcore.InfoLevel)
			registry := prometheus.NewRegistry()
			h, err := New(Options{
				CallbackPath: callbackPath, MaxBodyBytes: 1 << 20, UserReferenceKey: "key", Tracer: tracer,
				Check: func(*http.Request) (netip.Addr, string) {
					if !test.addr.IsValid() {
						return netip.Addr{}, "no_address"
					}
					return test.addr, ""
				},
				Store: test.store, Logger: zap.New(core), Metrics: NewMetrics(registry), Gatherer: registry,
			})
			if err != nil {
				t.Fatal(err)
			}
			before := time.Now()
			req := httptest.NewRequest(http.MethodPost, callbackPath, strings.NewReader(test.body))
			req.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
			req.Header.Set("Tracestate", mark+"=1")
			req.Header.Set("Baggage", mark+"=1")
			rec := httptest.NewRecorder()
			h.Callback().ServeHTTP(rec, req)
			after := time.Now()
			if err := tracer.Shutdown(context.Background()); err != nil {
				t.Fatal(err)
			}

			spans := collector.Spans()
			line := logged.FilterMessage("callback").All()[0].ContextMap()
			if test.want == nil {
				if len(spans) > 0 || line["trace_id"] != nil {
					t.Fatalf("got %+v, and in the log %v", spans, line["trace_id"])
				}
				return
			}
			if len(spans) != 1 {
				t.Fatalf("%d spans", len(spans))
			}
			s := spans[0]
			requestID := rec.Header().Get("X-Request-Id")
			wantSpan := tracetest.Span{
				Name: "receive", Kind: "SERVER", TraceID: tracing.TraceID(id).String(),
				SpanID: strings.ReplaceAll(requestID[19:], "-", ""), Status: test.want.Status, Message: test.want.Message,
				Attributes: map[string]string{
					"http.request.method": "POST", "http.response.status_code": test.want.Code, "callbackd.outcome": test.want.Outcome,
					"callbackd.workflow_execution_id": id, "callbackd.callback_id": requestID,
				},
				Resource: s.Resource, Start: s.Start, End: s.End,
			}
			if test.want.ErrorType != "" {
				wantSpan.Attributes["error.type"] = test.want.ErrorType
			}
			if diff := cmp.Diff(wantSpan, s); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if s.Start.Before(before) || s.End.After(after) || s.End.Before(s.Start) {
				t.Errorf("from %s to %s, the request was from %s to %s", s.Start, s.End, before, after)
			}
			if line["trace_id"] != s.TraceID {
				t.Errorf("the log's trace_id is %v", line["trace_id"])
			}
			for what, text := range map[string]string{"reference or body": mark, "reference": signed, "path": "jumio/callback", "address": allowedAddr.String()} {
				if strings.Contains(collector.Raw(), text) {
					t.Errorf("the %s shows", what)
				}
			}
		})
	}
}
