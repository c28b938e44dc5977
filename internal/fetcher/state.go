package fetcher

import (
	"bytes"

	"callbackd/internal/jumio"
	"callbackd/internal/store"
)

// apply changes a workflow execution by one delivery of a callback and returns
// the events that come of it, besides callback_received. The result does not
// depend on the order in which deliveries are applied, except among different
// callbacks of the very same time.
func apply(w *store.WorkflowExecution, d *store.Delivery) []store.Event {
	w.CallbackCount++
	if w.FirstCallbackAt.IsZero() || d.ReceivedAt.Before(w.FirstCallbackAt) {
		w.FirstCallbackAt = d.ReceivedAt
	}
	if d.ReceivedAt.After(w.LastCallbackAt) {
		w.LastCallbackAt = d.ReceivedAt
	}
	if !decides(w, d) {
		fill(&w.AccountID, d.AccountID)
		fill(&w.DefinitionKey, d.DefinitionKey)
		fill(&w.UserReference, d.UserReference)
		fill(&w.WorkflowHref, d.WorkflowHref)
		fill(&w.AccountHref, d.AccountHref)
		return nil
	}
	replace(&w.AccountID, d.AccountID)
	replace(&w.DefinitionKey, d.DefinitionKey)
	replace(&w.UserReference, d.UserReference)
	replace(&w.WorkflowHref, d.WorkflowHref)
	replace(&w.AccountHref, d.AccountHref)
	w.Status, w.DecidedSentAt, w.DecidedBodyDigest = d.Status, d.SentAt, d.BodyDigest
	if d.SentAt.IsZero() {
		w.DecidedSentAt = d.ReceivedAt
	}
	return enter(w, d)
}

func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func replace(field *string, value string) {
	if value != "" {
		*field = value
	}
}

// decides tells whether a delivery sets the state: the newest does; of two with
// equal times a final status, else the later arrival. A repeat of the deciding
// callback changes nothing.
func decides(w *store.WorkflowExecution, d *store.Delivery) bool {
	if w.DecidedSentAt.IsZero() {
		return true
	}
	if d.SentAt.IsZero() {
		// Without a time of its own, a repeat is known by its bytes.
		return !bytes.Equal(d.BodyDigest, w.DecidedBodyDigest) && !d.ReceivedAt.Before(w.DecidedSentAt)
	}
	if c := d.SentAt.Compare(w.DecidedSentAt); c != 0 {
		return c > 0
	}
	if d.Status == w.Status {
		return false
	}
	isFinal, _ := jumio.FinalStatus(d.Status)
	wasFinal, _ := jumio.FinalStatus(w.Status)
	return isFinal || !wasFinal
}

// enter puts the workflow execution into the state of the callback that decides.
func enter(w *store.WorkflowExecution, d *store.Delivery) []store.Event {
	// Whatever was going on is superseded.
	w.RetrievalGeneration++
	w.RetrievalAttempts, w.RetrievalError = 0, ""
	w.RetrievalReceivedAt = d.ReceivedAt
	final, known := jumio.FinalStatus(d.Status)
	switch {
	case !known, d.Status == jumio.StatusProcessed:
		w.RetrievalState = store.Pending // an unknown status is asked for with Get Status
	case final:
		w.RetrievalState = store.NotRequired
		return []store.Event{{Type: store.EventExpired, WorkflowExecutionID: w.ID}}
	default:
		w.RetrievalState = store.Awaiting
	}
	return nil
}
