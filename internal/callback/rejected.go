package callback

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// RejectedBodyLimit is how much of a rejected callback's body is kept, in bytes.
const RejectedBodyLimit = 64 << 10

// Rejected is a request on the callback path that was rejected, kept so that a
// wrong allowlist or an unknown format loses nothing.
type Rejected struct {
	// ID is a UUIDv7; it is also the id of the rejected request.
	ID         uuid.UUID `db:"rejected_id"`
	ReceivedAt time.Time `db:"received_at"`
	// SourceIP is the zero Addr when no client address could be determined.
	SourceIP netip.Addr `db:"source_ip"`
	// Reason is a short code from the documented list, then optionally ": "
	// and a detail.
	Reason      string `db:"reason,notnull"`
	ContentType string `db:"content_type,notnull"`
	Body        []byte `db:"body,notnull"`
	// WorkflowExecutionID, AccountID and UserReference are what the body names, unproven;
	// empty if it names none. Bound reads them.
	WorkflowExecutionID string `db:"workflow_execution_id"`
	AccountID           string `db:"account_id"`
	UserReference       string `db:"user_reference"`
}

// Bound makes r fit the database's columns by truncating what is too long, and reads what
// its body names.
func (r *Rejected) Bound() {
	r.Reason = truncate(r.Reason, maxReason)
	r.ContentType = truncate(r.ContentType, maxContentType)
	r.Body = r.Body[:min(len(r.Body), RejectedBodyLimit)]
	d, err := decode(r.Body)
	if err != nil {
		return
	}
	d.UserReference = CleanText(d.UserReference)
	d.Bound()
	r.UserReference, r.AccountID = d.UserReference, d.AccountID
	if ValidID(d.WorkflowExecutionID) {
		r.WorkflowExecutionID = d.WorkflowExecutionID
	}
}

// Accept returns the callback that r would have been: with the same body, address
// and time of arrival, but an id of its own. The error is a DecodeError if the body
// is not a callback, or may have been truncated when it was kept.
func (r *Rejected) Accept() (*Callback, error) {
	if len(r.Body) >= RejectedBodyLimit {
		return nil, ErrIncompleteBody
	}
	c, err := Decode(r.Body)
	if err != nil {
		return nil, err
	}
	if c.ID, err = uuid.NewV7(); err != nil {
		return nil, fmt.Errorf("make a callback id: %w", err)
	}
	c.ReceivedAt, c.SourceIP, c.ContentType, c.Body = r.ReceivedAt, r.SourceIP, r.ContentType, r.Body
	return c, nil
}
