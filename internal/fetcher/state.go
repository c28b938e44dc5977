package fetcher

import (
	"bytes"
	"time"

	"callbackd/internal/jumio"
	"callbackd/internal/store"
)

const (
	// futureTolerance is how far a callback's time may be ahead of its arrival; it
	// counts as sent on arrival beyond that.
	futureTolerance = 10 * time.Minute
	// Callbacks begin at most paceBurst retrievals of a workflow execution at
	// once, and one more every paceInterval: a storm of them costs that much.
	paceBurst    = 4
	paceInterval = 10 * time.Minute
)

// change is what one delivery of a callback has done.
type change struct {
	// events besides callback_received
	events []store.Event
	// future: it was dated ahead.
	future bool
	// contradicts: it names another account, reference or definition than the
	// details do.
	contradicts bool
}

// apply changes a workflow execution by one delivery of a callback. A callback is
// a hint: where Jumio itself has said something, or where callbacks contradict
// each other, it has Jumio asked and takes nothing away. The state that comes of it
// does not depend on the order in which deliveries are applied, except among
// different callbacks of the very same time.
func apply(w *store.WorkflowExecution, d *store.Delivery, now time.Time) change {
	c := change{future: d.SentAt.Sub(d.ReceivedAt) > futureTolerance}
	w.CallbackCount++
	if w.FirstCallbackAt.IsZero() || d.ReceivedAt.Before(w.FirstCallbackAt) {
		w.FirstCallbackAt = d.ReceivedAt
	}
	if d.ReceivedAt.After(w.LastCallbackAt) {
		w.LastCallbackAt = d.ReceivedAt
	}
	sentAt := d.SentAt
	if c.future {
		sentAt = time.Time{}
	}
	newest := decides(w, d, sentAt)
	c.contradicts = identify(w, d, newest)
	if newest {
		w.DecidedSentAt, w.DecidedBodyDigest = sentAt, d.BodyDigest
		if sentAt.IsZero() {
			w.DecidedSentAt = d.ReceivedAt
		}
	}
	c.events = enter(w, d, newest, now)
	return c
}

// identify takes over whose the workflow execution is said to be, and where: from
// the newest callback, or what is still missing from another one. Once there are
// details, they have said it, and it tells whether the callback contradicts them.
func identify(w *store.WorkflowExecution, d *store.Delivery, newest bool) (contradicts bool) {
	if !w.DetailsRetrievedAt.IsZero() {
		differs := func(said, known string) bool { return said != "" && said != known }
		return differs(d.AccountID, w.AccountID) || differs(d.UserReference, w.UserReference) || differs(d.DefinitionKey, w.DefinitionKey)
	}
	for _, field := range []struct {
		known *string
		said  string
	}{
		{&w.AccountID, d.AccountID},
		{&w.DefinitionKey, d.DefinitionKey},
		{&w.UserReference, d.UserReference},
		{&w.WorkflowHref, d.WorkflowHref},
		{&w.AccountHref, d.AccountHref},
	} {
		if field.said != "" && (newest || *field.known == "") {
			*field.known = field.said
		}
	}
	return false
}

// decides tells whether a delivery is the newest: of two with equal times the one
// with a final status, else the later arrival. A repeat of the newest is not.
func decides(w *store.WorkflowExecution, d *store.Delivery, sentAt time.Time) bool {
	if w.DecidedSentAt.IsZero() {
		return true
	}
	if sentAt.IsZero() {
		// Without a time of its own, a repeat is known by its bytes.
		return !bytes.Equal(d.BodyDigest, w.DecidedBodyDigest) && !d.ReceivedAt.Before(w.DecidedSentAt)
	}
	if c := sentAt.Compare(w.DecidedSentAt); c != 0 {
		return c > 0
	}
	if d.Status == w.Status {
		return false
	}
	isFinal, _ := jumio.FinalStatus(d.Status)
	wasFinal, _ := jumio.FinalStatus(w.Status)
	return isFinal || !wasFinal
}

// enter puts the workflow execution into the state that the callback hints at,
// where nothing speaks against it; otherwise it has Jumio asked.
func enter(w *store.WorkflowExecution, d *store.Delivery, newest bool, now time.Time) []store.Event {
	final, known := jumio.FinalStatus(d.Status)
	result := known && d.Status == jumio.StatusProcessed
	waiting := w.RetrievalState == store.Awaiting || w.RetrievalState == store.NotRequired
	switch {
	case newest && (result || !known):
		w.Status, w.RetrievalAsksStatus = d.Status, !known
		want(w, d, now)
	case result && (waiting || w.RetrievalState == store.Failed || w.RetrievalAsksStatus):
		// It says that there is a result, and a newer one that there is none, or
		// none yet, which Jumio may have confirmed a moment before there was one. One
		// that failed may have been asked for at the wrong place.
		w.RetrievalAsksStatus = w.RetrievalState != store.Failed
		want(w, d, now)
	case !newest && final && w.RetrievalState == store.Awaiting:
		// It says that the workflow has expired, and a newer one that it goes on.
		w.RetrievalAsksStatus = true
		want(w, d, now)
	case !newest:
	case !waiting, !final && w.RetrievalState == store.NotRequired:
		w.RetrievalAsksStatus = true
		if !hasResult(w) {
			w.Status = d.Status
		}
		want(w, d, now)
	case final:
		w.Status = d.Status
		if w.RetrievalState != store.NotRequired {
			w.RetrievalState = store.NotRequired
			return []store.Event{{Type: store.EventExpired, WorkflowExecutionID: w.ID}}
		}
	default:
		w.Status, w.RetrievalState = d.Status, store.Awaiting
	}
	return nil
}

// hasResult tells whether a retrieval has got something.
func hasResult(w *store.WorkflowExecution) bool {
	return w.RetrievalState == store.Retrieved || w.RetrievalState == store.Partial || w.ResultState != ""
}

// want begins a retrieval, or puts it off: until the attempt that is running has
// stored what it gets, and as the pace allows. One that is pending and may not
// begin anew goes on, with what this callback has said.
func want(w *store.WorkflowExecution, d *store.Delivery, now time.Time) {
	running := w.RetrievalState == store.Pending && now.Before(w.LeaseUntil)
	next := nextRetrieval(w.RetrievalPacedAt, now)
	if running || next.After(now) {
		if w.RetrievalDueAt.IsZero() {
			w.RetrievalDueAt = next
		}
		return
	}
	w.RetrievalPacedAt = latest(w.RetrievalPacedAt, now).Add(paceInterval)
	w.RetrievalDueAt = time.Time{}
	if w.RetrievalState == store.Retrieved || w.RetrievalState == store.Partial {
		w.ResultState = w.RetrievalState
	}
	w.RetrievalState = store.Pending
	w.RetrievalGeneration++
	w.RetrievalAttempts, w.RetrievalError = 0, ""
	w.RetrievalReceivedAt = d.ReceivedAt
}

// nextRetrieval is when the pace allows the next retrieval.
func nextRetrieval(pacedAt, now time.Time) time.Time {
	return latest(pacedAt.Add(-(paceBurst-1)*paceInterval), now)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
