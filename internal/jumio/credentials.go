package jumio

import (
	"errors"
	"fmt"
)

// Credentials are an OAuth2 client at Jumio or, with Basic authentication, an API
// user. However they are printed, marshalled or logged, neither half shows.
type Credentials struct {
	ClientID     string
	ClientSecret string
}

const redacted = "[redacted]"

// Format implements fmt.Formatter, so that no verb at all shows anything.
func (Credentials) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// MarshalJSON implements json.Marshaler without showing anything.
func (Credentials) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// check reports a missing half.
func (c Credentials) check() error {
	switch {
	case c.ClientID == "":
		return errors.New("the client id is missing")
	case c.ClientSecret == "":
		return errors.New("the client secret is missing")
	}
	return nil
}
