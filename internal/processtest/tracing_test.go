package processtest

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox"
	"callbackd/internal/store/storetest"
	"callbackd/internal/tracing"
	"callbackd/internal/tracing/tracetest"
)

// traced are the settings of an instance that sends its spans quickly.
func traced(environ []string, endpoint string) []string {
	return append(environ, "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint, "OTEL_BSP_SCHEDULE_DELAY=200")
}

// TestOneTraceAcrossProcesses: receivers that may not read, and workers apart
// from them, put all that happens to a workflow execution into one trace, whose
// spans lead from the callback to the requests to Jumio.
func TestOneTraceAcrossProcesses(t *testing.T) {
	t.Parallel()
	owner := migrated(t)
	db := open(t, owner)
	collector := tracetest.Start(t)
	jumio := startSandbox(t, "--fast-images")
	receiver := serve(t, traced(receiving(storetest.AsMember(t, owner, "callbackd_receiver")), collector.URL))
	var workers []*instance
	for range 2 {
		workers = append(workers, serve(t, traced(append(retrieving(owner, jumio), "CALLBACKD_RECEIVE=false"), collector.URL)))
	}

	var ids []string
	for _, j := range []journeys{
		{Kind: "passed-passport", Faults: []string{"callback:duplicate:1", "details:429:1", "image:truncated:1"}},
		{Kind: "passed-passport", Faults: []string{"details:401:1", "image:404:2"}},
		{Kind: "passed-id-card", Faults: []string{"callback:duplicate:3", "details:500:2"}},
		{Kind: "passed-id-card", Faults: []string{"details:500"}}, // to the last attempt
		{Kind: "session-expired"},
		{Count: 5},
	} {
		j.CallbackURL, j.Hold = receiver.callbackURL(), true
		for _, e := range jumio.send(j) {
			ids = append(ids, e.WorkflowExecutionID)
		}
	}
	jumio.sendHeld(ids)
	awaitExpectedStates(t, db, jumio)
	succeed(t, []string{"DATABASE_URL=" + owner}, "refetch", ids[0])
	db.awaitState(ids[0], "retrieved")

	// A stranger's callback has no trace, and a stranger's trace is not ours.
	receiver.post(t, foreignAddress, "application/json", processed("forged")).wantCode(t, http.StatusForbidden)
	for _, p := range append(workers, receiver) {
		p.stop(terminate)
	}

	traces := collector.Traces()
	// As docs/tracing.md computes the ids.
	want := db.texts(`SELECT encode(substr(sha256(convert_to('callbackd:workflow_execution:' || workflow_execution_id, 'UTF8')), 1, 16), 'hex') AS trace_id
		FROM jumio.workflow_executions ORDER BY trace_id`)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(traces))); diff != "" {
		t.Errorf("traces (-want +got):\n%s", diff)
	}
	attempts := map[string]int{}
	for _, w := range workflows(db) {
		attempts[w.ID] = w.Attempts
	}
	entries := jumio.ledger().Journeys
	for _, e := range entries {
		c := traceCheck{t: t, id: e.WorkflowExecutionID, refetched: e.WorkflowExecutionID == ids[0], receiver: receiver.cmd.Process.Pid}
		if c.refetched {
			attempts[c.id] = 4 // the second retrieval counts anew: three and one
		}
		c.check(traces[tracing.TraceID(c.id).String()], e, attempts[c.id])
	}
	tokens := 0
	for _, s := range collector.Spans() {
		if s.Name == "POST token" {
			tokens++
		}
	}
	if total := responses(jumio, "token"); tokens != total {
		t.Errorf("%d spans of token requests, the sandbox counts %d", tokens, total)
	}
}

// responses is how often the sandbox has answered at an endpoint.
func responses(jumio *jumioSandbox, endpoint string) (total int) {
	for what, n := range jumio.ledger().Totals.Responses {
		if strings.HasPrefix(what, endpoint+" ") {
			total += n
		}
	}
	return total
}

// traceCheck looks at the trace of one workflow execution.
type traceCheck struct {
	t         *testing.T
	id        string
	refetched bool
	receiver  int // its process id
}

