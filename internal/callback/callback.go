// Package callback defines Jumio's callback: its fields and their limits, the forms
// of its body, the syntax of ids, and the signature of a userReference; and what is
// kept of a rejected callback.
//
// It stores nothing and knows no HTTP or SQL.
package callback

import (
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Callback is one delivery of a callback (guide, "Callback Parameters"). A field is
// empty or zero if the callback does not have it. The tags are the
// columns of callbackd.callbacks and the names in the spool's records.
type Callback struct {
	// ID is a UUIDv7; it is also the request id of the delivery.
	ID         uuid.UUID `db:"callback_id" json:"id"`
	ReceivedAt time.Time `db:"received_at" json:"received_at"`
	// SourceIP is the client's address.
	SourceIP netip.Addr `db:"source_ip" json:"source_ip"`
	// ContentType is the request's Content-Type header, unparsed.
	ContentType string `db:"content_type,notnull" json:"content_type,omitempty"`
	// Body holds the bytes as they were sent.
	Body []byte `db:"body,notnull" json:"-"`

	WorkflowExecutionID string `db:"workflow_execution_id,notnull" json:"workflow_execution_id"`
	// WorkflowStatus is an open string: Jumio adds statuses.
	WorkflowStatus string `db:"workflow_status" json:"workflow_status,omitempty"`
	WorkflowHref   string `db:"workflow_href" json:"workflow_href,omitempty"`
	DefinitionKey  string `db:"definition_key" json:"definition_key,omitempty"`
	AccountID      string `db:"account_id" json:"account_id,omitempty"`
	AccountHref    string `db:"account_href" json:"account_href,omitempty"`
	UserReference  string `db:"user_reference" json:"user_reference,omitempty"`
	// CallbackSentAt is in UTC; it is also zero if it was unreadable.
	CallbackSentAt time.Time `db:"callback_sent_at" json:"callback_sent_at"`
}

// How many characters of each field are kept; the body keeps everything. Jumio's
// are far shorter: a userReference has at most 100, an href about 170.
const (
	maxStatus        = 64
	maxDefinitionKey = 64
	maxUserReference = 256
	maxHref          = 512
	maxContentType   = 256
	maxReason        = 256
)

// Bound makes the callback fit the database's columns. It truncates a status,
// definition key or Content-Type that is too long, and drops an invalid account id
// and a reference or href that is too long: a part of it would name something else.
func (c *Callback) Bound() {
	if !ValidID(c.AccountID) {
		c.AccountID = ""
	}
	c.WorkflowStatus = truncate(c.WorkflowStatus, maxStatus)
	c.DefinitionKey = truncate(c.DefinitionKey, maxDefinitionKey)
	c.ContentType = truncate(c.ContentType, maxContentType)
	c.UserReference = dropOver(c.UserReference, maxUserReference)
	c.WorkflowHref = dropOver(c.WorkflowHref, maxHref)
	c.AccountHref = dropOver(c.AccountHref, maxHref)
}

// ValidID reports whether s has the syntax of Jumio's ids, ^[A-Za-z0-9_-]{1,64}$,
// which the guide's examples, UUIDs with x for digits, also have.
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

// IDsOfHref returns the ids that an href names, wherever it leads: what follows accounts/
// and workflow-executions/ in it. They are empty if there are none, or no valid ones.
func IDsOfHref(href string) (accountID, workflowExecutionID string) {
	return idAfter(href, "accounts/"), idAfter(href, "workflow-executions/")
}

func idAfter(href, segment string) string {
	_, id, _ := strings.Cut(href, segment)
	if end := strings.IndexAny(id, "/?#"); end >= 0 {
		id = id[:end]
	}
	if !ValidID(id) {
		return ""
	}
	return id
}

// CleanText replaces what a Postgres text cannot hold, invalid UTF-8 and NUL,
// with U+FFFD.
func CleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// truncate returns the first characters of s, as they are stored.
func truncate(s string, most int) string {
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

// dropOver returns s, or "" if it has more than most characters.
func dropOver(s string, most int) string {
	if len(s) <= most || utf8.RuneCountInString(CleanText(s)) <= most {
		return s
	}
	return ""
}
