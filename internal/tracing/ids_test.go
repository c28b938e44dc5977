package tracing

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// TestTraceID holds the ids that docs/tracing.md's command computes:
// printf 'callbackd:workflow_execution:%s' ID | sha256sum | cut -c1-32
func TestTraceID(t *testing.T) {
	for id, want := range map[string]string{
		"22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx": "b9f29bd702d388c69897434ff89911a4",
		"3c8d2e6a-5b0f-4f5e-9a61-0a5b7c1d2e3f": "a891178444805d2f5b3c08abc86da233",
		"A_-9":                                 "67e4c898aef52493e4d487c243d0a5a2",
		"":                                     "8d3cabe118dee64093659a1739ff0e9c",
	} {
		if got := TraceID(id).String(); got != want {
			t.Errorf("%q: got %s, want %s", id, got, want)
		}
	}
	documented, err := os.ReadFile("../../docs/tracing.md")
	if err != nil {
		t.Fatal(err)
	}
	if id := TraceID("22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx").String(); !strings.Contains(string(documented), "\n# "+id+"\n") {
		t.Errorf("docs/tracing.md does not say that its command prints %s", id)
	}
}

// TestSpanID: the span of a callback is the end of its X-Request-Id.
func TestSpanID(t *testing.T) {
	for id, want := range map[string]string{
		"0199a0b1-c2d3-7e4f-8a5b-6c7d8e9f0a1b": "8a5b6c7d8e9f0a1b",
		"ffffffff-ffff-7fff-bfff-ffffffffffff": "bfffffffffffffff",
		"00000000-0000-7000-8000-000000000000": "8000000000000000",
	} {
		if got := spanID(uuid.MustParse(id)).String(); got != want {
			t.Errorf("%s: got %s, want %s", id, got, want)
		}
	}
	for range 1000 {
		if id := uuid.Must(uuid.NewV7()); !spanID(id).IsValid() {
			t.Fatalf("%s gives no span id", id)
		}
	}
}

// TestIDGenerator: ids of the context hold for a root alone, and everything else
// is random and valid.
func TestIDGenerator(t *testing.T) {
	var g idGenerator
	want := rootIDs{TraceID("w"), trace.SpanID{7}}
	ctx := context.WithValue(t.Context(), rootIDsKey{}, want)
	if traceID, span := g.NewIDs(ctx); traceID != want.trace || span != want.span {
		t.Errorf("root: got %s, %s", traceID, span)
	}
	if id := g.NewSpanID(ctx, want.trace); id == want.span || !id.IsValid() {
		t.Errorf("child: got %s", id)
	}
	seenTraces, seenSpans := map[trace.TraceID]bool{}, map[trace.SpanID]bool{}
	for range 100 {
		traceID, span := g.NewIDs(t.Context())
		seenTraces[traceID], seenSpans[span] = true, true
		_, span = g.NewIDs(context.WithValue(t.Context(), rootIDsKey{}, rootIDs{trace: want.trace}))
		seenSpans[span] = true
	}
	if len(seenTraces) != 100 || len(seenSpans) != 200 || seenTraces[trace.TraceID{}] || seenSpans[trace.SpanID{}] {
		t.Errorf("%d traces and %d spans of 100 and 200", len(seenTraces), len(seenSpans))
	}
}
