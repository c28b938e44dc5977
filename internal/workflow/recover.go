package workflow

import "time"

// Delays are the pauses before each time that Jumio is asked for a final status that no
// callback has brought: the first from the deadline, each other one from the time before.
// Without any, Jumio is never asked.
type Delays []time.Duration

// Next returns when Jumio is to be asked next if it was asked at a time, for the nth time
// since the deadline, n from 1. It returns the zero time if that was the last time.
func (d Delays) Next(n int, askedAt time.Time) time.Time {
	if n >= len(d) {
		return time.Time{}
	}
	return askedAt.Add(d[n])
}

// Recoverable reports whether a final status that Jumio returns when it is asked is news.
func (e *Execution) Recoverable() bool {
	return e.RetrievalState == Awaiting || e.RetrievalState == Failed
}

// Recover takes in the final status that Jumio returned when it was asked at a time: what
// the callback would have led to that has not come. It returns the events, in their order.
// The execution must be Recoverable. A retrieval begins unless the workflow execution has
// expired.
func Recover(e *Execution, status string, askedAt time.Time) []Event {
	if e.Status != status { // otherwise its callback has come, and the retrieval failed
		e.RecoveredStatus = status
	}
	e.Status, e.OverdueAt = status, time.Time{}
	// Jumio's answer counts like a callback of that moment, so that late ones from before
	// change nothing.
	e.DecidedSentAt, e.DecidedBodyDigest = latest(e.DecidedSentAt, askedAt), nil
	e.RetrievalAsksStatus = false
	if status == StatusProcessed {
		Begin(e, askedAt)
		return []Event{e.Event(EventRecovered)}
	}
	e.RetrievalState = NotRequired
	return []Event{e.Event(EventRecovered), e.Event(EventExpired)}
}
