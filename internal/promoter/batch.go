package promoter

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/callback"
	"callbackd/internal/store/results"
	"callbackd/internal/tracing"
	"callbackd/internal/workflow"
)

// batch holds the callbacks of one promotion and their effects.
type batch struct {
	now          time.Time
	referenceKey string // of signed user references
	deliveries   []workflow.Delivery
	dropped      []uuid.UUID // callbacks of what is erased
	// The workflow executions of the deliveries, by id: those that existed, and the
	// new ones.
	known, made map[string]*workflow.Execution
	begun       []*workflow.Execution // a retrieval of each has begun
	heard       []results.Heard       // of those that were expected, or overdue
	events      []workflow.Event

	futureDated   int
	contradicting []*workflow.Delivery
	traced        *tracedBatch // nil without tracing
}

func newBatch(tracer *tracing.Tracer, referenceKey string, now time.Time) *batch {
	return &batch{now: now, referenceKey: referenceKey, made: make(map[string]*workflow.Execution), traced: newTracedBatch(tracer, now)}
}

// ids returns the ids of the deliveries' workflow executions.
func (b *batch) ids() []string {
	ids := make([]string, len(b.deliveries))
	for i := range b.deliveries {
		ids[i] = b.deliveries[i].WorkflowExecutionID
	}
	return ids
}

// dropErased drops the deliveries of workflow executions whose rows say that they are
// erased.
func (b *batch) dropErased() {
	b.deliveries = slices.DeleteFunc(b.deliveries, func(d workflow.Delivery) bool {
		e := b.known[d.WorkflowExecutionID]
		erased := e != nil && !e.ErasedAt.IsZero()
		if erased {
			b.dropped = append(b.dropped, d.ID)
		}
		return erased
	})
	maps.DeleteFunc(b.known, func(_ string, e *workflow.Execution) bool { return !e.ErasedAt.IsZero() })
}

// mentions returns what deliveries have named although, as it turned out, it is not the
// workflow execution's: the account, the user reference, and the ids in hrefs.
func (b *batch) mentions() []results.Mention {
	var list []results.Mention
	for i := range b.deliveries {
		d := &b.deliveries[i]
		e := cmp.Or(b.known[d.WorkflowExecutionID], b.made[d.WorkflowExecutionID])
		for _, name := range named(d) {
			if !slices.Contains([]string{"", e.ID, e.AccountID, e.UserReference}, name) {
				list = append(list, results.Mention{Subject: name, WorkflowExecutionID: e.ID})
			}
		}
	}
	return list
}

func named(d *workflow.Delivery) []string {
	names := []string{d.AccountID, d.UserReference}
	for _, href := range []string{d.WorkflowHref, d.AccountHref} {
		account, execution := callback.IDsOfHref(href)
		names = append(names, account, execution)
	}
	return names
}

// apply applies the deliveries to the workflow executions.
func (b *batch) apply() {
	begun := make(map[*workflow.Execution]bool)
	for i := range b.deliveries {
		d := &b.deliveries[i]
		e := cmp.Or(b.known[d.WorkflowExecutionID], b.made[d.WorkflowExecutionID])
		if e == nil {
			e = &workflow.Execution{ID: d.WorkflowExecutionID, RetrievalState: workflow.Awaiting}
			b.made[e.ID] = e
		}
		begins := b.applyOne(e, d)
		if begins && !begun[e] {
			begun[e] = true
			b.begun = append(b.begun, e)
		}
		b.traced.follow(e, d, begins)
	}
}

// applyOne reports whether the delivery begins a retrieval.
func (b *batch) applyOne(e *workflow.Execution, d *workflow.Delivery) (begins bool) {
	generation, missed := e.RetrievalGeneration, !e.ExpectedAt.IsZero() || !e.OverdueAt.IsZero()
	c := workflow.Promote(e, d, b.now)
	if missed {
		b.heard = append(b.heard, results.Heard{WorkflowExecutionID: e.ID, LastCallbackAt: e.LastCallbackAt, Final: c.Final})
	}
	e.UserReferenceUnsigned = callback.UnsignedReference(b.referenceKey, e.UserReference)
	b.events = append(b.events, e.Event(workflow.EventCallbackReceived))
	if c.Expired {
		b.events = append(b.events, e.Event(workflow.EventExpired))
	}
	if c.FutureDated {
		b.futureDated++
	}
	if c.Contradicts {
		b.contradicting = append(b.contradicting, d)
	}
	return e.RetrievalGeneration != generation
}

// accounts returns the accounts of the retrievals that have begun.
func (b *batch) accounts() []string {
	var ids []string
	for _, e := range b.begun {
		if e.AccountID != "" {
			ids = append(ids, e.AccountID)
		}
	}
	return ids
}

// retrievals returns the retrievals that have begun; Known tells those of a known
// account.
func (b *batch) retrievals(known map[string]bool) []workflow.Retrieval {
	list := make([]workflow.Retrieval, len(b.begun))
	for i, e := range b.begun {
		list[i] = e.Retrieval()
		list[i].Known = known[e.AccountID]
	}
	return list
}
