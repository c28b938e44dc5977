package sandbox

import (
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"callbackd/internal/sandbox/journey"
)

// Form is how a callback's body is written. The guide says form and shows JSON,
// so a receiver should understand them all.
type Form string

// Forms of callback bodies.
const (
	// FormJSON is the guide's example.
	FormJSON Form = "json"
	// FormDotted is workflowExecution.id=...
	FormDotted Form = "dotted"
	// FormBracketed is workflowExecution[id]=...
	FormBracketed Form = "bracketed"
	// FormJSONValues is workflowExecution={...}
	FormJSONValues Form = "json-values"
	// FormSingleKey is a form whose only key is the whole JSON text.
	FormSingleKey Form = "single-key"
	// FormSingleValue is a form whose only value is the whole JSON text.
	FormSingleValue Form = "single-value"
)

// Forms lists every form.
var Forms = []Form{FormJSON, FormDotted, FormBracketed, FormJSONValues, FormSingleKey, FormSingleValue}

// callback is the body of the guide's "Callback Parameters".
type callback struct {
	CallbackSentAt    string           `json:"callbackSentAt,omitempty"`
	UserReference     string           `json:"userReference,omitempty"`
	WorkflowExecution callbackWorkflow `json:"workflowExecution"`
	Account           *journey.Ref     `json:"account,omitempty"`
}

type callbackWorkflow struct {
	journey.Ref
	DefinitionKey string `json:"definitionKey,omitempty"`
	Status        string `json:"status,omitempty"`
}

// callback builds what Jumio would post about the journey.
func (j *Journey) callback(status string, sentAt time.Time) callback {
	workflow := journey.Ref{ID: j.WorkflowExecutionID, Href: j.WorkflowHref()}
	account := &journey.Ref{ID: j.AccountID, Href: j.AccountHref()}
	if j.callbackFault(FaultIDOnly) != nil {
		return callback{WorkflowExecution: callbackWorkflow{Ref: journey.Ref{ID: workflow.ID}}}
	}
	if j.callbackFault(FaultNoAccount) != nil {
		account = nil
		workflow.Href = j.ShortHref()
	}
	if j.callbackFault(FaultNoHref) != nil {
		workflow.Href = ""
		if account != nil {
			account.Href = ""
		}
	}
	return callback{
		CallbackSentAt: sentAt.UTC().Format(journey.TimeFormat), UserReference: j.UserReference,
		WorkflowExecution: callbackWorkflow{workflow, j.DefinitionKey, status},
		Account:           account,
	}
}

// encode returns the callback in the form, with its Content-Type.
func (c callback) encode(form Form) (contentType string, body []byte, err error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", nil, err
	}
	const formType = "application/x-www-form-urlencoded"
	switch form {
	case FormJSON:
		return "application/json", text, nil
	case FormSingleKey:
		return formType, []byte(url.QueryEscape(string(text)) + "="), nil
	case FormSingleValue:
		return formType, []byte(url.Values{"payload": {string(text)}}.Encode()), nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return "", nil, err
	}
	values := url.Values{}
	for name, raw := range fields {
		if err := addField(values, form, name, raw); err != nil {
			return "", nil, err
		}
	}
	return formType, []byte(values.Encode()), nil
}

// addField adds a string as it is and an object as the form wants it.
func addField(values url.Values, form Form, name string, raw json.RawMessage) error {
	var text string
	if err := json.Unmarshal(raw, &text); err == nil {
		values.Set(name, text)
		return nil
	}
	if form == FormJSONValues {
		values.Set(name, string(raw))
		return nil
	}
	var members map[string]string
	if err := json.Unmarshal(raw, &members); err != nil {
		return err
	}
	for member, value := range members {
		if form == FormDotted {
			values.Set(name+"."+member, value)
		} else {
			values.Set(name+"["+member+"]", value)
		}
	}
	return nil
}

func checkCallbackURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("the callback URL must be an http or https address")
	}
	return nil
}
