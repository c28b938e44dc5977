package store

import "errors"

// Errors that callers may compare with errors.Is. Everything else is a fault of
// the program or of the database's schema.
var (
	// ErrUnavailable: the database could not be reached, or would not commit,
	// within the time allowed. Nothing is known to be stored.
	ErrUnavailable = errors.New("database unavailable")
	// ErrTimeout comes with an ErrUnavailable that was a matter of time.
	ErrTimeout = errors.New("time-out")
	// ErrNotFound: the row that was named does not exist.
	ErrNotFound = errors.New("not found")
	// ErrSuperseded: the retrieval is over or a newer one has taken its place.
	ErrSuperseded = errors.New("superseded")
)
