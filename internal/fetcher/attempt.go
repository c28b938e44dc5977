package fetcher

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	worker  *worker
	lease   store.Lease
	claim   *store.Claim
	refetch bool

	status  string // from Get Status
	details []byte // fetched in this attempt
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
	w := a.workflow()
	if a.claim.Details == nil && !a.refetch && a.claim.Status != jumio.StatusProcessed {
		if !a.askStatus(ctx, w) {
			return
		}
	}
	if !a.getDetails(ctx, w) {
		return
	}
	if w.AccountID == "" {
		w.AccountID = a.parsed.AccountID
	}
	for i := range a.parsed.Parts {
		// Each attempt begins with another part, so that one which ends every
		// attempt does not keep those behind it from being asked for.
		part := a.parsed.Parts[(i+a.lease.Attempt-1)%len(a.parsed.Parts)]
		key := store.PartKey{CredentialID: part.CredentialID, Classifier: part.Classifier}
		if a.claim.Parts[key] {
			continue
		}
		img, err := a.worker.jumio.Image(ctx, w.DataCenter, part)
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

// workflow names the workflow execution from what the callbacks said. Of their
// hrefs, only what they name is used, and only if they are trusted.
func (a *attempt) workflow() jumio.Workflow {
	w := jumio.Workflow{ID: a.lease.WorkflowExecutionID, AccountID: a.claim.AccountID}
	if href, err := a.worker.jumio.ParseWorkflowHref(a.claim.WorkflowHref); err == nil {
		w.DataCenter = href.DataCenter
		if w.AccountID == "" {
			w.AccountID = href.AccountID
		}
	}
	if dataCenter, accountID, err := a.worker.jumio.ParseAccountHref(a.claim.AccountHref); err == nil {
		if w.DataCenter == "" {
			w.DataCenter = dataCenter
		}
		if w.AccountID == "" {
			w.AccountID = accountID
		}
	}
	return w
}

// askStatus asks for an unknown status and tells whether there are details to get.
func (a *attempt) askStatus(ctx context.Context, w jumio.Workflow) bool {
	result, err := a.worker.jumio.Status(ctx, w)
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
func (a *attempt) getDetails(ctx context.Context, w jumio.Workflow) bool {
	body := a.claim.Details
	if body == nil {
		var err error
		if body, err = a.worker.jumio.Details(ctx, w); err != nil {
			a.failRequest(err)
			return false
		}
	}
	parsed, err := a.worker.jumio.ParseDetails(body, w)
	if err != nil {
		a.fail(jumio.CodeInvalidJSON, err.Error())
		return false
	}
	// A status that is missing or not known is no reason to doubt a callback
	// that said PROCESSED.
	if final, known := jumio.FinalStatus(parsed.Status); known && !final {
		a.fail(codeNotFinal, "the details' status is "+parsed.Status)
		return false
	}
	a.parsed = parsed
	if a.claim.Details == nil {
		a.details = body
		a.gotOn = true
	}
	return true
}

// outcome is the attempt's result, as the last one or as one of several.
func (a *attempt) outcome(last bool) store.Outcome {
	o := store.Outcome{Details: a.details, Status: a.status, Error: a.reason, Images: len(a.claim.Parts) + a.images}
	final, known := jumio.FinalStatus(a.status)
	switch {
	case a.code != "" && !last:
		o.State = store.Pending
	case a.code != "" && a.parsed == nil && a.claim.Details == nil:
		o.State = store.Failed
		o.Events = a.event(store.EventRetrievalFailed)
	case a.code != "":
		o.State = store.Partial
		o.Error += a.missing()
		o.Events = a.event(store.EventRetrieved)
	case known && !final:
		o.State = store.Awaiting
	case known && a.status != jumio.StatusProcessed:
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

// missing says how many of the parts are not in.
func (a *attempt) missing() string {
	if a.parsed == nil {
		return ""
	}
	missing := len(a.parsed.Missing) + len(a.parsed.Parts) - a.images
	for _, part := range a.parsed.Parts {
		if a.claim.Parts[store.PartKey{CredentialID: part.CredentialID, Classifier: part.Classifier}] {
			missing--
		}
	}
	return fmt.Sprintf(" (%d of %d images missing)", missing, len(a.parsed.Parts)+len(a.parsed.Missing))
}
