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
	// macDomain separates our MACs from any others made with the same key.
	macDomain = "callbackd userReference v1\x00"
	// forbiddenChars are not allowed in Jumio's references.
	forbiddenChars = `<>"/;%`
)

// Errors of VerifyUserReference. Their texts are reasons for rejecting a callback.
var (
	ErrUserReferenceUnsigned = errors.New("user_reference_unsigned")
	ErrUserReferenceInvalid  = errors.New("user_reference_invalid")
)

// SignUserReference returns "<userReference>.<mac>", to be given to Jumio as the
// account's userReference (guide, "Account Creation"). The mac is HMAC-SHA-256 with
// the key, truncated to 128 bits, in base64url. It fails if the key is empty, or if
// the reference is empty, longer than 77 characters (Jumio allows 100 including the
// mac), or contains what Jumio forbids: < > " / ; % and control characters.
func SignUserReference(key, userReference string) (string, error) {
	const longest = jumioUserReference - 1 - macChars
	problem := ""
	switch n := utf8.RuneCountInString(userReference); {
	case key == "":
		problem = "the key is empty"
	case n == 0:
		problem = "it is empty"
	case !utf8.ValidString(userReference):
		problem = "it is not valid UTF-8"
	case strings.ContainsAny(userReference, forbiddenChars) || strings.ContainsFunc(userReference, unicode.IsControl):
		problem = "it must not contain " + forbiddenChars + " or control characters"
	case n > longest:
		problem = fmt.Sprintf("it has %d characters, at most %d are allowed", n, longest)
	}
	if problem != "" {
		return "", errors.New("sign userReference: " + problem)
	}
	return userReference + "." + userReferenceMAC(key, userReference), nil
}

// VerifyUserReference checks a callback's userReference. The error is
// ErrUserReferenceUnsigned if it does not have the form of a signed one, and
// ErrUserReferenceInvalid if its mac is not ours.
func VerifyUserReference(key, signed string) error {
	dot := len(signed) - macChars - 1
	if dot < 1 || signed[dot] != '.' {
		return ErrUserReferenceUnsigned
	}
	// Compare the texts, not the decoded bytes: in base64, several texts stand for
	// the same bytes.
	want := userReferenceMAC(key, signed[:dot])
	if !hmac.Equal([]byte(want), []byte(signed[dot+1:])) {
		return ErrUserReferenceInvalid
	}
	return nil
}

// UnsignedReference returns a userReference without our signature, or as it is if it has
// none, or if the key is empty.
func UnsignedReference(key, userReference string) string {
	if key == "" || VerifyUserReference(key, userReference) != nil {
		return userReference
	}
	return userReference[:len(userReference)-macChars-1]
}

func userReferenceMAC(key, userReference string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(macDomain))
	mac.Write([]byte(userReference))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:macBytes])
}
