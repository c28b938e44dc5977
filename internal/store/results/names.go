package results

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/callback"
)

// rejectedNames is what a rejected callback may name somebody by.
type rejectedNames struct {
	ID                                  uuid.UUID
	WorkflowExecutionID, AccountID, Ref string
	Body                                []byte
}

const selectRejectedNames = `
	SELECT rejected_id, workflow_execution_id, account_id, user_reference, body FROM callbackd.rejected_callbacks`

// columns are what selectRejectedNames is scanned into.
func (r *rejectedNames) columns() []any {
	return []any{&r.ID, (*zeronull.Text)(&r.WorkflowExecutionID), (*zeronull.Text)(&r.AccountID), (*zeronull.Text)(&r.Ref), &r.Body}
}

func scanRejectedNames(row pgx.CollectableRow) (r rejectedNames, err error) {
	return r, row.Scan(r.columns()...)
}

// readings returns the ways in which a body may be read: as it is, and with JSON's escapes,
// percent-encoding, or both decoded.
func readings(body []byte) []string {
	raw := string(body)
	texts := []string{raw}
	if strings.ContainsAny(raw, "%+") {
		texts = append(texts, unescapePercent(raw))
	}
	for _, text := range texts {
		if strings.Contains(text, `\`) {
			texts = append(texts, unescapeJSON(text))
		}
	}
	return texts
}

// unescapePercent decodes percent-encoding and "+" wherever they are right, whatever the
// rest is.
func unescapePercent(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '+':
			b.WriteByte(' ')
		case text[i] == '%' && i+2 < len(text):
			if c, err := url.PathUnescape(text[i : i+3]); err == nil {
				b.WriteString(c)
				i += 2
				continue
			}
			b.WriteByte('%')
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// unescapeJSON decodes JSON's escapes (RFC 8259, section 7) wherever they are, whatever
// the rest is.
func unescapeJSON(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		unit, ok := unicodeEscape(text[i:])
		if !ok {
			b.WriteByte(text[i]) // a quote, a slash; the others are in no id
			continue
		}
		i += 4
		if utf16.IsSurrogate(unit) && strings.HasPrefix(text[i+1:], `\`) {
			if low, ok := unicodeEscape(text[i+2:]); ok {
				unit = utf16.DecodeRune(unit, low)
				i += 6
			}
		}
		b.WriteRune(unit)
	}
	return b.String()
}

// unicodeEscape reads "uXXXX".
func unicodeEscape(text string) (rune, bool) {
	if len(text) < 5 || text[0] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(text[1:5], 16, 16)
	return rune(n), err == nil
}

// finder looks for names in rejected callbacks.
type finder struct {
	names map[string]bool
	list  []string
}

func newFinder(list []string) *finder {
	f := &finder{names: map[string]bool{}, list: list}
	for _, name := range list {
		f.names[name] = true
	}
	return f
}

// in reports whether a rejected callback names one of the names.
func (f *finder) in(r *rejectedNames) bool {
	if f.names[r.WorkflowExecutionID] || f.names[r.AccountID] || f.names[r.Ref] {
		return true
	}
	for _, text := range readings(r.Body) {
		for _, name := range f.list {
			if contains(text, name) {
				return true
			}
		}
	}
	return false
}

// contains reports whether a text has a name in it, not as a part of a longer one.
func contains(text, name string) bool {
	for from := 0; name != ""; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(name)
		if (start == 0 || !idByte(text[start-1])) && (end == len(text) || !idByte(text[end])) {
			return true
		}
		from = start + 1
	}
	return false
}

func idByte(c byte) bool {
	return c >= utf8.RuneSelf || callback.ValidID(string(rune(c)))
}

// ids returns whatever in a body may be an id, each once.
func ids(body []byte) map[string]bool {
	found := map[string]bool{}
	for _, text := range readings(body) {
		for _, id := range strings.FieldsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf || !callback.ValidID(string(r)) }) {
			if callback.ValidID(id) {
				found[id] = true
			}
		}
	}
	return found
}
