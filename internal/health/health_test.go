package health

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"callbackd/internal/jumio"
)

// newMonitor returns a monitor of a Jumio that answers what body holds; "" is a 500.
func newMonitor(t *testing.T, body *atomic.Value, resumed func(string), options ...zaptest.LoggerOption) *Monitor {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" || r.Header.Get("Authorization") != "" || r.Header.Get("User-Agent") != "Test Worker/v1" {
			t.Errorf("asked %s with %v", r.URL, r.Header)
		}
		if body.Load() == "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write([]byte(body.Load().(string)))
	}))
	t.Cleanup(server.Close)
	origin, _ := url.Parse(server.URL)
	client, err := jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: "c", ClientSecret: "s"}, UserAgent: "Test Worker/v1", StatusURL: origin,
		Budget: jumio.NewLocalBudget(1), MaxImageBytes: 1, ProgressTimeout: 10 * time.Second,
	}, zaptest.NewLogger(t), jumio.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return New(Options{
		Jumio: client, DataCenters: []string{"emea-1"}, Interval: time.Hour, Resumed: resumed, Log: zaptest.NewLogger(t, options...), Registerer: prometheus.NewRegistry(),
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var body atomic.Value
	resumed := 0
	m := newMonitor(t, &body, func(string) { resumed++ })
	for _, step := range []struct {
		body          string
		holds         bool
		callbacksDown bool
		resumed       int
		samples       string // of retrieval, callback and all; - is none
		summary       string
	}{
		{`{"status":"UP"}`, false, false, 0, "1 1 1", "Jumio in emea-1: UP"},
		{`{"status":"DOWN","details":{"retrieval":"DOWN","callback":"DOWN","api":"DOWN"}}`, true, true, 0, "0 0 0", "Jumio in emea-1: DOWN (api DOWN, callback DOWN, retrieval DOWN)"},
		{`{"status":"DOWN","details":{"retrieval":"DOWN"}}`, true, false, 0, "0 - 0", "Jumio in emea-1: DOWN (retrieval DOWN)"},
		{`{"status":"DEGRADED","details":{"mobile":"DEGRADED","callback":"DEGRADED"}}`, false, true, 1, "- 0.5 0.5", "Jumio in emea-1: DEGRADED (callback DEGRADED, mobile DEGRADED)"},
		{`{"status":"DOWN"}`, false, false, 1, "- - 0", "Jumio in emea-1: DOWN"},
		{`{"status":"UP","details":{"retrieval":"DOWN"}}`, true, false, 1, "0 1 1", "Jumio in emea-1: UP (retrieval DOWN)"},
		{"", false, false, 2, "- - -", "Jumio in emea-1: unknown"},
		{`{"status":"NEW","details":{"retrieval":7,"unknown":"DOWN"}}`, false, false, 2, "- - -", "Jumio in emea-1: unknown"},
	} {
		body.Store(step.body)
		m.ask(t.Context(), "emea-1")
		var samples []string
		for _, service := range []string{"retrieval", "callback", "all"} {
			samples = append(samples, sample(m, service))
		}
		got := []any{m.Holds("emea-1"), slices.Contains(m.CallbacksDown(), "emea-1"), resumed, strings.Join(samples, " "), strings.Join(m.Summary(), "\n")}
		if d := cmp.Diff([]any{step.holds, step.callbacksDown, step.resumed, step.samples, step.summary}, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.body, d)
		}
	}
	if m.Holds("amer-1") {
		t.Error("a data center that was not asked is held")
	}
}

// sample is the gauge's value, or - without one.
func sample(m *Monitor, service string) string {
	before := testutil.CollectAndCount(m.gauge)
	g := m.gauge.WithLabelValues("emea-1", service)
	if testutil.CollectAndCount(m.gauge) > before { // it was made just now
		m.gauge.DeleteLabelValues("emea-1", service)
		return "-"
	}
	return map[float64]string{0: "0", 0.5: "0.5", 1: "1"}[testutil.ToFloat64(g)]
}

// TestHoldEnds: with the first question that fails, whatever the failure.
func TestHoldEnds(t *testing.T) {
	t.Parallel()
	for _, failure := range []string{"", "no JSON", `[]`} {
		var body atomic.Value
		resumed := 0
		m := newMonitor(t, &body, func(string) { resumed++ })
		body.Store(`{"status":"DOWN","details":{"retrieval":"DOWN"}}`)
		m.ask(t.Context(), "emea-1")
		if !m.Holds("emea-1") {
			t.Errorf("%q: nothing is held", failure)
		}
		body.Store(failure)
		m.ask(t.Context(), "emea-1")
		if m.Holds("emea-1") || resumed != 1 {
			t.Errorf("%q: held %t, resumed %d times", failure, m.Holds("emea-1"), resumed)
		}
	}
}

// TestChangesAreLogged: once each, and not that all is well at the start.
func TestChangesAreLogged(t *testing.T) {
	t.Parallel()
	var body atomic.Value
	var logged []string
	m := newMonitor(t, &body, func(string) {}, zaptest.WrapOptions(zap.Hooks(func(e zapcore.Entry) error {
		if e.Level == zap.WarnLevel {
			logged = append(logged, body.Load().(string))
		}
		return nil
	})))
	const up, down = `{"status":"UP"}`, `{"status":"DOWN"}`
	for _, now := range []string{up, up, down, down, "", "", up} {
		body.Store(now)
		m.ask(t.Context(), "emea-1")
	}
	if d := cmp.Diff([]string{down, "", up}, logged); d != "" {
		t.Error(d)
	}
}

func TestMonitorAsksAtOnce(t *testing.T) {
	t.Parallel()
	var body atomic.Value
	body.Store(`{"status":"DOWN"}`)
	asked := make(chan struct{}, 1)
	m := newMonitor(t, &body, func(string) {}, zaptest.WrapOptions(zap.Hooks(func(e zapcore.Entry) error {
		if e.Level == zap.WarnLevel { // it has changed
			asked <- struct{}{}
		}
		return nil
	})))
	m.Start(t.Context())
	<-asked
	m.Stop()
	if got := m.Summary(); !slices.Equal(got, []string{"Jumio in emea-1: DOWN"}) {
		t.Errorf("got %q", got)
	}
}

// TestNeverAsks: with an interval of 0.
func TestNeverAsks(t *testing.T) {
	t.Parallel()
	var body atomic.Value
	m := newMonitor(t, &body, func(string) {})
	m.Interval = 0
	m.Start(t.Context())
	m.Stop()
	if got := m.Summary(); len(got) > 0 || m.Holds("emea-1") {
		t.Errorf("got %q", got)
	}
}
