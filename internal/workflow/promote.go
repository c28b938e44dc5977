package workflow

import (
	"bytes"
	"time"
)

// FutureTolerance is how far callbackSentAt may be ahead of the arrival. Beyond that,
// the callback counts as sent when it arrived.
const FutureTolerance = 10 * time.Minute

// Change is the effect of one delivery of a callback.
type Change struct {
	// Expired reports whether the delivery made the workflow execution expire.
	Expired bool
	// FutureDated reports whether callbackSentAt was beyond FutureTolerance.
	FutureDated bool
	// Contradicts reports whether the callback names a different account, user
	// reference or definition from the details.
	Contradicts bool
	// Final reports whether the callback has a final status.
	Final bool
}

// Promote applies one delivery of a callback to a workflow execution. A callback is a
// hint: if it contradicts Jumio's own answers or other callbacks, Jumio is asked, and
// nothing is taken away. The order of the deliveries does not matter, except among
// different callbacks sent at exactly the same time.
func Promote(e *Execution, d *Delivery, now time.Time) Change {
	c := Change{FutureDated: d.CallbackSentAt.Sub(d.ReceivedAt) > FutureTolerance}
	e.CallbackCount++
	if e.FirstCallbackAt.IsZero() || d.ReceivedAt.Before(e.FirstCallbackAt) {
		e.FirstCallbackAt = d.ReceivedAt
	}
	e.LastCallbackAt = latest(e.LastCallbackAt, d.ReceivedAt)
	saysWhen := !d.CallbackSentAt.IsZero() && !c.FutureDated
	sentAt := d.ReceivedAt
	if saysWhen {
		sentAt = d.CallbackSentAt
	}
	newest := decides(e, d, sentAt, saysWhen)
	c.Contradicts = identify(e, d, sentAt)
	if newest {
		e.DecidedSentAt, e.DecidedBodyDigest = sentAt, d.BodyDigest
	}
	c.Final, _ = FinalStatus(d.WorkflowStatus)
	e.OverdueAt = time.Time{}
	if e.RecoveredStatus != "" && d.WorkflowStatus == e.RecoveredStatus {
		e.RecoveredStatus = ""
		if e.RetrievalState != Failed {
			return c // it says what is known already
		}
	}
	c.Expired = enter(e, d, newest, now)
	return c
}

// identify takes the ids, the user reference and the hrefs from the callback: each
// value comes from the newest callback that has it, in whatever order they arrive.
// Once details have supplied them, it only reports whether the callback contradicts
// the details.
func identify(e *Execution, d *Delivery, sentAt time.Time) (contradicts bool) {
	if e.Known() {
		differs := func(said, known string) bool { return said != "" && said != known }
		return differs(d.AccountID, e.AccountID) || differs(d.UserReference, e.UserReference) || differs(d.DefinitionKey, e.DefinitionKey)
	}
	isFinal, _ := FinalStatus(d.WorkflowStatus)
	wasFinal, _ := FinalStatus(e.Status)
	for _, field := range []struct {
		known  *string
		sentAt *time.Time
		said   string
	}{
		{&e.AccountID, &e.AccountIDSentAt, d.AccountID},
		{&e.DefinitionKey, &e.DefinitionKeySentAt, d.DefinitionKey},
		{&e.UserReference, &e.UserReferenceSentAt, d.UserReference},
		{&e.WorkflowHref, &e.WorkflowHrefSentAt, d.WorkflowHref},
		{&e.AccountHref, &e.AccountHrefSentAt, d.AccountHref},
	} {
		if field.said == "" {
			continue
		}
		knownSentAt := *field.sentAt
		if knownSentAt.IsZero() && *field.known != "" {
			knownSentAt = e.DecidedSentAt // a row from before there were these times
		}
		if c := sentAt.Compare(knownSentAt); c > 0 || c == 0 && (isFinal || !wasFinal) {
			*field.known, *field.sentAt = field.said, sentAt
		}
	}
	return false
}

// decides reports whether a delivery is the newest. Between two with equal times, a
// final status wins, then the later arrival. A repeat of the newest does not decide.
func decides(e *Execution, d *Delivery, sentAt time.Time, saysWhen bool) bool {
	if e.DecidedSentAt.IsZero() {
		return true
	}
	if !saysWhen {
		// Without a callbackSentAt, only its bytes identify a repeat.
		return !bytes.Equal(d.BodyDigest, e.DecidedBodyDigest) && !sentAt.Before(e.DecidedSentAt)
	}
	if c := sentAt.Compare(e.DecidedSentAt); c != 0 {
		return c > 0
	}
	if d.WorkflowStatus == e.Status {
		return false
	}
	isFinal, _ := FinalStatus(d.WorkflowStatus)
	wasFinal, _ := FinalStatus(e.Status)
	return isFinal || !wasFinal
}

// enter puts the workflow execution into the state that the callback hints at, unless
// something contradicts that; then Jumio is asked. It reports whether the workflow
// execution expired.
func enter(e *Execution, d *Delivery, newest bool, now time.Time) (expired bool) {
	status := d.WorkflowStatus
	final, known := FinalStatus(status)
	processed := status == StatusProcessed
	waiting := e.RetrievalState == Awaiting || e.RetrievalState == NotRequired
	switch {
	case newest && (processed || !known):
		e.Status, e.RetrievalAsksStatus = status, !known
		want(e, d.ReceivedAt, now)
	case processed && (waiting || e.RetrievalState == Failed || e.RetrievalAsksStatus):
		// This callback says that there is a result; a newer one denied it, and
		// Jumio may have agreed just before the result was ready. A failed
		// retrieval may have used the wrong address.
		e.RetrievalAsksStatus = e.RetrievalState != Failed
		want(e, d.ReceivedAt, now)
	case !newest && final && e.RetrievalState == Awaiting:
		// This callback says that the workflow expired; a newer one says that it
		// continues.
		e.RetrievalAsksStatus = true
		want(e, d.ReceivedAt, now)
	case !newest:
	case !waiting, !final && e.RetrievalState == NotRequired:
		e.RetrievalAsksStatus = true
		if !e.RetrievalState.hasResult() && e.ResultState == "" {
			e.Status = status
		}
		want(e, d.ReceivedAt, now)
	case final:
		e.Status = status
		expired = e.RetrievalState != NotRequired
		e.RetrievalState = NotRequired
	default:
		e.Status, e.RetrievalState = status, Awaiting
	}
	return expired
}
