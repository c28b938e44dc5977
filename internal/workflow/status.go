// Package workflow holds the state of a workflow execution and the rules that change
// it: which callback decides, when a retrieval begins, what an attempt's result means,
// and when the next attempt is due.
//
// The rules are pure functions of plain values: no clock, no database, no network. The
// package imports internal/callback and nothing else from callbackd.
package workflow

// The statuses of a workflow execution (guide, "Callback Parameters" and "Get
// Status"; integrations also see ACQUISITION_STARTED). The list is open.
const (
	StatusInitiated          = "INITIATED"
	StatusAcquisitionStarted = "ACQUISITION_STARTED"
	StatusAcquired           = "ACQUIRED"
	StatusProcessed          = "PROCESSED"
	StatusSessionExpired     = "SESSION_EXPIRED"
	StatusTokenExpired       = "TOKEN_EXPIRED"
)

// FinalStatus reports whether no other status follows this one, and whether the status
// is known at all.
func FinalStatus(status string) (final, known bool) {
	switch status {
	case StatusProcessed, StatusSessionExpired, StatusTokenExpired:
		return true, true
	case StatusInitiated, StatusAcquisitionStarted, StatusAcquired:
		return false, true
	}
	return false, false
}
