package jumio

import (
	"fmt"
)

// Secret is a token, or an address with a token in it. However it is printed, marshalled
// or logged, it does not show.
type Secret string

// Reveal gives the text, for whoever asked Jumio for it.
func (s Secret) Reveal() string { return string(s) }

// Format implements fmt.Formatter, so that no verb at all shows anything.
func (Secret) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// MarshalJSON implements json.Marshaler without showing anything.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Answer is what Jumio answered, byte for byte, with all fields that this package does
// not know. It may hold tokens, so it shows as little as a Secret.
type Answer []byte

// Reveal gives the bytes, for whoever asked Jumio for them.
func (a Answer) Reveal() []byte { return a }

// Format implements fmt.Formatter, so that no verb at all shows anything.
func (Answer) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// MarshalJSON implements json.Marshaler without showing anything.
func (Answer) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
