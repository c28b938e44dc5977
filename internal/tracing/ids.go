package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// traceDomain is hashed before a workflow execution's id, so that no other
// program's SHA-256 of the same id is the same trace.
const traceDomain = "callbackd:workflow_execution:"

// TraceID is the id of a workflow execution's trace: the first 16 bytes of the
// SHA-256 of "callbackd:workflow_execution:" and its id. Whoever knows the one
// can compute the other, so what happens to a workflow execution is one trace
// although the receiver may not look at what came before.
func TraceID(workflowExecutionID string) trace.TraceID {
	sum := sha256.Sum256([]byte(traceDomain + workflowExecutionID))
	id := trace.TraceID(sum[:16])
	if !id.IsValid() {
		id[15] = 1 // all zeros means none (W3C Trace Context, section 3.2.2.3)
	}
	return id
}

// spanID is the id of a received callback's span: the last 8 bytes of the
// callback's id, a UUIDv7, of which 62 bits are random and the first one is set.
func spanID(callbackID uuid.UUID) trace.SpanID { return trace.SpanID(callbackID[8:]) }

// rootIDs are the ids of a span without a parent; a zero span is drawn.
type rootIDs struct {
	trace trace.TraceID
	span  trace.SpanID
}

type rootIDsKey struct{}

// idGenerator gives a root span the ids that its context holds, and every
// other span a random one.
type idGenerator struct{}

// NewIDs implements sdktrace.IDGenerator; it is asked for spans without a parent.
func (g idGenerator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	ids, _ := ctx.Value(rootIDsKey{}).(rootIDs)
	for !ids.trace.IsValid() {
		binary.NativeEndian.PutUint64(ids.trace[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(ids.trace[8:], rand.Uint64())
	}
	if !ids.span.IsValid() {
		ids.span = g.NewSpanID(ctx, ids.trace)
	}
	return ids.trace, ids.span
}

// NewSpanID implements sdktrace.IDGenerator.
func (idGenerator) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}
