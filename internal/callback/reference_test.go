package callback

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// The mac was computed with openssl: printf 'callbackd userReference v1\0ref-1' |
// openssl dgst -sha256 -hmac key -binary | head -c 16 | basenc --base64url
const signedRef1 = "ref-1.2QiOUM6U82yzFCfp8sWwhA"

func TestSignUserReference(t *testing.T) {
	got, err := SignUserReference("key", "ref-1")
	if err != nil || got != signedRef1 {
		t.Errorf("SignUserReference = %q, %v; want %q", got, err, signedRef1)
	}
}

func TestSignUserReferenceStaysWithinJumiosLimit(t *testing.T) {
	for _, char := range []string{"a", "ä", "🙂"} {
		signed, err := SignUserReference("key", strings.Repeat(char, 77))
		if err != nil {
			t.Fatalf("77 characters %q: %v", char, err)
		}
		if n := utf8.RuneCountInString(signed); n != 100 {
			t.Errorf("77 characters %q are signed with %d characters, want 100", char, n)
		}
		if err := VerifyUserReference("key", signed); err != nil {
			t.Errorf("verify: %v", err)
		}
		_, err = SignUserReference("key", strings.Repeat(char, 78))
		if err == nil || !strings.Contains(err.Error(), "77") {
			t.Errorf("78 characters %q: error %v, want one that says 77", char, err)
		}
	}
}

func TestSignUserReferenceRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ key, reference string }{
		"no key":            {"", "a"},
		"empty":             {"key", ""},
		"less than":         {"key", "secret<"},
		"greater than":      {"key", "secret>"},
		"quote":             {"key", `secret"`},
		"slash":             {"key", "secret/"},
		"semicolon":         {"key", "secret;"},
		"percent":           {"key", "secret%"},
		"newline":           {"key", "secret\n"},
		"NUL":               {"key", "secret\x00"},
		"delete":            {"key", "secret\x7f"},
		"C1 control":        {"key", "secret\u0085"},
		"invalid UTF-8":     {"key", "secret\xff"},
		"longer than Jumio": {"key", "secret" + strings.Repeat("a", 95)},
	} {
		t.Run(name, func(t *testing.T) {
			signed, err := SignUserReference(tc.key, tc.reference)
			if err == nil {
				t.Fatalf("signed as %q", signed)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error %q shows the reference", err)
			}
		})
	}
}

func TestVerifyUserReference(t *testing.T) {
	mac := strings.TrimPrefix(signedRef1, "ref-1.")
	for name, tc := range map[string]struct {
		key, signed string
		want        error
	}{
		"ours":                           {"key", signedRef1, nil},
		"absent":                         {"key", "", ErrUserReferenceUnsigned},
		"unsigned":                       {"key", "ref-1", ErrUserReferenceUnsigned},
		"a dot elsewhere":                {"key", "ref.1", ErrUserReferenceUnsigned},
		"only a mac":                     {"key", "." + mac, ErrUserReferenceUnsigned},
		"a short mac":                    {"key", "ref-1." + mac[:21], ErrUserReferenceUnsigned},
		"another reference":              {"key", "ref-2." + mac, ErrUserReferenceInvalid},
		"another key":                    {"key2", signedRef1, ErrUserReferenceInvalid},
		"another mac":                    {"key", "ref-1." + strings.Repeat("A", 22), ErrUserReferenceInvalid},
		"another text of the same bytes": {"key", signedRef1[:len(signedRef1)-1] + next(signedRef1), ErrUserReferenceInvalid},
		"no base64":                      {"key", "ref-1." + strings.Repeat("!", 22), ErrUserReferenceInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			if err := VerifyUserReference(tc.key, tc.signed); !errors.Is(err, tc.want) {
				t.Errorf("VerifyUserReference = %v, want %v", err, tc.want)
			}
		})
	}
}

// next returns the character after s's last one: in the last of 22 base64
// characters only unused bits differ.
func next(s string) string { return string(s[len(s)-1] + 1) }
