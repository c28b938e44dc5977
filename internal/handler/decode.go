package handler

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"callbackd/internal/store"
)

// Fields is what a callback says (guide, "Callback Parameters"). An optional
// field that is absent, or no string or number, is empty. All strings are valid
// UTF-8 without NUL, so that Postgres can hold them.
type Fields struct {
	// WorkflowExecutionID matches ^[A-Za-z0-9_-]{1,64}$.
	WorkflowExecutionID string
	// WorkflowStatus is an open string: Jumio adds statuses.
	WorkflowStatus string
	WorkflowHref   string
	DefinitionKey  string
	// AccountID is as it came; store.Callback.Bound drops what is no id.
	AccountID     string
	AccountHref   string
	UserReference string
	// CallbackSentAt is in UTC; zero when absent or unreadable.
	CallbackSentAt time.Time
}

// DecodeError says why a body is no callback: one of the codes below. It never
// holds anything of the body.
type DecodeError string

// The codes of a DecodeError. In a rejected callback's reason they follow
// "malformed: ".
const (
	// ErrEmptyBody: no bytes, or only white space.
	ErrEmptyBody DecodeError = "empty_body"
	// ErrInvalidJSON: begins as a JSON object and is none.
	ErrInvalidJSON DecodeError = "invalid_json"
	// ErrTruncatedJSON: the body ends within a JSON object.
	ErrTruncatedJSON DecodeError = "truncated_json"
	// ErrTrailingData: something follows the JSON object.
	ErrTrailingData DecodeError = "trailing_data"
	// ErrInvalidForm: a form with broken percent-encoding.
	ErrInvalidForm DecodeError = "invalid_form"
	// ErrNotACallback: neither a JSON object nor a form with a callback's fields.
	ErrNotACallback DecodeError = "not_a_callback"
	// ErrMissingID: no workflowExecution.id, or one that is no string or number.
	ErrMissingID DecodeError = "missing_workflow_execution_id"
	// ErrInvalidID: a workflowExecution.id that does not match
	// ^[A-Za-z0-9_-]{1,64}$.
	ErrInvalidID DecodeError = "invalid_workflow_execution_id"
	// ErrIncompleteBody: the body did not arrive whole; given by the listener,
	// not by DecodeCallback.
	ErrIncompleteBody DecodeError = "incomplete_body"
)

func (e DecodeError) Error() string { return string(e) }

// DecodeCallback reads a callback's body in all the forms in which it may come,
// without regard to any Content-Type: JSON; a form with dotted or bracketed
// keys or with JSON-valued fields; a form whose single key or value is the whole
// JSON text. Names are matched exactly, the last of duplicates holds. An error
// is a DecodeError.
func DecodeCallback(body []byte) (Fields, error) {
	text := strings.TrimSpace(strings.TrimPrefix(string(body), "\ufeff"))
	switch {
	case len(text) == 0:
		return Fields{}, ErrEmptyBody
	case text[0] == '[' || text[0] == '"':
		return Fields{}, ErrNotACallback
	case text[0] == '{' && !strings.HasPrefix(text, "{%"):
		// A form whose single key is the JSON text, not percent-encoded, has at
		// most a "=" at its end.
		return decodeJSON(strings.TrimSuffix(text, "="))
	default:
		return decodeForm(text)
	}
}

// document is a callback before its fields are checked.
type document struct {
	callbackSentAt, userReference string
	workflowExecution, account    object
}

func decodeJSON(text string) (Fields, error) {
	if f, ok := decodePlainJSON(text); ok {
		return f.checked()
	}
	top, err := decodeObject(text)
	if err != nil {
		return Fields{}, err
	}
	d := document{
		callbackSentAt: scalar(top["callbackSentAt"]),
		userReference:  scalar(top["userReference"]),
	}
	d.workflowExecution, _ = top["workflowExecution"].(object)
	d.account, _ = top["account"].(object)
	return d.fields()
}

func decodeForm(text string) (Fields, error) {
	single := !strings.Contains(text, "&")
	d := document{workflowExecution: object{}, account: object{}}
	found := false
	// Not url.ParseQuery, which refuses an unencoded semicolon.
	for pair := range strings.SplitSeq(text, "&") {
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, keyErr := url.QueryUnescape(rawKey)
		value, valueErr := url.QueryUnescape(rawValue)
		if keyErr != nil || valueErr != nil {
			return Fields{}, ErrInvalidForm
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
		return Fields{}, ErrNotACallback
	}
	return d.fields()
}

// setFormField takes in one field of a form and reports whether it is a
// callback's.
func (d *document) setFormField(key, value string) bool {
	switch key {
	case "callbackSentAt":
		d.callbackSentAt = value
		return true
	case "userReference":
		d.userReference = value
		return true
	case "workflowExecution":
		d.workflowExecution = decodeMember(value)
		return true
	case "account":
		d.account = decodeMember(value)
		return true
	}
	if name, ok := memberName(key, "workflowExecution"); ok {
		d.workflowExecution[name] = value
		return true
	}
	if name, ok := memberName(key, "account"); ok {
		d.account[name] = value
		return true
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

// object is a JSON object. No struct, because encoding/json ignores case when it
// fills one. Like jsonb, it keeps the last of duplicate names.
type object = map[string]any

// decodeObject returns an object that is not nil, or a DecodeError.
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

// decodeMember reads a form's JSON-valued field; what is no JSON object is an
// empty one.
func decodeMember(text string) object {
	o, err := decodeObject(text)
	if err != nil {
		return object{}
	}
	return o
}

// scalar is a JSON string's content or a number's text as it was written. Other
// values count as absent: an odd value in one field must not lose a callback.
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

func (d *document) fields() (Fields, error) {
	return rawFields{
		workflowExecutionID: scalar(d.workflowExecution["id"]),
		status:              scalar(d.workflowExecution["status"]),
		href:                scalar(d.workflowExecution["href"]),
		definitionKey:       scalar(d.workflowExecution["definitionKey"]),
		accountID:           scalar(d.account["id"]),
		accountHref:         scalar(d.account["href"]),
		userReference:       d.userReference,
		callbackSentAt:      d.callbackSentAt,
	}.checked()
}

// rawFields are a callback's fields as they are written in its body; what is
// absent is empty.
type rawFields struct {
	workflowExecutionID, status, href, definitionKey string
	accountID, accountHref                           string
	userReference, callbackSentAt                    string
}

func (f rawFields) checked() (Fields, error) {
	switch {
	case f.workflowExecutionID == "":
		return Fields{}, ErrMissingID
	case !store.ValidID(f.workflowExecutionID):
		return Fields{}, ErrInvalidID
	}
	return Fields{
		WorkflowExecutionID: f.workflowExecutionID,
		WorkflowStatus:      store.CleanText(f.status),
		WorkflowHref:        store.CleanText(f.href),
		DefinitionKey:       store.CleanText(f.definitionKey),
		AccountID:           store.CleanText(f.accountID),
		AccountHref:         store.CleanText(f.accountHref),
		UserReference:       store.CleanText(f.userReference),
		CallbackSentAt:      parseTime(f.callbackSentAt),
	}, nil
}

// parseTime reads the guide's YYYY-MM-DDThh:mm:ss.SSSZ and the rest of RFC 3339.
// A time that cannot be read, or whose year in UTC is not 1 to 9999, is the zero
// time.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, strings.ToUpper(strings.TrimSpace(s)))
	t = t.UTC()
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
