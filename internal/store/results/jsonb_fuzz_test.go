package results_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store/storetest"
)

// Whatever Jumio sends as details: a JSON text gets into Postgres as jsonb, says
// there what encoding/json reads in it, and no view fails on it; any other bytes
// are kept as they are.
func FuzzDetails(f *testing.F) {
	for _, seed := range []string{
		`{"a":"x\u0000y","b\u0000":"\ud800","c":"\ud83d\ude00","d":"` + "\xff" + `"}`,
		`{"a":1e999999,"b":-1E-999999,"c":1e131072,"d":0.1e1000,"e":-0,"f":1.50,"g":123456789012345678901234567890}`,
		`{"a":` + strings.Repeat("9", 1001) + `,"b":[` + strings.Repeat(`[{"":`, 3) + "null" + strings.Repeat("}]", 3) + `]}`,
		`{"a":"first","a":"last","a\u0000":1,"a\ud800":2,"a` + "\ufffd" + `":3}`,
		`{"a":"<b>&\u2028\"\\\/\b\f\n\r\t\u007f"}`,
		`{"createdAt":"2021-03-12T15:47:17.234Z","startedAt":"2021-13-12T15:47:17+99:99","completedAt":"0000-00-00T99:99:99.9Z"}`,
		`{"createdAt":"٢٠٢١-03-12T15:47:17Z","startedAt":"9999-12-31T24:00:00-14","completedAt":"294277-01-01T00:00:00Z"}`,
		`{"workflow":[],"account":"a","capabilities":{"extraction":[{"data":{"dateOfBirth":"2021-02-30","expiryDate":"٢٠٢١-01-01","address":null}}]}}`,
		`{"capabilities":{"extraction":{"data":{"dateOfBirth":"0000-01-01","expiryDate":20210101,"issuingDate":["2021-01-01"],"gender":{}}}}}`,
		`{"capabilities":{"x":[1,[],{"credentials":{"id":1},"decision":[]}],"y":{"credentials":[{"id":null},{"id":"\u0000"}],"decision":{"type":{},"details":{"label":7}}}}}`,
		"[]", "null", "7", `"x"`, "", " ", "{", "{}{}", "\ufeff{}", "nul",
	} {
		f.Add([]byte(seed))
	}
	s := storetest.New(f)
	n := 0
	f.Fuzz(func(t *testing.T, body []byte) {
		n++
		id := fmt.Sprintf("w%d", n)
		storetest.SeedDetails(t, s, id, string(body))
		got := storetest.Scalar[*string](t, s, `SELECT details::text FROM callbackd.details WHERE workflow_execution_id = $1`, id)
		want, valid := decodeTree(string(body))
		switch {
		case (got != nil) != valid:
			t.Errorf("%q: in the database is %v", body, got)
		case valid:
			stored, ok := decodeTree(*got)
			if !ok {
				t.Fatalf("%q: in the database is no JSON: %q", body, *got)
			}
			if diff := cmp.Diff(want, stored); diff != "" {
				t.Errorf("%q (-want +got):\n%s", body, diff)
			}
		}
		if kept := storetest.Scalar[[]byte](t, s, `SELECT body FROM callbackd.details WHERE workflow_execution_id = $1`, id); string(kept) != string(body) {
			t.Errorf("%q: kept as %q", body, kept)
		}
		for _, view := range []string{"workflow_executions", "capabilities", "extracted_documents"} {
			storetest.Query(t, s, "SELECT v::text FROM jumio."+view+" AS v WHERE workflow_execution_id = $1", id) // every column
		}
		storetest.Query(t, s, `DELETE FROM callbackd.details`)
	})
}

// decodeTree reads a JSON text with encoding/json, which has U+FFFD for lone
// surrogates and invalid UTF-8 and the last of duplicate names.
func decodeTree(text string) (any, bool) {
	if !json.Valid([]byte(text)) {
		return nil, false
	}
	in := json.NewDecoder(strings.NewReader(withoutNUL(text)))
	in.UseNumber()
	var tree any
	if err := in.Decode(&tree); err != nil {
		return nil, false
	}
	return asStored(tree, 1), true
}

// withoutNUL replaces the escape \u0000, which jsonb cannot hold.
func withoutNUL(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], `\u0000`):
			b.WriteString(`\ufffd`)
			i += 5
		case text[i] == '\\':
			b.WriteString(text[i : i+2])
			i++
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// asStored replaces numbers and nesting that are too large for jsonb, and writes
// numbers in a form that can be compared.
func asStored(value any, depth int) any {
	switch v := value.(type) {
	case json.Number:
		_, exponent, _ := strings.Cut(strings.ToLower(v.String()), "e")
		digits := strings.TrimLeft(exponent, "+-0")
		if len(digits) > 4 || len(digits) == 4 && digits > "1000" || len(v) > 1000 {
			return "\uFFFD"
		}
		r, _ := new(big.Rat).SetString(v.String())
		return r.RatString()
	case []any:
		if depth > 1000 {
			return "\uFFFD"
		}
		for i := range v {
			v[i] = asStored(v[i], depth+1)
		}
	case map[string]any:
		if depth > 1000 {
			return "\uFFFD"
		}
		for name := range v {
			v[name] = asStored(v[name], depth+1)
		}
	}
	return value
}
