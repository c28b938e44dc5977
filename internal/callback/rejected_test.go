package callback

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestAccept(t *testing.T) {
	r := &Rejected{
		ID: uuid.New(), ReceivedAt: time.Now(), SourceIP: netip.MustParseAddr("192.0.2.1"), Reason: "address_not_allowed",
		ContentType: "text/x", Body: []byte("workflowExecution.id=w-1&workflowExecution.status=PROCESSED"),
	}
	c, err := r.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if c.WorkflowExecutionID != "w-1" || c.WorkflowStatus != "PROCESSED" || c.ContentType != r.ContentType || string(c.Body) != string(r.Body) ||
		c.SourceIP != r.SourceIP || !c.ReceivedAt.Equal(r.ReceivedAt) {
		t.Errorf("got %+v", c)
	}
	if c.ID == r.ID || c.ID == uuid.Nil {
		t.Errorf("the callback's id is %s, want one of its own", c.ID)
	}
	for name, tc := range map[string]struct {
		body string
		want DecodeError
	}{
		"no callback":     {"junk", ErrNotACallback},
		"cut when kept":   {"workflowExecution.id=w-1&x=" + strings.Repeat("x", RejectedBodyLimit-27), ErrIncompleteBody},
		"cut in the JSON": {`{"workflowExecution":{"id":"w`, ErrTruncatedJSON},
		"empty":           {"", ErrEmptyBody},
	} {
		r.Body = []byte(tc.body)
		if _, err := r.Accept(); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}
