package store

import (
	"errors"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// Callback is one delivery of Jumio's callback as it was received (guide,
// "Callback Parameters"). Empty strings and zero values are stored as NULL.
type Callback struct {
	// ID is a UUIDv7; it is also the request id of the delivery.
	ID         uuid.UUID
	ReceivedAt time.Time
	SourceIP   netip.Addr
	// ContentType is the request's Content-Type header, unparsed.
	ContentType string
	// Body holds the bytes as they came.
	Body []byte

	WorkflowExecutionID string
	WorkflowStatus      string
	WorkflowHref        string
	DefinitionKey       string
	AccountID           string
	AccountHref         string
	UserReference       string
	// CallbackSentAt is zero when the callback did not say it, or not readably.
	CallbackSentAt time.Time
}

// Rejected is a request on the callback path that was refused, kept so that a
// wrong allowlist or an unknown format loses nothing.
type Rejected struct {
	// ID is a UUIDv7; it is also the request id of the refusal.
	ID         uuid.UUID
	ReceivedAt time.Time
	// SourceIP is the zero Addr when no client address could be determined.
	SourceIP netip.Addr
	// Reason is a short code from the documented list, then optionally ": "
	// and a detail.
	Reason      string
	ContentType string
	// Body is cut to RejectedBodyLimit by the caller.
	Body []byte
}

// RejectedBodyLimit is how much of a rejected body is kept, in bytes.
const RejectedBodyLimit = 64 << 10

// Errors that callers may compare with errors.Is. Everything else is a fault of
// the program or of the database's schema.
var (
	// ErrUnavailable: the database could not be reached, or would not commit,
	// within the time allowed. Nothing is known to be stored.
	ErrUnavailable = errors.New("database unavailable")
	// ErrNotFound: the row that was named does not exist.
	ErrNotFound = errors.New("not found")
	// ErrSuperseded: the retrieval is over or a newer one has taken its place.
	ErrSuperseded = errors.New("superseded")
)
