package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"callbackd/internal/sandbox/journey"
)

// Form is how a callback's body is written. The guide says that it is a form and
// shows JSON, so a receiver should understand every one.
type Form string

// Forms of callback bodies.
const (
	FormJSON        Form = "json"         // the guide's example
	FormDotted      Form = "dotted"       // workflowExecution.id=...
	FormBracketed   Form = "bracketed"    // workflowExecution[id]=...
	FormJSONValues  Form = "json-values"  // workflowExecution={...}
	FormSingleKey   Form = "single-key"   // the only key is the whole JSON text
	FormSingleValue Form = "single-value" // the only value is the whole JSON text
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
	account := journey.Ref{ID: j.AccountID, Href: j.AccountHref()}
	if j.callbackFault(FaultIDOnly) != nil {
		return callback{WorkflowExecution: callbackWorkflow{Ref: journey.Ref{ID: workflow.ID}}}
	}
	c := callback{CallbackSentAt: sentAt.UTC().Format(journey.TimeFormat), UserReference: j.UserReference, Account: &account}
	if j.callbackFault(FaultNoAccount) != nil {
		c.Account, workflow.Href = nil, j.ShortHref()
	}
	if j.callbackFault(FaultNoHref) != nil {
		workflow.Href, account.Href = "", ""
	}
	c.WorkflowExecution = callbackWorkflow{workflow, j.DefinitionKey, status}
	return c
}

// memberNames are the names of an object's members in a form.
var memberNames = map[Form]string{FormDotted: "%s.%s", FormBracketed: "%s[%s]"}

// encode returns the callback in the form, with its Content-Type. There are only
// texts, so no conversion can fail.
func (c callback) encode(form Form) (contentType string, body []byte) {
	text, _ := json.Marshal(c)
	const formType = "application/x-www-form-urlencoded"
	switch form {
	case FormJSON:
		return "application/json", text
	case FormSingleKey:
		return formType, []byte(url.QueryEscape(string(text)) + "=")
	case FormSingleValue:
		return formType, []byte(url.Values{"payload": {string(text)}}.Encode())
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(text, &fields)
	values := url.Values{}
	for name, raw := range fields {
		var text string
		var members map[string]string
		switch {
		case json.Unmarshal(raw, &text) == nil:
			values.Set(name, text)
		case form == FormJSONValues:
			values.Set(name, string(raw))
		case json.Unmarshal(raw, &members) == nil:
			for member, value := range members {
				values.Set(fmt.Sprintf(memberNames[form], name, member), value)
			}
		}
	}
	return formType, []byte(values.Encode())
}

// checkCallbackURL accepts none, too. Its error does not hold the address, which
// may be a secret.
func checkCallbackURL(address string) error {
	u, err := url.Parse(address)
	if address != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("the callback URL must be an http or https address")
	}
	return nil
}
