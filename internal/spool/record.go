package spool

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/callback"
)

// A record is a callback as it lies in a segment:
//
//	4 bytes  recordMagic, whose last byte is the version
//	4 bytes  CRC-32C of all that follows
//	4 bytes  length of the fields
//	4 bytes  length of the body
//	fields   JSON
//	body     as it came
//
// Integers are little-endian. The log below checks only the end of a segment
// when it opens one, so each record carries a checksum of its own; and it says
// where it ends, so that it can be found where the log's own frames are damaged.
const (
	recordMagic  = "cbk1"
	recordHeader = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamagedRecord = errors.New("the record is damaged")

// fields are a callback without its body. New fields may be added; none may
// change its meaning without a new version in recordMagic.
type fields struct {
	ID                  uuid.UUID  `json:"id"`
	ReceivedAt          instant    `json:"received_at"`
	SourceIP            netip.Addr `json:"source_ip"`
	ContentType         string     `json:"content_type,omitempty"`
	WorkflowExecutionID string     `json:"workflow_execution_id"`
	WorkflowStatus      string     `json:"workflow_status,omitempty"`
	WorkflowHref        string     `json:"workflow_href,omitempty"`
	DefinitionKey       string     `json:"definition_key,omitempty"`
	AccountID           string     `json:"account_id,omitempty"`
	AccountHref         string     `json:"account_href,omitempty"`
	UserReference       string     `json:"user_reference,omitempty"`
	CallbackSentAt      *instant   `json:"callback_sent_at,omitempty"`
}

// instant is a time as seconds and nanoseconds since 1970: a sender's time in
// the year 9999 may be one of the year 10000 in UTC, which has no JSON form.
type instant [2]int64

func newInstant(t time.Time) instant  { return instant{t.Unix(), int64(t.Nanosecond())} }
func (i instant) time() time.Time     { return time.Unix(i[0], i[1]).UTC() }
func isRecord(b []byte) bool          { return len(b) >= recordHeader && string(b[:4]) == recordMagic }
func checksum(b []byte) uint32        { return crc32.Checksum(b, castagnoli) }
func uint32At(b []byte, at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }

func encode(c *callback.Callback) ([]byte, error) {
	f := fields{
		ID: c.ID, ReceivedAt: newInstant(c.ReceivedAt), SourceIP: c.SourceIP, ContentType: c.ContentType,
		WorkflowExecutionID: c.WorkflowExecutionID, WorkflowStatus: c.WorkflowStatus, WorkflowHref: c.WorkflowHref,
		DefinitionKey: c.DefinitionKey, AccountID: c.AccountID, AccountHref: c.AccountHref, UserReference: c.UserReference,
	}
	if !c.CallbackSentAt.IsZero() {
		sent := newInstant(c.CallbackSentAt)
		f.CallbackSentAt = &sent
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	b := make([]byte, recordHeader, recordHeader+len(text)+len(c.Body))
	copy(b, recordMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(text)))    //nolint:gosec // headers are limited to 16 KiB, fields to the body
	binary.LittleEndian.PutUint32(b[12:], uint32(len(c.Body))) //nolint:gosec // limited to 64 MiB
	b = append(append(b, text...), c.Body...)
	binary.LittleEndian.PutUint32(b[4:], checksum(b[8:]))
	return b, nil
}

// recordLength is the length of the record that b begins with, or 0 where b
// begins with none that is whole and undamaged.
func recordLength(b []byte) int {
	if !isRecord(b) {
		return 0
	}
	end := recordHeader + uint32At(b, 8) + uint32At(b, 12)
	if end > int64(len(b)) || int64(checksum(b[8:end])) != uint32At(b, 4) {
		return 0
	}
	return int(end)
}

// decode copies what it keeps of b.
func decode(b []byte) (*callback.Callback, error) {
	if recordLength(b) != len(b) {
		return nil, errDamagedRecord
	}
	body := recordHeader + uint32At(b, 8)
	var f fields
	if err := json.Unmarshal(b[recordHeader:body], &f); err != nil {
		return nil, errDamagedRecord // its text may quote the fields
	}
	c := &callback.Callback{
		ID: f.ID, ReceivedAt: f.ReceivedAt.time(), SourceIP: f.SourceIP, ContentType: f.ContentType,
		Body:                append([]byte{}, b[body:]...),
		WorkflowExecutionID: f.WorkflowExecutionID, WorkflowStatus: f.WorkflowStatus, WorkflowHref: f.WorkflowHref,
		DefinitionKey: f.DefinitionKey, AccountID: f.AccountID, AccountHref: f.AccountHref, UserReference: f.UserReference,
	}
	if f.CallbackSentAt != nil {
		c.CallbackSentAt = f.CallbackSentAt.time()
	}
	return c, nil
}
