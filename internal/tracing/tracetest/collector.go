// Package tracetest is an OpenTelemetry collector for tests: a server of OTLP
// over HTTP that keeps what it is sent, decoded and as it came.
// It judges nothing.
package tracetest

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is one span as it was exported.
type Span struct {
	Name string
	// TraceID, SpanID and Parent are in hexadecimal; Parent is "" for a root.
	TraceID, SpanID, Parent string
	// Kind is SERVER, CLIENT, CONSUMER, INTERNAL and so on.
	Kind string
	// Status is UNSET, OK or ERROR; Message its description.
	Status, Message string
	// Attributes and Resource have values of all types as text.
	Attributes, Resource map[string]string
	// Links are the linked spans' "trace id-span id", in order.
	Links      []string
	Events     int
	Start, End time.Time
}

// Collector is a running collector.
type Collector struct {
	// URL is that of the HTTP listener, without a path.
	URL string

	mu     sync.Mutex
	spans  []Span
	raw    []byte
	count  int           // of requests
	last   *http.Request // its body is closed
	status int           // of the answers; 0 for 200
	answer string
}

// Start starts a collector of OTLP over HTTP that lives as long as the test.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.URL = s.URL
	return c
}

// Reject makes the collector answer with a status and a text, and keep
// nothing. With http.StatusOK it takes spans again, and the text answers them.
func (c *Collector) Reject(status int, answer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.answer = status, answer
}

// ServeHTTP takes an export in protobuf (OTLP, "OTLP/HTTP").
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var unzipped *gzip.Reader
		if unzipped, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(unzipped)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count, c.last = c.count+1, r
	if c.status != 0 && c.status != http.StatusOK {
		w.WriteHeader(c.status)
		_, _ = io.WriteString(w, c.answer)
		return
	}
	var export tracepb.TracesData // an ExportTraceServiceRequest on the wire
	if err == nil {
		err = proto.Unmarshal(body, &export)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, fmt.Sprint("no export in protobuf: ", err), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = io.WriteString(w, c.answer)
	c.raw = append(c.raw, body...)
	for _, resource := range export.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, decode(s, texts(resource.GetResource().GetAttributes())))
			}
		}
	}
}

func decode(s *tracepb.Span, resource map[string]string) Span {
	out := Span{
		Name: s.GetName(), TraceID: hex.EncodeToString(s.GetTraceId()), SpanID: hex.EncodeToString(s.GetSpanId()),
		Parent: hex.EncodeToString(s.GetParentSpanId()), Kind: strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_"),
		Status: strings.TrimPrefix(s.GetStatus().GetCode().String(), "STATUS_CODE_"), Message: s.GetStatus().GetMessage(),
		Attributes: texts(s.GetAttributes()), Resource: resource, Events: len(s.GetEvents()),
		Start: time.Unix(0, int64(s.GetStartTimeUnixNano())), End: time.Unix(0, int64(s.GetEndTimeUnixNano())), //nolint:gosec // until 2262
	}
	for _, link := range s.GetLinks() {
		out.Links = append(out.Links, hex.EncodeToString(link.GetTraceId())+"-"+hex.EncodeToString(link.GetSpanId()))
	}
	return out
}

func texts(attributes []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range attributes {
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			out[a.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[a.GetKey()] = fmt.Sprint(v.IntValue)
		case *commonpb.AnyValue_BoolValue:
			out[a.GetKey()] = fmt.Sprint(v.BoolValue)
		default:
			out[a.GetKey()] = a.GetValue().String()
		}
	}
	return out
}

// Spans are those received so far, by their start.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := slices.Clone(c.spans)
	slices.SortStableFunc(spans, func(a, b Span) int { return a.Start.Compare(b.Start) })
	return spans
}

// Traces are the spans by trace id.
func (c *Collector) Traces() map[string][]Span {
	traces := map[string][]Span{}
	for _, s := range c.Spans() {
		traces[s.TraceID] = append(traces[s.TraceID], s)
	}
	return traces
}

// Raw is every byte of the exports, without their headers.
func (c *Collector) Raw() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.raw)
}

// Requests counts the exports and returns the last one, nil before the first. Its
// body has been read.
func (c *Collector) Requests() (count int, last *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count, c.last
}
