package fetcher

import (
	"context"
	"errors"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/jumio"
	"callbackd/internal/queue"
	"callbackd/internal/store/results"
	"callbackd/internal/workflow"
)

// The codes of retrieval_error besides those of internal/jumio.
const (
	codeNotFinal      = "not_final"      // the details say that the workflow is not done
	codeUnknownStatus = "unknown_status" // Get Status returned an unknown status
	codePartAddress   = "part_address"   // no address can be built for a part
	codeInterrupted   = "interrupted"    // the last attempt was cut off with its worker
	codeInternal      = "internal"       // a fault in callbackd
)

// attempt is one attempt of a retrieval. It requests only what is missing: the status if
// it is unknown, the details, each image.
type attempt struct {
	*worker
	lease *results.Lease
	claim *results.Claim
	args  queue.Retrieval

	at      jumio.Workflow   // where the workflow execution was found
	status  string           // according to Jumio
	details []byte           // fetched in this attempt
	parsed  *jumio.Details   // from these or those of an earlier attempt of the retrieval
	reading *results.Reading // of parsed
	images  int              // fetched in this attempt

	state workflow.RetrievalState // as stored; empty before
}

// failure is an attempt's first failure on Jumio's side.
type failure struct {
	code       string
	text       string        // for retrieval_error: "code: detail"
	retryAfter time.Duration // Jumio's Retry-After; 0 for none
	final      bool          // no further attempt can succeed
	skipsPart  bool          // other image parts may succeed in this attempt
}

// Error implements error.
func (f *failure) Error() string { return f.text }

func fail(code, detail string) *failure { return &failure{code: code, text: code + ": " + detail} }

// failed converts an error of the Jumio client.
func failed(err error) *failure {
	e, ok := errors.AsType[*jumio.Error](err)
	if !ok {
		return fail(codeInternal, "unexpected error of the client")
	}
	return &failure{code: e.Code, text: e.Error(), retryAfter: e.RetryAfter, skipsPart: e.Verdict == jumio.SkipPart}
}

// run makes the requests that are still missing. Its error is a *failure, or a fault on
// our side, which must not cost an attempt.
func (a *attempt) run(ctx context.Context) error {
	if a.asksStatus() {
		if err := a.getStatus(ctx); err != nil || a.status != workflow.StatusProcessed {
			return err
		}
	}
	if err := a.getDetails(ctx); err != nil || a.parsed == nil {
		return err
	}
	return a.getImages(ctx)
}

// gotOn reports whether the attempt got something that the next one need not request
// again.
func (a *attempt) gotOn() bool { return a.details != nil || a.images > 0 }

// asksStatus reports whether callbacks leave the workflow execution's status open.
func (a *attempt) asksStatus() bool {
	if a.claim.Details != nil || a.args.Refetch {
		return false
	}
	return a.claim.RetrievalAsksStatus || a.claim.Status != workflow.StatusProcessed
}

func (a *attempt) getStatus(ctx context.Context) error {
	var result *jumio.StatusResult
	err := a.locate(ctx, func(w jumio.Workflow) (err error) {
		result, err = a.jumio.Status(ctx, w)
		return err
	})
	if err != nil {
		return failed(err)
	}
	if _, known := workflow.FinalStatus(result.Status); !known {
		return fail(codeUnknownStatus, "Get Status does not say whether the workflow is done")
	}
	a.status = result.Status
	return nil
}

// getDetails parses the details from an earlier attempt or from Jumio. If Jumio says
// that there is no result, it sets none and does not fail.
func (a *attempt) getDetails(ctx context.Context) error {
	if a.claim.Details != nil {
		return a.readDetails()
	}
	var body []byte
	var parsed *jumio.Details
	err := a.locate(ctx, func(w jumio.Workflow) (err error) {
		if body, err = a.jumio.Details(ctx, w); err == nil {
			parsed, err = a.jumio.ParseDetails(body, w)
		}
		return err
	})
	if err != nil {
		return failed(err)
	}
	final, known := workflow.FinalStatus(parsed.Status)
	if known && !final && !a.args.Refetch {
		return fail(codeNotFinal, "the details' status is "+parsed.Status)
	}
	if known {
		// An unknown or missing status does not contradict a callback that said
		// PROCESSED.
		a.status = parsed.Status
	}
	if known && (!final || parsed.Status != workflow.StatusProcessed && !a.args.Refetch) {
		// The end user is not done, or the workflow has expired. A refetch of an
		// expired one gets what exists.
		return nil
	}
	if a.referenceKey != "" {
		if err := callback.VerifyUserReference(a.referenceKey, parsed.UserReference); err != nil {
			f := fail(err.Error(), "the userReference in the details lacks our signature")
			f.final = true
			return f
		}
	}
	a.details = body
	a.setParsed(parsed, body)
	return nil
}

