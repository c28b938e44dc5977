package fetcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/jumio"
	"callbackd/internal/store"
)

// The codes of retrieval_error that are not internal/jumio's own.
const (
	codeNotFinal      = "not_final"      // the details say that the workflow is not done yet
	codeUnknownStatus = "unknown_status" // Get Status names a status that is not known either
	codePartAddress   = "part_address"   // a part that no address can be built for
	codeInterrupted   = "interrupted"    // the last attempt was cut off with its worker
	codeInternal      = "internal"       // a fault of callbackd's own
)

// attempt is one try at a retrieval: what it got and what failed first.
type attempt struct {
	worker *worker
	lease  *store.Lease
	claim  *store.Claim
	args   retrievalArgs
	last   bool // none follows

	at      jumio.Workflow // where the workflow execution was found
	status  string         // as Jumio says it
	details []byte         // fetched in this attempt
	parsed  *jumio.Details
	images  int // fetched in this attempt
	gotOn   bool

	code       string // of what failed first; "" if nothing did
	reason     string // the same as retrieval_error shows it
	retryAfter time.Duration
	// broken is a fault on our side, which must not count as an attempt.
	broken error

	// What the span says at its end: what became of it, a code, and the state
	// that was stored, if any.
	end   string
	state store.RetrievalState
}

// fail notes a failure; the first one is the attempt's reason.
func (a *attempt) fail(code, detail string) {
	if a.code == "" {
		a.code, a.reason = code, code+": "+detail
	}
}

// failRequest notes a failed request to Jumio and tells whether the attempt may
// go on with other parts.
func (a *attempt) failRequest(err error) (goOn bool) {
	var e *jumio.Error
	if !errors.As(err, &e) {
		a.fail(codeInternal, "unexpected error of the client")
		return false
	}
	if a.code == "" {
		a.code, a.reason = e.Code, e.Error()
	}
	a.retryAfter = max(a.retryAfter, e.RetryAfter)
	return e.Verdict == jumio.SkipPart
}

// run makes the requests that are still missing: status if it is not known,
// details once, every image once.
func (a *attempt) run(ctx context.Context) {
	if a.asksStatus() && !a.askStatus(ctx) {
		return
	}
	if !a.getDetails(ctx) {
		return
	}
	for i := range a.parsed.Parts {
		// Each attempt begins with another part, so that one which ends every
		// attempt does not keep those behind it from being asked for.
		part := a.parsed.Parts[(i+a.lease.Attempt-1)%len(a.parsed.Parts)]
		key := store.PartKey{CredentialID: part.CredentialID, Classifier: part.Classifier}
		if a.claim.Parts[key] {
			continue
		}
		img, err := a.worker.jumio.Image(ctx, a.at.DataCenter, part)
		if err != nil {
			if a.failRequest(err) {
				continue
			}
			return
		}
		err = a.worker.store.StageImage(ctx, a.lease, key, &store.Image{
			AccountID: part.AccountID, Category: part.Category, ContentType: img.ContentType,
			SHA256: img.SHA256, Width: img.Width, Height: img.Height, Data: img.Data,
		})
		if err != nil {
			a.broken = err
			return
		}
		a.images++
		a.gotOn = true
	}
}

// asksStatus tells whether callbacks leave open what has become of the workflow
// execution.
func (a *attempt) asksStatus() bool {
	if a.claim.Details != nil || a.args.Refetch {
		return false
	}
	return a.claim.AsksStatus || a.claim.Status != jumio.StatusProcessed
}

// askStatus asks for the status and tells whether there are details to get.
func (a *attempt) askStatus(ctx context.Context) bool {
	var result *jumio.StatusResult
	err := a.locate(ctx, func(w jumio.Workflow) (err error) {
		result, err = a.worker.jumio.Status(ctx, w)
		return err
	})
	if err != nil {
		a.failRequest(err)
		return false
	}
	if _, known := jumio.FinalStatus(result.Status); !known {
		a.fail(codeUnknownStatus, "Get Status does not say whether the workflow is done")
		return false
	}
	a.status = result.Status
	return a.status == jumio.StatusProcessed
}

