package store

import (
	"errors"
	"net/netip"
	"time"
	"unicode/utf8"

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

// The most characters that a typed column keeps of what a callback says; the
// whole is in its body. Jumio's own are far shorter: a userReference has 100 at
// most, an href some 170.
const (
	maxStatus        = 64
	maxDefinitionKey = 64
	maxUserReference = 256
	maxHref          = 512
	maxContentType   = 256
	maxReason        = 256
)

// Bound makes the callback fit the typed columns, whatever was sent: they are
// indexed, and read by the batch. A status, definition key or Content-Type that
// is too long is cut off. An account id that is none, and a reference or href
// that is too long, counts as absent: a part of it would name something else.
func (c *Callback) Bound() {
	if !ValidID(c.AccountID) {
		c.AccountID = ""
	}
	c.WorkflowStatus = cut(c.WorkflowStatus, maxStatus)
	c.DefinitionKey = cut(c.DefinitionKey, maxDefinitionKey)
	c.ContentType = cut(c.ContentType, maxContentType)
	c.UserReference = absentOver(c.UserReference, maxUserReference)
	c.WorkflowHref = absentOver(c.WorkflowHref, maxHref)
	c.AccountHref = absentOver(c.AccountHref, maxHref)
}

// ValidID reports whether s has the form of an id of Jumio's,
// ^[A-Za-z0-9_-]{1,64}$. The guide's own examples, UUIDs made of x, have it too.
func ValidID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
		if !ok {
			return false
		}
	}
	return true
}

// cut keeps the first characters of s, as they are stored.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	s = CleanText(s)
	n := 0
	for i := range s {
		if n == most {
			return s[:i]
		}
		n++
	}
	return s
}

// absentOver is s, or nothing if it has more characters.
func absentOver(s string, most int) string {
	if len(s) <= most || utf8.RuneCountInString(CleanText(s)) <= most {
		return s
	}
	return ""
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
	// ErrTimeout comes with an ErrUnavailable that was a matter of time.
	ErrTimeout = errors.New("time-out")
	// ErrNotFound: the row that was named does not exist.
	ErrNotFound = errors.New("not found")
	// ErrSuperseded: the retrieval is over or a newer one has taken its place.
	ErrSuperseded = errors.New("superseded")
)
