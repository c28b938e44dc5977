package callback

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// referenceDecode is Decode once more: slow, with nothing but encoding/json, and
// written to be read. Decode's speed must not change its results.
func referenceDecode(body []byte) (*Callback, error) {
	text := strings.TrimSpace(strings.TrimPrefix(string(body), "\ufeff"))
	if text == "" {
		return nil, ErrEmptyBody
	}
	if text[0] == '[' || text[0] == '"' {
		return nil, ErrNotACallback
	}
	if text[0] == '{' && !strings.HasPrefix(text, "{%") {
		return referenceJSON(strings.TrimSuffix(text, "="))
	}
	return referenceForm(text)
}

// members are an object's members; the last of duplicate names holds.
type members map[string]json.RawMessage

func referenceJSON(text string) (*Callback, error) {
	top, err := referenceObject(text)
	if err != nil {
		return nil, err
	}
	// Anything but an object has no members.
	workflowExecution, _ := referenceObject(string(top["workflowExecution"]))
	account, _ := referenceObject(string(top["account"]))
	return referenceFields(top, workflowExecution, account)
}

// referenceObject reads a text that is one JSON object and nothing else.
func referenceObject(text string) (members, error) {
	in := json.NewDecoder(strings.NewReader(text))
	var first json.RawMessage
	if err := in.Decode(&first); errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, ErrTruncatedJSON
	} else if err != nil || first[0] != '{' {
		return nil, ErrInvalidJSON
	}
	rest := text[in.InputOffset():]
	if strings.Trim(rest, " \t\r\n") != "" {
		return nil, ErrTrailingData
	}
	var o members
	if err := json.Unmarshal(first, &o); err != nil {
		return nil, ErrInvalidJSON
	}
	return o, nil
}

func referenceForm(text string) (*Callback, error) {
	top, workflowExecution, account := members{}, members{}, members{}
	pairs := strings.Split(text, "&")
	known := 0
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		key, keyErr := url.QueryUnescape(key)
		value, valueErr := url.QueryUnescape(value)
		if keyErr != nil || valueErr != nil {
			return nil, ErrInvalidForm
		}
		known++
		dottedOrBracketed := referenceKey.FindStringSubmatch(key)
		switch {
		case key == "callbackSentAt" || key == "userReference":
			top[key] = verbatim(value)
		case key == "workflowExecution":
			workflowExecution = referenceMember(value)
		case key == "account":
			account = referenceMember(value)
		case dottedOrBracketed != nil:
			name := dottedOrBracketed[2] + dottedOrBracketed[3]
			if dottedOrBracketed[1] == "account" {
				account[name] = verbatim(value)
			} else {
				workflowExecution[name] = verbatim(value)
			}
		default:
			known--
		}
	}
	if known > 0 {
		return referenceFields(top, workflowExecution, account)
	}
	if len(pairs) == 1 {
		key, value, _ := strings.Cut(text, "=")
		for _, part := range []string{key, value} {
			whole, _ := url.QueryUnescape(part)
			if whole = strings.TrimSpace(whole); strings.HasPrefix(whole, "{") {
				return referenceJSON(whole)
			}
		}
	}
	return nil, ErrNotACallback
}

var referenceKey = regexp.MustCompile(`(?s)^(workflowExecution|account)(?:\.(.*)|\[(.*)\])$`)

func referenceMember(text string) members {
	if o, err := referenceObject(text); err == nil {
		return o
	}
	return members{}
}

// verbatim marks a form's value, which is not JSON.
func verbatim(value string) json.RawMessage { return json.RawMessage("=" + value) }

// referenceScalar returns a string's content or a number's digits.
func referenceScalar(value json.RawMessage) string {
	switch {
	case len(value) == 0:
		return ""
	case value[0] == '=':
		return string(value[1:])
	case value[0] == '"':
		var s string
		if err := json.Unmarshal(value, &s); err != nil {
			panic(err) // it was read as JSON before
		}
		return s
	case strings.IndexByte("-0123456789", value[0]) >= 0:
		return string(value)
	}
	return ""
}

var referenceID = regexp.MustCompile(`\A[A-Za-z0-9_-]{1,64}\z`)

func referenceFields(top, workflowExecution, account members) (*Callback, error) {
	id := referenceScalar(workflowExecution["id"])
	if id == "" {
		return nil, ErrMissingID
	}
	if !referenceID.MatchString(id) {
		return nil, ErrInvalidID
	}
	text := func(o members, name string) string { return CleanText(referenceScalar(o[name])) }
	f := &Callback{
		WorkflowExecutionID: id,
		WorkflowStatus:      text(workflowExecution, "status"),
		WorkflowHref:        text(workflowExecution, "href"),
		DefinitionKey:       text(workflowExecution, "definitionKey"),
		AccountID:           text(account, "id"),
		AccountHref:         text(account, "href"),
		UserReference:       text(top, "userReference"),
	}
	sent := strings.ToUpper(strings.TrimSpace(referenceScalar(top["callbackSentAt"])))
	if t, err := time.Parse(time.RFC3339, sent); err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 {
		f.CallbackSentAt = t.UTC()
	}
	return f, nil
}
