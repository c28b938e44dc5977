// Package tombstone makes hashes by which what is erased is recognised when it comes
// again, without anybody being able to tell from the hash what it was.
//
// It is pure: where tombstones are kept, and who asks for them, is up to
// internal/store/results.
package tombstone

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// Kind is what an id is of.
type Kind string

// The kinds.
const (
	Account           Kind = "account"
	UserReference     Kind = "user_reference"
	WorkflowExecution Kind = "workflow_execution"
)

// Subject is an id with its kind. A user reference is one without our signature.
type Subject struct {
	Kind Kind
	ID   string
}

// LeastKey is the least length of a key's secret, in bytes.
const LeastKey = 16

// Key makes hashes. The zero Key makes none. Printing one shows nothing.
type Key struct{ secret string }

// NewKey returns the key with a secret, which may be empty.
func NewKey(secret string) Key { return Key{secret} }

// IsZero reports whether there is no secret.
func (k Key) IsZero() bool { return k.secret == "" }

// Format implements fmt.Formatter, so that no verb shows the secret.
func (Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[redacted]")) }

// Hash returns the HMAC-SHA-256 of the kind, a zero byte and the id.
func (k Key) Hash(s Subject) []byte { return k.sum(string(s.Kind) + "\x00" + s.ID) }

// Check returns the HMAC-SHA-256 of a constant, by which one key is told from another.
func (k Key) Check() []byte { return k.sum("callbackd erasure key v1") }

func (k Key) sum(text string) []byte {
	mac := hmac.New(sha256.New, []byte(k.secret))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
