package jumio

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// Details is what a retrieval needs to know of a workflow execution's details.
// Fields that are missing or odd are empty.
type Details struct {
	Status                    string
	AccountID                 string
	DefinitionKey             string
	UserReference             string
	CustomerInternalReference string
	// Parts are the images to get, each credential and classifier once, in
	// Jumio's order.
	Parts []Part
	// Missing are the parts that the details name and no address can be built
	// for.
	Missing []MissingPart
}

// MissingPart is a part that cannot be asked for. Of its ids, those are empty
// that are missing or not valid.
type MissingPart struct {
	Part
	// Reason is one of a few fixed texts.
	Reason string
}

// ErrNotJSONObject is the only error of ParseDetails.
var ErrNotJSONObject = errors.New("the details are not a JSON object")

// ParseDetails reads the details of w. What is missing, or of another JSON type
// than the guide says, is taken as absent and is never an error.
//
// Parts come from credentials[].parts[] and from validFaceMapForAuthentication
// in any capability, which may name a credential of another workflow. A part's
// ids are those of its href, if that is trusted, else those of the JSON.
func (c *Client) ParseDetails(body []byte, w Workflow) (*Details, error) {
	if !isJSONObject(body) {
		return nil, ErrNotJSONObject
	}
	doc := readObject(body)
	workflow := readWorkflow(doc["workflow"])
	d := &Details{
		Status:                    workflow.status,
		AccountID:                 readID(doc["account"]),
		DefinitionKey:             workflow.definitionKey,
		UserReference:             workflow.userReference,
		CustomerInternalReference: workflow.customerInternalReference,
	}
	list := partList{client: c, accountID: d.AccountID}
	if list.accountID == "" {
		list.accountID = w.AccountID
	}
	list.credentials = readCredentials(doc["credentials"])
	for _, credential := range list.credentials {
		for _, part := range oneOrMany(credential.parts) {
			list.addPart(credential, part)
		}
	}
	capabilities := readObject(doc["capabilities"])
	for _, name := range slices.Sorted(maps.Keys(capabilities)) {
		for _, element := range oneOrMany(capabilities[name]) {
			list.addFacemap(element)
		}
	}
	d.Parts = list.parts
	d.Missing = slices.DeleteFunc(list.missing, func(m MissingPart) bool {
		return m.CredentialID != "" && list.has(m.Part)
	})
	return d, nil
}

// partList gathers parts.
type partList struct {
	client      *Client
	accountID   string
	credentials []credential
	parts       []Part
	missing     []MissingPart
}

// addPart adds an element of credentials[].parts[].
func (l *partList) addPart(from credential, raw json.RawMessage) {
	fields := readObject(raw)
	part, err := l.client.parsePartHref(readText(fields["href"]))
	if err != nil {
		part = Part{AccountID: l.accountID, CredentialID: from.id, Classifier: idOrNone(readText(fields["classifier"]))}
	}
	part.Category = from.category
	l.add(part)
}

// addFacemap adds the facemap that a capability names. Where its href is of no
// use, the one facemap credential of the capability, or else of the workflow,
// must be the one.
func (l *partList) addFacemap(raw json.RawMessage) {
	fields := readObject(raw)
	href := readText(fields["validFaceMapForAuthentication"])
	if href == "" {
		return
	}
	part, err := l.client.parsePartHref(href)
	if err != nil {
		id := onlyFacemap(readCredentials(fields["credentials"]))
		if id == "" {
			id = onlyFacemap(l.credentials)
		}
		part = Part{AccountID: l.accountID, CredentialID: id, Classifier: facemap}
	}
	part.Category = facemap
	for _, known := range l.credentials {
		if known.id == part.CredentialID && known.category != "" {
			part.Category = known.category
		}
	}
	l.add(part)
}

func (l *partList) add(part Part) {
	reason := ""
	switch {
	case !validID(part.AccountID):
		part.AccountID, reason = "", "no account id"
	case part.CredentialID == "":
		reason = "no credential id"
	case part.Classifier == "":
		reason = "no classifier"
	}
	if reason == "" {
		if !l.has(part) {
			l.parts = append(l.parts, part)
		}
		return
	}
	if missing := (MissingPart{part, reason}); !slices.Contains(l.missing, missing) {
		l.missing = append(l.missing, missing)
	}
}

func (l *partList) has(part Part) bool {
	return slices.ContainsFunc(l.parts, func(p Part) bool {
		return p.CredentialID == part.CredentialID && p.Classifier == part.Classifier
	})
}

// credential is an element of a list of credentials.
type credential struct {
	id       string
	category string
	parts    json.RawMessage
}

func readCredentials(raw json.RawMessage) []credential {
	var list []credential
	for _, element := range oneOrMany(raw) {
		fields := readObject(element)
		list = append(list, credential{
			id:       idOrNone(readText(fields["id"])),
			category: idOrNone(readText(fields["category"])),
			parts:    fields["parts"],
		})
	}
	return list
}

// onlyFacemap gives the id of the facemap credential if there is exactly one.
func onlyFacemap(list []credential) string {
	id := ""
	for _, c := range list {
		if c.category != facemap || c.id == "" || c.id == id {
			continue
		}
		if id != "" {
			return ""
		}
		id = c.id
	}
	return id
}

// workflow is the object of that name in the details, and workflowExecution in
// a status.
type workflow struct {
	status, definitionKey, userReference, customerInternalReference string
}

func readWorkflow(raw json.RawMessage) workflow {
	fields := readObject(raw)
	w := workflow{
		status:                    readText(fields["status"]),
		definitionKey:             readText(fields["definitionKey"]),
		userReference:             readText(fields["userReference"]),
		customerInternalReference: readText(fields["customerInternalReference"]),
	}
	if w.definitionKey == "" { // it may be a number
		var number json.Number
		_ = json.Unmarshal(fields["definitionKey"], &number)
		w.definitionKey = number.String()
	}
	return w
}

// readID reads the id of an object.
func readID(raw json.RawMessage) string {
	return idOrNone(readText(readObject(raw)["id"]))
}

// readObject reads an object's members; what is no object has none. No struct,
// because encoding/json ignores case when it fills one, and the views do not.
func readObject(raw json.RawMessage) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(raw, &members)
	return members
}

// readText reads a string; anything else is "". Postgres stores no NUL in text,
// so it becomes U+FFFD, as invalid UTF-8 does.
func readText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

func idOrNone(s string) string {
	if validID(s) {
		return s
	}
	return ""
}

// oneOrMany gives the objects of an array, or a single object as the only one.
func oneOrMany(raw json.RawMessage) []json.RawMessage {
	switch raw = bytes.TrimSpace(raw); {
	case bytes.HasPrefix(raw, []byte("{")):
		return []json.RawMessage{raw}
	case bytes.HasPrefix(raw, []byte("[")):
		var list []json.RawMessage
		_ = json.Unmarshal(raw, &list)
		return slices.DeleteFunc(list, func(element json.RawMessage) bool { return !bytes.HasPrefix(element, []byte("{")) })
	}
	return nil
}
