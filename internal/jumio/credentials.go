package jumio

import (
	"errors"
	"fmt"
)

// Credentials are an OAuth2 client (or, with Basic authentication, an API
// user) of Jumio. However they are printed, marshalled or logged, neither half
// shows.
type Credentials struct {
	ClientID     string
	ClientSecret string
}

const redacted = "[redacted]"

// String implements fmt.Stringer without showing anything.
func (Credentials) String() string { return redacted }

// GoString implements fmt.GoStringer without showing anything.
func (Credentials) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb at all shows anything.
func (Credentials) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// MarshalJSON implements json.Marshaler without showing anything.
func (Credentials) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// check reports credentials of which only one half is there.
func (c Credentials) check() error {
	switch {
	case c.ClientID == "":
		return errors.New("the client id is missing")
	case c.ClientSecret == "":
		return errors.New("the client secret is missing")
	}
	return nil
}