// readDetails parses the details that an earlier attempt stored.
func (a *attempt) readDetails() error {
	a.at = a.named(a.claimed())
	parsed, err := a.jumio.ParseDetails(a.claim.Details, jumio.Workflow{ID: a.at.ID, DataCenter: a.at.DataCenter})
	if err != nil {
		return failed(err)
	}
	a.setParsed(parsed, a.claim.Details)
	return nil
}

func (a *attempt) setParsed(parsed *jumio.Details, body []byte) {
	a.parsed, a.reading = parsed, results.NewReading(body, parsed.Details, a.referenceKey)
}

// getImages gets the missing images. If one image fails by itself, it continues with the
// others. It returns the first failure.
func (a *attempt) getImages(ctx context.Context) error {
	var first *failure
	for i := range a.parsed.Parts {
		// Each attempt begins with another part, so that a part that ends every
		// attempt does not hide those after it.
		part := a.parsed.Parts[(i+a.lease.Attempt-1)%len(a.parsed.Parts)]
		if a.claim.Parts[partKey(part)] {
			continue
		}
		img, err := a.jumio.Image(ctx, a.at.DataCenter, part)
		if err != nil {
			f := failed(err)
			if f.code == jumio.CodeNoBudget {
				return f
			}
			if first == nil {
				first = f
			}
			first.retryAfter = max(first.retryAfter, f.retryAfter)
			if f.skipsPart {
				continue
			}
			return first
		}
		if err := a.keep(ctx, part, img); err != nil {
			return err
		}
		a.images++
	}
	if first != nil {
		return first
	}
	return nil
}

func partKey(p jumio.Part) results.PartKey {
	return results.PartKey{CredentialID: p.CredentialID, Classifier: p.Classifier}
}

// result returns the attempt's result; f is nil if nothing failed.
func (a *attempt) result(f *failure, last bool) workflow.Result {
	r := workflow.Result{Last: last, Status: a.status, HasDetails: a.parsed != nil || a.claim.Details != nil}
	if f != nil {
		r.Failure, r.Last = f.Error(), last || f.final
	}
	if a.parsed == nil {
		return r
	}
	r.Parts = len(a.parsed.Parts) + a.parsed.MissingCount()
	r.Missing = r.Parts - a.images
	for _, part := range a.parsed.Parts {
		if a.claim.Parts[partKey(part)] {
			r.Missing--
		}
	}
	if len(a.parsed.Missing) > 0 {
		r.NoAddress = codePartAddress + ": " + a.parsed.Missing[0].Reason
	}
	return r
}

// outcome returns what to store of the attempt.
func (a *attempt) outcome(c workflow.Conclusion) results.Outcome {
	return results.Outcome{Conclusion: c, Read: a.read(), Identity: a.identity(), Images: len(a.claim.Parts) + a.images}
}

// read returns this attempt's details, nil for none.
func (a *attempt) read() *results.Reading {
	if a.details == nil {
		return nil
	}
	return a.reading
}

// identity returns what the details say about the workflow execution, nil without
// details.
func (a *attempt) identity() *results.Identity {
	if a.parsed == nil {
		return nil
	}
	i := a.reading.Identity()
	if a.details != nil {
		i.DataCenter = a.at.DataCenter
	}
	return i
}

// contradicted reports whether callbacks contradict the details that this attempt
// fetched.
func (a *attempt) contradicted() bool {
	if a.details == nil {
		return false
	}
	i := a.identity()
	differs := func(claimed, said string) bool { return claimed != "" && said != "" && claimed != said }
	return differs(a.claim.AccountID, i.AccountID) || differs(a.claim.UserReference, i.UserReference) ||
		differs(a.claim.DefinitionKey, i.DefinitionKey)
}

// retryPriority returns the priority of the next attempt.
func (a *attempt) retryPriority(priority int) int {
	if a.gotOn() || len(a.claim.Parts) > 0 || a.claim.Details != nil || priority == queue.PriorityKnown || priority == queue.PriorityContinue {
		return queue.PriorityContinue
	}
	return queue.PriorityRetry
}
