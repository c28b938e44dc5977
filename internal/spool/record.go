package spool

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"time"

	"callbackd/internal/callback"
)

// A record is a callback in a segment:
//
//	4 bytes  recordMagic, whose last byte is the version
//	4 bytes  CRC-32C of all that follows
//	4 bytes  length of the fields
//	4 bytes  length of the body
//	fields   JSON
//	body     as it was sent
//
// Integers are little-endian. When the log opens a segment, it checks only its end,
// so each record has a checksum of its own. A record also says where it ends, so
// that it can be found even if the log's own frames are damaged.
const (
	recordMagic  = "cbk1"
	recordHeader = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamagedRecord = errors.New("the record is damaged")

// fields are a callback without its body. New fields may be added; to change the
// meaning of one takes a new version in recordMagic.
type fields struct {
	callback.Callback
	ReceivedAt     instant  `json:"received_at"`
	CallbackSentAt *instant `json:"callback_sent_at,omitempty"`
}

// instant is a time in seconds and nanoseconds since 1970.
type instant [2]int64

func newInstant(t time.Time) instant  { return instant{t.Unix(), int64(t.Nanosecond())} }
func (i instant) time() time.Time     { return time.Unix(i[0], i[1]).UTC() }
func isRecord(b []byte) bool          { return len(b) >= recordHeader && string(b[:4]) == recordMagic }
func checksum(b []byte) uint32        { return crc32.Checksum(b, castagnoli) }
func uint32At(b []byte, at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }

func encode(c *callback.Callback) ([]byte, error) {
	f := fields{Callback: *c, ReceivedAt: newInstant(c.ReceivedAt)}
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

// recordLength returns the length of the record at the start of b, or 0 if there is
// none that is whole and undamaged.
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

// decode keeps no reference to b.
func decode(b []byte) (*callback.Callback, error) {
	if recordLength(b) != len(b) {
		return nil, errDamagedRecord
	}
	body := recordHeader + uint32At(b, 8)
	var f fields
	if err := json.Unmarshal(b[recordHeader:body], &f); err != nil {
		return nil, errDamagedRecord // the error's text may quote the fields
	}
	c := &f.Callback
	c.ReceivedAt, c.Body = f.ReceivedAt.time(), append([]byte{}, b[body:]...)
	if f.CallbackSentAt != nil {
		c.CallbackSentAt = f.CallbackSentAt.time()
	}
	return c, nil
}