// getDetails has the details parsed, from this retrieval's earlier attempt or
// from Jumio, and tells whether they are final.
func (a *attempt) getDetails(ctx context.Context) bool {
	if a.claim.Details != nil {
		return a.readDetails()
	}
	var body []byte
	var parsed *jumio.Details
	err := a.locate(ctx, func(w jumio.Workflow) (err error) {
		if body, err = a.worker.jumio.Details(ctx, w); err == nil {
			parsed, err = a.worker.jumio.ParseDetails(body, w)
		}
		return err
	})
	if err != nil {
		a.failRequest(err)
		return false
	}
	final, known := jumio.FinalStatus(parsed.Status)
	switch {
	case known && !final && !a.args.Refetch:
		a.fail(codeNotFinal, "the details' status is "+parsed.Status)
		return false
	case known && !final, known && parsed.Status != jumio.StatusProcessed && !a.args.Refetch:
		// The person is still at it, or the workflow has expired. An operator who
		// asks for an expired one gets what there is.
		a.status = parsed.Status
		return false
	case known:
		// A status that is missing or not known is no reason to doubt a callback
		// that said PROCESSED.
		a.status = parsed.Status
	}
	if key := a.worker.referenceKey; key != "" {
		if err := callback.VerifyUserReference(key, parsed.UserReference); err != nil {
			a.fail(err.Error(), "the userReference of the details does not carry our signature")
			a.last = true // it will not carry it later either
			return false
		}
	}
	a.parsed, a.details = parsed, body
	a.gotOn = true
	return true
}

// readDetails parses the details that an earlier attempt has stored.
func (a *attempt) readDetails() bool {
	a.at = a.named(a.claimed())
	parsed, err := a.worker.jumio.ParseDetails(a.claim.Details, jumio.Workflow{ID: a.at.ID, DataCenter: a.at.DataCenter})
	if err != nil {
		a.failRequest(err)
		return false
	}
	a.parsed = parsed
	return true
}

// outcome is the attempt's result.
func (a *attempt) outcome() store.Outcome {
	o := store.Outcome{Details: a.details, Error: a.reason, Images: len(a.claim.Parts) + a.images}
	if a.details != nil {
		o.Identity = a.identity()
	}
	final, known := jumio.FinalStatus(a.status)
	if known {
		o.Status = a.status
	}
	switch {
	case a.code != "" && !a.last:
		o.State = store.Pending
	case a.code != "" && a.parsed == nil && a.claim.Details == nil:
		o.State = store.Failed
		o.Events = a.event(store.EventRetrievalFailed)
	case a.code != "":
		o.State = store.Partial
		o.Error += a.missing()
		o.Events = a.event(store.EventRetrieved)
	case a.parsed == nil && !final:
		o.State = store.Awaiting
	case a.parsed == nil:
		o.State = store.NotRequired
		o.Events = a.event(store.EventExpired)
	case len(a.parsed.Missing) > 0:
		o.State = store.Partial
		o.Error = codePartAddress + ": " + a.parsed.Missing[0].Reason + a.missing()
		o.Events = a.event(store.EventRetrieved)
	default:
		o.State = store.Retrieved
		o.Events = a.event(store.EventRetrieved)
	}
	return o
}

func (a *attempt) event(t store.EventType) []store.Event {
	return []store.Event{{Type: t, WorkflowExecutionID: a.lease.WorkflowExecutionID}}
}

// identity is whose the workflow execution is, by its details. What breaks the
// limits of a callback's fields counts as absent here, too.
func (a *attempt) identity() store.Identity {
	c := callback.Callback{AccountID: a.parsed.AccountID, DefinitionKey: a.parsed.DefinitionKey, UserReference: a.parsed.UserReference}
	c.Bound()
	return store.Identity{
		AccountID: c.AccountID, DefinitionKey: c.DefinitionKey, UserReference: c.UserReference, DataCenter: a.at.DataCenter,
	}
}

// contradicted tells whether callbacks have named somebody else than the details.
func (a *attempt) contradicted(i store.Identity) bool {
	differs := func(claimed, said string) bool { return claimed != "" && said != "" && claimed != said }
	return differs(a.claim.AccountID, i.AccountID) || differs(a.claim.UserReference, i.UserReference) ||
		differs(a.claim.DefinitionKey, i.DefinitionKey)
}

// retryPriority is the priority of the attempt after this one.
func (a *attempt) retryPriority(priority int) int {
	if a.gotOn || len(a.claim.Parts) > 0 || a.claim.Details != nil || priority == priorityKnown || priority == priorityContinue {
		return priorityContinue
	}
	return priorityRetry
}

// missing says how many of the parts are not in.
func (a *attempt) missing() string {
	if a.parsed == nil {
		return ""
	}
	missing := a.parsed.MissingCount() + len(a.parsed.Parts) - a.images
	for _, part := range a.parsed.Parts {
		if a.claim.Parts[store.PartKey{CredentialID: part.CredentialID, Classifier: part.Classifier}] {
			missing--
		}
	}
	return fmt.Sprintf(" (%d of %d images missing)", missing, len(a.parsed.Parts)+a.parsed.MissingCount())
}
