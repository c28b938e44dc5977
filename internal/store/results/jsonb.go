package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

const (
	// maxJSONDepth is a nesting that Postgres easily parses at its default
	// max_stack_depth. Only an attack is nested deeper.
	maxJSONDepth = 1000
	replacement  = "\uFFFD"
)

// jsonbText rewrites a JSON text so that jsonb accepts it: U+0000, lone surrogates and
// invalid UTF-8 in strings, numbers beyond numeric's range, and values nested too deep
// become U+FFFD. Everything else stays as written. The result is nil unless body is
// JSON.
func jsonbText(body []byte) *string {
	if body == nil {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	w := jsonWriter{}
	w.out.Grow(len(body))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) && len(w.open) == 0 && w.out.Len() > 0 {
			text := w.out.String()
			return &text
		}
		if err != nil {
			return nil
		}
		w.token(token)
	}
}

// jsonWriter writes the tokens of a JSON text.
type jsonWriter struct {
	out  strings.Builder
	open []level
}

type level struct {
	object bool
	tokens int
}

func (w *jsonWriter) token(t json.Token) {
	switch v := t.(type) {
	case json.Delim:
		w.delim(v)
	case string:
		w.value(quote(v))
	case json.Number:
		w.value(number(v))
	case bool:
		w.value(strconv.FormatBool(v))
	case nil:
		w.value("null")
	}
}

func (w *jsonWriter) delim(d json.Delim) {
	if d == '{' || d == '[' {
		if len(w.open) == maxJSONDepth {
			w.value(quote(replacement))
		} else if len(w.open) < maxJSONDepth {
			w.value(string(d))
		}
		w.open = append(w.open, level{object: d == '{'})
		return
	}
	w.open = w.open[:len(w.open)-1]
	if len(w.open) < maxJSONDepth {
		w.out.WriteRune(rune(d))
	}
}

// value writes a value or a key after its separator, unless it is nested too deep.
func (w *jsonWriter) value(text string) {
	if len(w.open) > maxJSONDepth {
		return
	}
	if n := len(w.open); n > 0 {
		l := &w.open[n-1]
		switch {
		case l.object && l.tokens%2 == 1:
			w.out.WriteByte(':')
		case l.tokens > 0:
			w.out.WriteByte(',')
		}
		l.tokens++
	}
	w.out.WriteString(text)
}

// quote writes a string, which the decoder has already made valid UTF-8.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(strings.ReplaceAll(s, "\x00", replacement)) // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}

// number keeps the digits as written, unless numeric cannot hold them.
func number(n json.Number) string {
	_, exponent, found := strings.Cut(strings.ToLower(n.String()), "e")
	e, err := strconv.Atoi(exponent)
	if len(n) > 1000 || found && (err != nil || e < -1000 || e > 1000) {
		return quote(replacement)
	}
	return n.String()
}
