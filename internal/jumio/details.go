package jumio

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"callbackd/internal/callback"
)

// Limits of what is read of the details. Jumio sends less than thirty parts.
const (
	maxParts        = 500
	maxCredentials  = 1000
	maxCapabilities = 1000
	// maxText is the number of characters of the longest text.
	maxText = 4096
)

// Details is what a retrieval needs to know of a workflow execution's details.
// Fields that are missing or odd are empty; odd is also a text of more than
// 4,096 characters.
type Details struct {
	WorkflowID                string
	Status                    string
	AccountID                 string
	DefinitionKey             string
	UserReference             string
	CustomerInternalReference string
	// Parts are the images to get, each credential and classifier once, in
	// Jumio's order.
	Parts []Part
	// Missing are the parts that the details name and no address can be built
	// for. Beyond 500 parts, or 1,000 credentials, the last element stands for
	// all further ones.
	Missing []MissingPart
}

// MissingCount is the number of parts that cannot be asked for.
func (d *Details) MissingCount() int {
	n := 0
	for _, m := range d.Missing {
		n += m.Count
	}
	return n
}

// MissingPart is a part that cannot be asked for. Of its ids, those are empty
// that are missing or not valid.
type MissingPart struct {
	Part
	// Reason is one of a few fixed texts.
	Reason string
	// Count is 1, or for parts over the limits their number.
	Count int
}

// ParseDetails reads the details of w. What is missing, or of another JSON type
// than the guide says, is taken as absent and is never an error. Errors are of
// type *Error: CodeInvalidJSON for what is not a JSON object, and
// CodeDetailsMismatch.
//
// Parts come from credentials[].parts[] and from validFaceMapForAuthentication
// in any capability, which may name a credential of another workflow. A part's
// ids are those of its href, if that is trusted, else those of the JSON.
func (c *Client) ParseDetails(body []byte, w Workflow) (*Details, error) {
	if !isJSONObject(body) {
		return nil, notJSONObject(EndpointDetails)
	}
	var workflowObject, account, credentials, capabilities gjson.Result
	eachMember(gjson.ParseBytes(body), func(name string, value gjson.Result) {
		switch name {
		case "workflow":
			workflowObject = value
		case "account":
			account = value
		case "credentials":
			credentials = value
		case "capabilities":
			capabilities = value
		}
	})
	workflow := readWorkflow(workflowObject)
	d := &Details{
		WorkflowID:                workflow.id,
		Status:                    workflow.status,
		AccountID:                 readID(account),
		DefinitionKey:             workflow.definitionKey,
		UserReference:             workflow.userReference,
		CustomerInternalReference: workflow.customerInternalReference,
	}
	if err := checkSubject(EndpointDetails, w, d.WorkflowID, d.AccountID); err != nil {
		return nil, err
	}
	list := partList{client: c, accountID: cmp.Or(d.AccountID, w.AccountID), categories: map[string]string{}}
	list.addCredentials(credentials)
	list.addFacemaps(capabilities)
	d.Parts, d.Missing = list.parts, list.missingParts()
	return d, nil
}

// checkSubject reports an answer that names another workflow execution or
// account than was asked for. The case of the letters, which is of no meaning in
// a UUID, is ignored.
func checkSubject(endpoint string, w Workflow, workflowID, accountID string) error {
	switch {
	case workflowID != "" && !strings.EqualFold(workflowID, w.ID):
		return contentError(endpoint, CodeDetailsMismatch, "the answer is about another workflow execution")
	case accountID != "" && w.AccountID != "" && !strings.EqualFold(accountID, w.AccountID):
		return contentError(endpoint, CodeDetailsMismatch, "the answer is about another account")
	}
	return nil
}

// partList gathers parts.
type partList struct {
	client    *Client
	accountID string
	// categories are those of the workflow's credentials, by their ids.
	categories map[string]string
	// facemapID is the workflow's facemap credential if there is exactly one.
	facemapID string

	parts   []Part
	missing []MissingPart
	read    int // parts that were read, duplicates included
	over    int // parts over the limits, which were not
}

// hasRoom tells whether one more part may be read, and counts it. The limit
// bounds add, which compares each part with all before.
func (l *partList) hasRoom() bool {
	if l.read == maxParts {
		l.over++
		return false
	}
	l.read++
	return true
}

// addCredentials adds the parts of the workflow's credentials.
func (l *partList) addCredentials(credentials gjson.Result) {
	l.facemapID = onlyFacemap(credentials)
	n := 0
	eachObject(credentials, func(object gjson.Result) {
		credential := readCredential(object)
		if n++; n > maxCredentials {
			eachObject(credential.parts, func(gjson.Result) { l.over++ })
			return
		}
		if credential.category != "" {
			l.categories[credential.id] = credential.category
		}
		eachObject(credential.parts, func(part gjson.Result) { l.addPart(credential, part) })
	})
}

// addPart adds an element of credentials[].parts[].
func (l *partList) addPart(from credential, object gjson.Result) {
	if !l.hasRoom() {
		return
	}
	var href, classifier string
	eachMember(object, func(name string, value gjson.Result) {
		switch name {
		case "href":
			href = readText(value)
		case "classifier":
			classifier = readText(value)
		}
	})
	part, err := l.client.parsePartHref(href)
	if err != nil {
		part = Part{AccountID: l.accountID, CredentialID: from.id, Classifier: idOrNone(classifier)}
	}
	part.Category = from.category
	l.add(part)
}