func (c traceCheck) check(spans []tracetest.Span, e sandbox.Entry, attempts int) {
	c.t.Helper()
	byID := map[string]tracetest.Span{}
	for _, s := range spans {
		if _, twice := byID[s.SpanID]; twice {
			c.t.Errorf("%s: the span id %s is there twice", c.id, s.SpanID)
		}
		byID[s.SpanID] = s
	}
	count, promoted := map[string]int{}, 0
	for _, s := range spans {
		count[s.Name]++
		parent := byID[s.Parent]
		received := s.Resource["process.pid"] == strconv.Itoa(c.receiver)
		ok := false
		switch {
		case s.Name == "receive":
			ok = s.Parent == "" && received
		case s.Name == "promote":
			ok = parent.Name == "receive" && !received
			n, err := strconv.Atoi(s.Attributes["callbackd.callbacks"])
			if err != nil || len(s.Links) != n-1 {
				c.t.Errorf("%s: %d links, callbacks %v", c.id, len(s.Links), err)
			}
			for _, link := range s.Links {
				traceID, span, _ := strings.Cut(link, "-")
				if traceID != s.TraceID || byID[span].Name != "receive" {
					c.t.Errorf("%s: a link leads to %s", c.id, link)
				}
			}
			promoted += n
		case s.Name == "retrieve" && s.Attributes["callbackd.refetch"] == "true":
			ok = s.Parent == "" && c.refetched
		case s.Name == "retrieve":
			ok = parent.Name == "promote" && parent.Attributes["callbackd.decided"] == "true" && parent.Attributes["callbackd.retrieval_state"] == "pending"
		case s.Kind == "CLIENT":
			ok = parent.Name == "retrieve" && parent.Resource["process.pid"] == s.Resource["process.pid"]
		}
		if !ok {
			c.t.Errorf("%s: %s of process %s (receiver %d) is below %q", c.id, s.Name, s.Resource["process.pid"], c.receiver, parent.Name)
		}
		if id := s.Attributes["callbackd.workflow_execution_id"]; s.Kind != "CLIENT" && id != c.id {
			c.t.Errorf("%s: a span of %s", c.id, id)
		}
		if s.Resource["service.name"] != "callbackd" || s.End.Before(s.Start) {
			c.t.Errorf("%s: %s of service %q from %s to %s", c.id, s.Name, s.Resource["service.name"], s.Start, s.End)
		}
	}
	images := 0
	for _, i := range e.Images {
		images += i.Requests
	}
	want := map[string]int{
		"receive": e.CallbacksAcknowledged, "retrieve": attempts, "GET status": e.StatusRequests.Requests,
		"GET details": e.DetailsRequests.Requests, "GET image": images,
	}
	got := map[string]int{}
	for name := range want {
		got[name] = count[name]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		c.t.Errorf("%s %s, faults %q: spans (-want +got):\n%s", e.Kind, c.id, e.Faults, diff)
	}
	if promoted != e.CallbacksAcknowledged {
		c.t.Errorf("%s: %d callbacks in promotions, want %d", c.id, promoted, e.CallbacksAcknowledged)
	}
}

// TestTraceThroughTheSpool: a callback that had to wait for Postgres is in the
// same trace as its retrieval.
func TestTraceThroughTheSpool(t *testing.T) {
	t.Parallel()
	postgres := newOutage(t)
	succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
	collector := tracetest.Start(t)
	jumio := startSandbox(t, "--fast-images")
	receiver := serve(t, traced(spooling(postgres.dsn, filepath.Join(t.TempDir(), "spool")), collector.URL))
	worker := serve(t, traced(append(retrieving(postgres.dsn, jumio), "CALLBACKD_RECEIVE=false"), collector.URL))
	postgres.begin()
	e := jumio.send(journeys{Kind: "passed-passport", CallbackURL: receiver.callbackURL(), Hold: true})[0]
	jumio.sendHeld([]string{e.WorkflowExecutionID})
	postgres.end()
	open(t, postgres.dsn).awaitState(e.WorkflowExecutionID, "retrieved")
	receiver.stop(terminate)
	worker.stop(terminate)

	id := e.WorkflowExecutionID
	spans := collector.Traces()[tracing.TraceID(id).String()]
	var outcomes []string
	for _, s := range spans {
		if s.Name == "receive" {
			outcomes = append(outcomes, s.Attributes["callbackd.outcome"])
		}
	}
	if !slices.Equal(outcomes, []string{"spooled"}) {
		t.Errorf("outcomes %q, want one that is spooled", outcomes)
	}
	traceCheck{t: t, id: id, receiver: receiver.cmd.Process.Pid}.check(spans, jumio.entry(id), 1)
}

// TestCollectorAway: a collector that is down, or never answers, costs no callback,
// and delays a stop very little.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	dsn := migrated(t)
	for name, environ := range map[string][]string{
		"silent": {"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + silent.Addr().String()},
		"nobody": {"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + closed.Addr().String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A queue that fills up quickly.
			s := serve(t, append(receiving(dsn), append(environ, "OTEL_BSP_MAX_QUEUE_SIZE=4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=2", "OTEL_BSP_SCHEDULE_DELAY=50")...))
			for n := range 50 {
				s.post(t, jumioAddress, "application/json", processed(fmt.Sprintf("%d-%s", n, name))).wantCode(t, http.StatusOK)
			}
			begun := time.Now()
			s.stop(terminate)
			if took := time.Since(begun); took > shutdownTimeout+patience/2 {
				t.Errorf("the stop took %s", took)
			}
			if log := s.stderr.String(); !strings.Contains(log, "spans could not be sent") {
				t.Errorf("the log does not tell of it: %s", tail(log))
			}
		})
	}
}

// TestNoTracing: without an endpoint, or with the SDK disabled, nothing is sent and
// no trace of it appears.
func TestNoTracing(t *testing.T) {
	t.Parallel()
	collector := tracetest.Start(t)
	dsn := migrated(t)
	for name, environ := range map[string][]string{
		"default":     nil,
		"no endpoint": {"OTEL_SERVICE_NAME=x", "OTEL_TRACES_SAMPLER=always_on", "OTEL_TRACES_EXPORTER=otlp"},
		"disabled":    {"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_SDK_DISABLED=true"},
		"no exporter": {"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_TRACES_EXPORTER=none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, append(receiving(dsn), environ...))
			s.post(t, jumioAddress, "application/json", processed(strings.ReplaceAll(name, " ", "-"))).wantCode(t, http.StatusOK)
			if strings.Contains(s.metricsText(t), "callbackd_trace") {
				t.Error("there is a metric of it")
			}
			s.stop(terminate)
			if log := s.stderr.String(); strings.Contains(log, "trac") || strings.Contains(log, "span") {
				t.Errorf("the log tells of it: %s", tail(log))
			}
		})
	}
	t.Cleanup(func() {
		if n, _ := collector.Requests(); n > 0 {
			t.Errorf("%d exports", n)
		}
	})
}
