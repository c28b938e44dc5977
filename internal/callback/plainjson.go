package callback

import (
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// mostPlainNesting is far more than a callback has.
const mostPlainNesting = 100

// readPlainJSON reads what nearly every callback is, in a sixth of the time that
// encoding/json takes: valid JSON, in valid UTF-8, with no escapes and little nesting.
// It returns false for anything else, which is left to decodeObject; if it returns
// true, the result is the same.
func (d *draft) readPlainJSON(text string) bool {
	if strings.IndexByte(text, '\\') >= 0 || !utf8.ValidString(text) ||
		strings.Count(text, "{")+strings.Count(text, "[") > mostPlainNesting || !gjson.Valid(text) {
		return false
	}
	gjson.Parse(text).ForEach(func(name, value gjson.Result) bool {
		d.set(name.Str, plainScalar(value), nil)
		if (name.Str == workflowExecution || name.Str == account) && value.IsObject() {
			value.ForEach(func(member, value gjson.Result) bool {
				d.setMember(name.Str, member.Str, plainScalar(value))
				return true
			})
		}
		return true
	})
	return true
}

// plainScalar is scalar for gjson's values.
func plainScalar(value gjson.Result) string {
	switch value.Type {
	case gjson.String:
		return value.Str
	case gjson.Number:
		return value.Raw
	default:
		return ""
	}
}
