package handler

import (
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// mostPlainNesting is far more than a callback has.
const mostPlainNesting = 100

// decodePlainJSON reads what a callback nearly always is, in a sixth of the time
// that encoding/json needs: valid JSON, in valid UTF-8, without escapes, nested
// little. It is false for anything else, which decodeObject then reads and
// judges; where it is true, both find the same.
func decodePlainJSON(text string) (rawFields, bool) {
	if strings.IndexByte(text, '\\') >= 0 || !utf8.ValidString(text) ||
		strings.Count(text, "{")+strings.Count(text, "[") > mostPlainNesting || !gjson.Valid(text) {
		return rawFields{}, false
	}
	var f rawFields
	gjson.Parse(text).ForEach(func(name, value gjson.Result) bool {
		switch name.Str {
		case "callbackSentAt":
			f.callbackSentAt = plainScalar(value)
		case "userReference":
			f.userReference = plainScalar(value)
		case "workflowExecution":
			f.setWorkflowExecution(value)
		case "account":
			f.setAccount(value)
		}
		return true
	})
	return f, true
}

// setWorkflowExecution replaces what an earlier member of the same name has set.
func (f *rawFields) setWorkflowExecution(object gjson.Result) {
	f.workflowExecutionID, f.status, f.href, f.definitionKey = "", "", "", ""
	if !object.IsObject() {
		return
	}
	object.ForEach(func(name, value gjson.Result) bool {
		switch name.Str {
		case "id":
			f.workflowExecutionID = plainScalar(value)
		case "status":
			f.status = plainScalar(value)
		case "href":
			f.href = plainScalar(value)
		case "definitionKey":
			f.definitionKey = plainScalar(value)
		}
		return true
	})
}

// setAccount replaces what an earlier member of the same name has set.
func (f *rawFields) setAccount(object gjson.Result) {
	f.accountID, f.accountHref = "", ""
	if !object.IsObject() {
		return
	}
	object.ForEach(func(name, value gjson.Result) bool {
		switch name.Str {
		case "id":
			f.accountID = plainScalar(value)
		case "href":
			f.accountHref = plainScalar(value)
		}
		return true
	})
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
