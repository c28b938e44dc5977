// Package callback says what a callback of Jumio's is: its fields and their
// limits, what its body may look like, the syntax of ids, and the signature that
// its userReference may carry. It also says what is kept of a rejected one.
//
// It stores nothing, and knows neither HTTP nor SQL.
package callback

import (
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Callback is one delivery of a callback (guide, "Callback Parameters"). A field is
// empty or zero if the callback does not have it. The JSON names are those of the
// spool's records.
type Callback struct {
	// ID is a UUIDv7; it is also the request id of the delivery.
	ID         uuid.UUID `json:"id"`
	ReceivedAt time.Time `json:"received_at"`
	// SourceIP is the client's address.
	SourceIP netip.Addr `json:"source_ip"`
	// ContentType is the request's Content-Type header, unparsed.
	ContentType string `json:"content_type,omitempty"`
	// Body holds the bytes as they were sent.
	Body []byte `json:"-"`

	WorkflowExecutionID string `json:"workflow_execution_id"`
	// WorkflowStatus is an open string: Jumio adds statuses.
	WorkflowStatus string `json:"workflow_status,omitempty"`
	WorkflowHref   string `json:"workflow_href,omitempty"`
	DefinitionKey  string `json:"definition_key,omitempty"`
	AccountID      string `json:"account_id,omitempty"`
	AccountHref    string `json:"account_href,omitempty"`
	UserReference  string `json:"user_reference,omitempty"`
	// CallbackSentAt is in UTC; it is also zero if it was unreadable.
	CallbackSentAt time.Time `json:"callback_sent_at"`
}

// The most characters that are kept of each field; the body keeps everything.
// Jumio's own are far shorter: a userReference has 100 at most, an href some 170.
const (
	maxStatus        = 64
	maxDefinitionKey = 64
	maxUserReference = 256
	maxHref          = 512
	maxContentType   = 256
	maxReason        = 256
)

// Bound makes the callback fit the database's columns, whatever was sent. A
// status, definition key or Content-Type that is too long is cut off. An account
// id that is not valid, and a reference or href that is too long, is dropped: a
// part of it would name something else.
func (c *Callback) Bound() {
	if !ValidID(c.AccountID) {
		c.AccountID = ""
	}
	c.WorkflowStatus = cut(c.WorkflowStatus, maxStatus)
	c.DefinitionKey = cut(c.DefinitionKey, maxDefinitionKey)
	c.ContentType = cut(c.ContentType, maxContentType)
	c.UserReference = dropOver(c.UserReference, maxUserReference)
	c.WorkflowHref = dropOver(c.WorkflowHref, maxHref)
	c.AccountHref = dropOver(c.AccountHref, maxHref)
}

// ValidID reports whether s has the syntax of Jumio's ids,
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

// CleanText replaces what a Postgres text cannot hold, invalid UTF-8 and NUL,
// with U+FFFD.
func CleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
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

// dropOver returns s, or "" if it has more characters than most.
func dropOver(s string, most int) string {
	if len(s) <= most || utf8.RuneCountInString(CleanText(s)) <= most {
		return s
	}
	return ""
}
