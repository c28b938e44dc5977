package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// jumioUserReference is Jumio's limit for userReference, in characters.
	jumioUserReference = 100
	// macBytes is how much of the HMAC is kept: 128 bits.
	macBytes = 16
	// macChars is the length of those bytes in base64url without padding.
	macChars = 22
	// macDomain keeps our MACs apart from any others made with the same key.
	macDomain = "callbackd userReference v1\x00"
	// forbiddenChars are refused by Jumio in references.
	forbiddenChars = `<>"/;%`
)

// Errors of VerifyUserReference; their texts are the reasons of rejected
// callbacks.
var (
	ErrUserReferenceUnsigned = errors.New("user_reference_unsigned")
	ErrUserReferenceInvalid  = errors.New("user_reference_invalid")
)

// SignUserReference returns "<userReference>.<mac>", which is to be given to
// Jumio as the account's userReference. The mac is HMAC-SHA-256 with the key,
// cut to 128 bits, in base64url. It fails for an empty key, and for a reference
// that is empty, longer than 77 characters (Jumio allows 100 for the whole) or
// holds what Jumio forbids: < > " / ; % and control characters.
func SignUserReference(key, userReference string) (string, error) {
	if key == "" {
		return "", errors.New("sign userReference: the key is empty")
	}
	if userReference == "" {
		return "", errors.New("sign userReference: it is empty")
	}
	if !utf8.ValidString(userReference) {
		return "", errors.New("sign userReference: it is not valid UTF-8")
	}
	if strings.ContainsAny(userReference, forbiddenChars) || strings.ContainsFunc(userReference, unicode.IsControl) {
		return "", fmt.Errorf("sign userReference: it must hold none of %s and no control characters", forbiddenChars)
	}
	const longest = jumioUserReference - 1 - macChars
	if n := utf8.RuneCountInString(userReference); n > longest {
		return "", fmt.Errorf("sign userReference: it has %d characters, at most %d are possible", n, longest)
	}
	return userReference + "." + userReferenceMAC(key, userReference), nil
}

// VerifyUserReference checks a userReference that came with a callback. The
// error is ErrUserReferenceUnsigned when it does not have the form of a signed
// one, ErrUserReferenceInvalid when its mac is not ours.
func VerifyUserReference(key, signed string) error {
	dot := len(signed) - macChars - 1
	if dot < 1 || signed[dot] != '.' {
		return ErrUserReferenceUnsigned
	}
	// The texts are compared, not the decoded bytes: base64 has several texts
	// for the same bytes.
	want := userReferenceMAC(key, signed[:dot])
	if !hmac.Equal([]byte(want), []byte(signed[dot+1:])) {
		return ErrUserReferenceInvalid
	}
	return nil
}

func userReferenceMAC(key, userReference string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(macDomain))
	mac.Write([]byte(userReference))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:macBytes])
}
