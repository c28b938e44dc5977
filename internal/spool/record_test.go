package spool

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"callbackd/internal/callback"
)

// The spool of the version before an upgrade is drained by the version after it.
func TestRecordOfAnOlderVersion(t *testing.T) {
	const text = `{"id":"01a22a29-c41a-7bc8-b39a-cd92c975253e","received_at":[1767323045,678901234],"source_ip":"2001:db8::1",` +
		`"content_type":"t","workflow_execution_id":"w","workflow_status":"S","workflow_href":"h","definition_key":"3",` +
		`"account_id":"a","account_href":"ah","user_reference":"r","callback_sent_at":[253402387139,0]}`
	b := append([]byte(recordMagic), make([]byte, recordHeader-len(recordMagic))...)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(text)))
	binary.LittleEndian.PutUint32(b[12:], uint32(len("body")))
	b = append(b, text+"body"...)
	binary.LittleEndian.PutUint32(b[4:], checksum(b[8:]))
	got, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	want := &callback.Callback{
		ID: uuid.MustParse("01a22a29-c41a-7bc8-b39a-cd92c975253e"), ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC),
		SourceIP: netip.MustParseAddr("2001:db8::1"), ContentType: "t", Body: []byte("body"), WorkflowExecutionID: "w",
		WorkflowStatus: "S", WorkflowHref: "h", DefinitionKey: "3", AccountID: "a", AccountHref: "ah", UserReference: "r",
		CallbackSentAt: time.Date(10000, 1, 1, 23, 58, 59, 0, time.UTC),
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("the callback (-want +got):\n%s", diff)
	}
}
