package jumio

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/tracing"
	"callbackd/internal/tracing/tracetest"
)

// TestRequestSpans: each request is a span below the attempt's, says how it
// fared and nothing of whom it was about; Jumio is told nothing of it.
func TestRequestSpans(t *testing.T) {
	png := drawPNG(t)
	asked := 0
	server := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Traceparent", "Tracestate", "Baggage", "B3"} {
			if r.Header.Get(name) != "" {
				t.Errorf("%s is sent", name)
			}
		}
		switch asked++; {
		case strings.HasSuffix(r.URL.Path, "/status"):
			answer(http.StatusOK, "application/json", `{"workflowExecution":{"status":"PROCESSED"}}`)(w, r)
		case strings.Contains(r.URL.Path, "/parts/"):
			answer(http.StatusOK, "image/png", string(png))(w, r)
		case asked == 2: // details, with a token that has been revoked
			w.WriteHeader(http.StatusUnauthorized)
		case asked == 3:
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			answer(http.StatusOK, "application/json", `["no object"]`)(w, r)
		}
	})
	collector := tracetest.Start(t)
	tracer, err := tracing.New(t.Context(), tracing.Options{
		Exporter: tracing.Exporter{Endpoint: collector.URL, Timeout: 10 * time.Second},
		Sampler:  "always_on", Log: zap.NewNop(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(server.URL)
	cfg.Tracer = tracer.API()
	c := newClient(t, cfg)
	defer server.Client().CloseIdleConnections()

	ctx, attempt := tracer.StartRoot(t.Context(), "w", "attempt")
	_, statusErr := c.Status(ctx, testWorkflow)
	_, limited := c.Details(ctx, testWorkflow)
	_, invalid := c.Details(ctx, testWorkflow)
	_, imageErr := c.Image(ctx, "amer-1", frontPart)
	attempt.End()
	if statusErr != nil || imageErr != nil {
		t.Fatal(statusErr, imageErr)
	}
	wantCode(t, limited, CodeRateLimited)
	wantCode(t, invalid, CodeInvalidJSON)
	if err := tracer.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}

	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	type request struct{ Name, Code, ErrorType, Resent, Status, Message string }
	var got []request
	for _, s := range collector.Spans() {
		if s.Name == "attempt" {
			continue
		}
		a := s.Attributes
		got = append(got, request{s.Name, a["http.response.status_code"], a["error.type"], a["http.request.resend_count"], s.Status, s.Message})
		if s.Parent != attempt.SpanContext().SpanID().String() || s.Kind != "CLIENT" || a["server.address"] != u.Hostname() || a["server.port"] != u.Port() {
			t.Errorf("%s: parent %s, kind %s, attributes %v", s.Name, s.Parent, s.Kind, a)
		}
		if method, endpoint, _ := strings.Cut(s.Name, " "); a["http.request.method"] != method || a["jumio.endpoint"] != endpoint {
			t.Errorf("%s: attributes %v", s.Name, a)
		}
	}
	want := []request{
		{"POST token", "200", "", "", "UNSET", ""},
		{"GET status", "200", "", "", "UNSET", ""},
		{"GET details", "401", "401", "", "ERROR", "unauthorized"},
		{"POST token", "200", "", "", "UNSET", ""},
		{"GET details", "429", "429", "1", "ERROR", "rate_limited"},
		{"GET details", "200", "invalid_json", "", "ERROR", "invalid_json"},
		{"GET image", "200", "", "", "UNSET", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for what, text := range map[string]string{
		"account": accountID, "workflow execution": workflowID, "credential": credentialID, "path": "/api/", "token": "token-1",
		"secret": testCredentials.ClientSecret, "client id": basicHeader(testCredentials)[len("Basic "):], "answer": "no object",
	} {
		if strings.Contains(collector.Raw(), text) {
			t.Errorf("the %s shows", what)
		}
	}
}

// TestUnansweredSpan has no status code.
func TestUnansweredSpan(t *testing.T) {
	collector := tracetest.Start(t)
	tracer, err := tracing.New(t.Context(), tracing.Options{
		Exporter: tracing.Exporter{Endpoint: collector.URL, Timeout: 10 * time.Second},
		Sampler:  "always_on", Log: zap.NewNop(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig("http://127.0.0.1:1")
	cfg.Basic, cfg.Tracer = true, tracer.API()
	_, err = newClient(t, cfg).Details(t.Context(), testWorkflow)
	wantCode(t, err, CodeConnectionFailed)
	if err := tracer.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	s := collector.Spans()[0]
	if code, sent := s.Attributes["http.response.status_code"]; sent || s.Message != CodeConnectionFailed || s.Attributes["error.type"] != CodeConnectionFailed {
		t.Errorf("status code %q, %q, %v", code, s.Message, s.Attributes)
	}
}
