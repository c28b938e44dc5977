package callback

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"
)

// DecodeError says why a body is not a callback: one of the codes below. It never
// contains any of the body.
type DecodeError string

// The codes of a DecodeError. In a rejected callback's reason they follow
// "malformed: ".
const (
	// ErrEmptyBody: no bytes, or only white space.
	ErrEmptyBody DecodeError = "empty_body"
	// ErrInvalidJSON: begins as a JSON object but is not one.
	ErrInvalidJSON DecodeError = "invalid_json"
	// ErrTruncatedJSON: the body ends within a JSON object.
	ErrTruncatedJSON DecodeError = "truncated_json"
	// ErrTrailingData: something follows the JSON object.
	ErrTrailingData DecodeError = "trailing_data"
	// ErrInvalidForm: a form with broken percent-encoding.
	ErrInvalidForm DecodeError = "invalid_form"
	// ErrNotACallback: neither a JSON object nor a form with a callback's fields.
	ErrNotACallback DecodeError = "not_a_callback"
	// ErrMissingID: no workflowExecution.id, or neither a string nor a number.
	ErrMissingID DecodeError = "missing_workflow_execution_id"
	// ErrInvalidID: a workflowExecution.id that is not a ValidID.
	ErrInvalidID DecodeError = "invalid_workflow_execution_id"
	// ErrIncompleteBody: the body did not arrive whole, or was not kept whole;
	// Decode never returns it.
	ErrIncompleteBody DecodeError = "incomplete_body"
)

func (e DecodeError) Error() string { return string(e) }

// Decode reads a callback's body in any of its forms, whatever the Content-Type:
// JSON; a form with dotted or bracketed keys or with JSON-valued fields; a form whose
// only key or value is the whole JSON text. Names are matched exactly; of duplicates,
// the last one counts. A field that is neither a string nor a number is empty.
//
// The workflow execution's id is valid, and all strings are valid UTF-8 without NUL;
// Bound has yet to limit the other fields. ID, ReceivedAt, SourceIP, ContentType and
// Body are left empty. The error is a DecodeError.
func Decode(body []byte) (*Callback, error) {
	d, err := decode(body)
	if err != nil {
		return nil, err
	}
	return d.checked()
}

func decode(body []byte) (*draft, error) {
	text := strings.TrimSpace(strings.TrimPrefix(string(body), "\ufeff"))
	switch {
	case len(text) == 0:
		return nil, ErrEmptyBody
	case text[0] == '[' || text[0] == '"':
		return nil, ErrNotACallback
	case text[0] == '{' && !strings.HasPrefix(text, "{%"):
		// In a form whose only key is the JSON text, not percent-encoded, at most a
		// "=" follows.
		return decodeJSON(strings.TrimSuffix(text, "="))
	default:
		return decodeForm(text)
	}
}

// The members of a callback that are objects.
const (
	workflowExecution = "workflowExecution"
	account           = "account"
)

// draft is a callback with its fields as written in the body.
type draft struct {
	Callback
	callbackSentAt string
}

func decodeJSON(text string) (*draft, error) {
	d := new(draft)
	if d.readPlainJSON(text) {
		return d, nil
	}
	top, err := decodeObject(text)
	if err != nil {
		return nil, err
	}
	for name, value := range top {
		members, _ := value.(object)
		d.set(name, scalar(value), members)
	}
	return d, nil
}

func decodeForm(text string) (*draft, error) {
	d := new(draft)
	single := !strings.Contains(text, "&")
	found := false
	// Not url.ParseQuery, which rejects an unencoded semicolon.
	for pair := range strings.SplitSeq(text, "&") {
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, keyErr := url.QueryUnescape(rawKey)
		value, valueErr := url.QueryUnescape(rawValue)
		if keyErr != nil || valueErr != nil {
			return nil, ErrInvalidForm
		}
		if d.setFormField(key, value) {
			found = true
			continue
		}
		if single {
			if whole := strings.TrimSpace(key); strings.HasPrefix(whole, "{") {
				return decodeJSON(whole)
			}
			if whole := strings.TrimSpace(value); strings.HasPrefix(whole, "{") {
				return decodeJSON(whole)
			}
		}
	}
	if !found {
		return nil, ErrNotACallback
	}
	return d, nil
}