// addFacemaps adds the facemaps that the capabilities name, in the order of
// their names. Capabilities over the limit come first, as they stand.
func (l *partList) addFacemaps(capabilities gjson.Result) {
	byName := map[string]gjson.Result{}
	eachMember(capabilities, func(name string, value gjson.Result) {
		if _, known := byName[name]; known || len(byName) < maxCapabilities {
			byName[name] = value
		} else {
			eachObject(value, l.addFacemap)
		}
	})
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		eachObject(byName[name], l.addFacemap)
	}
}

// addFacemap adds the facemap that a capability names. Where its href is of no
// use, the one facemap credential of the capability, or else of the workflow,
// must be the one.
func (l *partList) addFacemap(capability gjson.Result) {
	var href string
	var credentials gjson.Result
	eachMember(capability, func(name string, value gjson.Result) {
		switch name {
		case "validFaceMapForAuthentication":
			href = readText(value)
		case "credentials":
			credentials = value
		}
	})
	if href == "" || !l.hasRoom() {
		return
	}
	part, err := l.client.parsePartHref(href)
	if err != nil {
		id := cmp.Or(onlyFacemap(credentials), l.facemapID)
		part = Part{AccountID: l.accountID, CredentialID: id, Classifier: facemap}
	}
	part.Category = cmp.Or(l.categories[part.CredentialID], facemap)
	l.add(part)
}

func (l *partList) add(part Part) {
	reason := ""
	switch {
	case !callback.ValidID(part.AccountID):
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
	if missing := (MissingPart{part, reason, 1}); !slices.Contains(l.missing, missing) {
		l.missing = append(l.missing, missing)
	}
}

func (l *partList) has(part Part) bool {
	return slices.ContainsFunc(l.parts, func(p Part) bool {
		return p.CredentialID == part.CredentialID && p.Classifier == part.Classifier
	})
}

// missingParts gives what is missing in the end: an href further down may have
// led to a part whose ids were missing.
func (l *partList) missingParts() []MissingPart {
	missing := slices.DeleteFunc(l.missing, func(m MissingPart) bool {
		return m.CredentialID != "" && l.has(m.Part)
	})
	if l.over > 0 {
		missing = append(missing, MissingPart{Reason: "too many parts", Count: l.over})
	}
	return missing
}

// credential is an element of a list of credentials.
type credential struct {
	id       string
	category string
	parts    gjson.Result
}

func readCredential(object gjson.Result) (c credential) {
	eachMember(object, func(name string, value gjson.Result) {
		switch name {
		case "id":
			c.id = idOrNone(readText(value))
		case "category":
			c.category = idOrNone(readText(value))
		case "parts":
			c.parts = value
		}
	})
	return c
}

// onlyFacemap gives the id of the facemap credential if there is exactly one.
func onlyFacemap(credentials gjson.Result) string {
	id, several := "", false
	eachObject(credentials, func(object gjson.Result) {
		if c := readCredential(object); c.category == facemap && c.id != "" && c.id != id {
			several = id != ""
			id = c.id
		}
	})
	if several {
		return ""
	}
	return id
}

// workflow is the object of that name in the details, and workflowExecution in
// a status.
type workflow struct {
	id, status, definitionKey, userReference, customerInternalReference string
}

func readWorkflow(object gjson.Result) (w workflow) {
	eachMember(object, func(name string, value gjson.Result) {
		switch name {
		case "id":
			w.id = idOrNone(readText(value))
		case "status":
			w.status = readText(value)
		case "definitionKey":
			w.definitionKey = readText(value)
			if value.Type == gjson.Number && len(value.Raw) <= maxText { // it may be a number
				w.definitionKey = strings.Clone(value.Raw)
			}
		case "userReference":
			w.userReference = readText(value)
		case "customerInternalReference":
			w.customerInternalReference = readText(value)
		}
	})
	return w
}

// readID reads the id of an object.
func readID(object gjson.Result) (id string) {
	eachMember(object, func(name string, value gjson.Result) {
		if name == "id" {
			id = idOrNone(readText(value))
		}
	})
	return id
}

// eachMember visits an object's members in their order, so that of duplicates
// the last one holds. What is no object has none. Names are compared exactly by
// read: no struct is filled, because encoding/json ignores case, and the views
// do not. gjson keeps no copies: a document of 32 MiB may be of nothing but
// members. It takes valid JSON only.
func eachMember(object gjson.Result, read func(name string, value gjson.Result)) {
	if object.IsObject() {
		object.ForEach(func(name, value gjson.Result) bool {
			read(name.Str, value)
			return true
		})
	}
}

// eachObject visits the objects of an array, or a single object as the only one.
func eachObject(value gjson.Result, read func(object gjson.Result)) {
	switch {
	case value.IsObject():
		read(value)
	case value.IsArray():
		value.ForEach(func(_, element gjson.Result) bool {
			if element.IsObject() {
				read(element)
			}
			return true
		})
	}
}

// readText reads a string as encoding/json does; anything else is "", and so is
// one that is too long. Postgres stores no NUL in text, so it becomes U+FFFD, as
// invalid UTF-8 does. The text is a copy, which does not keep the document.
func readText(value gjson.Result) string {
	// A character is at most two escapes of six bytes.
	if value.Type != gjson.String || len(value.Raw) > 2+12*maxText {
		return ""
	}
	s := value.Str
	if strings.Contains(value.Raw, `\`) || !utf8.ValidString(s) {
		// encoding/json has the last word on odd escapes.
		var decoded string
		if json.Unmarshal([]byte(value.Raw), &decoded) != nil {
			return ""
		}
		s = strings.ReplaceAll(decoded, "\x00", "\uFFFD")
	}
	if utf8.RuneCountInString(s) > maxText {
		return ""
	}
	return strings.Clone(s)
}

func idOrNone(s string) string {
	if callback.ValidID(s) {
		return s
	}
	return ""
}