// setFormField takes one field of a form and reports whether it is a callback's.
func (d *draft) setFormField(key, value string) bool {
	switch key {
	case "callbackSentAt", "userReference":
		d.set(key, value, nil)
		return true
	case workflowExecution, account:
		members, _ := decodeObject(value) // none if it is not a JSON object
		d.set(key, "", members)
		return true
	}
	for _, object := range []string{workflowExecution, account} {
		if name, ok := memberName(key, object); ok {
			d.setMember(object, name, value)
			return true
		}
	}
	return false
}

// memberName returns "id" for the keys "account.id" and "account[id]" of the
// object "account".
func memberName(key, object string) (string, bool) {
	rest, ok := strings.CutPrefix(key, object)
	if !ok || rest == "" {
		return "", false
	}
	if rest[0] == '.' {
		return rest[1:], true
	}
	if rest[0] == '[' && rest[len(rest)-1] == ']' {
		return rest[1 : len(rest)-1], true
	}
	return "", false
}

// object is a JSON object. It is not a struct because encoding/json ignores case when
// it fills one. Like jsonb, it keeps the last of duplicate names.
type object = map[string]any

// decodeObject returns an object, or nil and a DecodeError.
func decodeObject(text string) (object, error) {
	o := object{}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	switch err := dec.Decode(&o); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, ErrTruncatedJSON
	case err != nil || o == nil: // null
		return nil, ErrInvalidJSON
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, ErrTrailingData
	}
	return o, nil
}

// scalar returns a JSON string's content, or a number as it was written. For other
// values it returns "": one odd field must not cost the callback.
func scalar(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return ""
	}
}

// set replaces a member of the callback: a scalar by text, an object by members.
func (d *draft) set(name, text string, members object) {
	switch name {
	case "callbackSentAt":
		d.callbackSentAt = text
	case "userReference":
		d.UserReference = text
	case workflowExecution, account:
		d.clear(name)
		for member, value := range members {
			d.setMember(name, member, scalar(value))
		}
	}
}

func (d *draft) clear(object string) {
	if object == account {
		d.AccountID, d.AccountHref = "", ""
	} else {
		d.WorkflowExecutionID, d.WorkflowStatus, d.WorkflowHref, d.DefinitionKey = "", "", "", ""
	}
}

// setMember sets a member of one of the callback's objects.
func (d *draft) setMember(object, name, text string) {
	switch {
	case object == account && name == "id":
		d.AccountID = text
	case object == account && name == "href":
		d.AccountHref = text
	case object == account:
	case name == "id":
		d.WorkflowExecutionID = text
	case name == "status":
		d.WorkflowStatus = text
	case name == "href":
		d.WorkflowHref = text
	case name == "definitionKey":
		d.DefinitionKey = text
	}
}

func (d *draft) checked() (*Callback, error) {
	switch {
	case d.WorkflowExecutionID == "":
		return nil, ErrMissingID
	case !ValidID(d.WorkflowExecutionID):
		return nil, ErrInvalidID
	}
	for _, field := range []*string{
		&d.WorkflowStatus, &d.WorkflowHref, &d.DefinitionKey, &d.AccountID, &d.AccountHref, &d.UserReference,
	} {
		*field = CleanText(*field)
	}
	d.CallbackSentAt = parseTime(d.callbackSentAt)
	return &d.Callback, nil
}

// parseTime reads the guide's YYYY-MM-DDThh:mm:ss.SSSZ and the rest of RFC 3339.
// A time that is unreadable, or whose year in UTC is not 1 to 9999, is the zero
// time.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, strings.ToUpper(strings.TrimSpace(s)))
	t = t.UTC()
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
