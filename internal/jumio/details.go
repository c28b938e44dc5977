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

// Limits on what is read of the details. Jumio sends fewer than thirty parts.
const (
	maxParts        = 500
	maxCredentials  = 1000
	maxCapabilities = 1000
	// maxText is the number of characters of the longest text.
	maxText = 4096
)

// Details is what a retrieval needs of a workflow execution's details. Missing and
// malformed fields are empty, and so are texts of more than 4,096 characters.
type Details struct {
	WorkflowID                string
	Status                    string
	AccountID                 string
	DefinitionKey             string
	UserReference             string
	CustomerInternalReference string
	// Parts are the images to get, in Jumio's order, one for each credential and
	// classifier.
	Parts []Part
	// Missing are the parts that no URL can be built for. Beyond 500 parts, or 1,000
	// credentials, the last element stands for all others.
	Missing []MissingPart
}

// MissingCount is the number of parts that cannot be requested.
func (d *Details) MissingCount() int {
	n := 0
	for _, m := range d.Missing {
		n += m.Count
	}
	return n
}

// MissingPart is a part that cannot be requested. Its missing and invalid ids are
// empty.
type MissingPart struct {
	Part
	// Reason is one of a few fixed texts.
	Reason string
	// Count is 1, or the number of parts over the limits.
	Count int
}

// ParseDetails reads the details of w (guide, "Get Workflow Details"). A missing field,
// or one whose JSON type is not the guide's, counts as absent and is not an error.
// Errors are of type *Error: CodeInvalidJSON for anything but a JSON object, and
// CodeDetailsMismatch.
//
// Parts come from credentials[].parts[] and from validFaceMapForAuthentication in any
// capability, which may name a credential of another workflow. A part's ids are those
// in its href if that is trusted, or else those in the JSON.
func (c *Client) ParseDetails(body []byte, w Workflow) (*Details, error) {
	if !isJSONObject(body) {
		return nil, notJSONObject(EndpointDetails)
	}
	var workflowObject, account, credentials, capabilities gjson.Result
	readMembers(gjson.ParseBytes(body), member{"workflow", &workflowObject}, member{"account", &account},
		member{"credentials", &credentials}, member{"capabilities", &capabilities})
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

// checkSubject reports a response about another workflow execution or account than w's.
// It ignores case, which means nothing in a UUID.
func checkSubject(endpoint string, w Workflow, workflowID, accountID string) error {
	switch {
	case workflowID != "" && !strings.EqualFold(workflowID, w.ID):
		return contentError(endpoint, CodeDetailsMismatch, "the response is about another workflow execution")
	case accountID != "" && w.AccountID != "" && !strings.EqualFold(accountID, w.AccountID):
		return contentError(endpoint, CodeDetailsMismatch, "the response is about another account")
	}
	return nil
}

// partList gathers parts.
type partList struct {
	client    *Client
	accountID string
	// categories are those of the workflow's credentials, by id.
	categories map[string]string
	// facemapID is the workflow's facemap credential, if there is exactly one.
	facemapID string

	parts   []Part
	missing []MissingPart
	read    int // parts read, including duplicates
	over    int // parts over the limits, which were not read
}

// hasRoom tells whether one more part may be read, and counts it. The limit bounds add,
// which compares each part with all others.
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
	var href, classifier gjson.Result
	readMembers(object, member{"href", &href}, member{"classifier", &classifier})
	part, err := l.client.parsePartHref(readText(href))
	if err != nil {
		part = Part{AccountID: l.accountID, CredentialID: from.id, Classifier: readName(classifier)}
	}
	part.Category = from.category
	l.add(part)
}

// addFacemaps adds the facemaps that the capabilities name, in the order of the
// capabilities' names. Those over the limit come first, unsorted.
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

// addFacemap adds the facemap that a capability names. If its href is unusable, it must
// be the only facemap credential of the capability or else of the workflow.
func (l *partList) addFacemap(capability gjson.Result) {
	var facemapHref, credentials gjson.Result
	readMembers(capability, member{"validFaceMapForAuthentication", &facemapHref}, member{"credentials", &credentials})
	href := readText(facemapHref)
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

// missingParts gives what is missing in the end: a later href may have led to a part
// whose ids were missing.
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

func readCredential(object gjson.Result) credential {
	var id, category, parts gjson.Result
	readMembers(object, member{"id", &id}, member{"category", &category}, member{"parts", &parts})
	return credential{readName(id), readName(category), parts}
}

// onlyFacemap gives the id of the facemap credential, if there is exactly one.
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

// workflow is that object of the details, and workflowExecution of a status.
type workflow struct {
	id, status, definitionKey, userReference, customerInternalReference string
}

func readWorkflow(object gjson.Result) workflow {
	var id, status, key, user, customer gjson.Result
	readMembers(object, member{"id", &id}, member{"status", &status}, member{"definitionKey", &key},
		member{"userReference", &user}, member{"customerInternalReference", &customer})
	w := workflow{readName(id), readText(status), readText(key), readText(user), readText(customer)}
	if key.Type == gjson.Number && len(key.Raw) <= maxText { // it may be a number
		w.definitionKey = strings.Clone(key.Raw)
	}
	return w
}

// readID reads the id of an object.
func readID(object gjson.Result) string {
	var id gjson.Result
	readMembers(object, member{"id", &id})
	return readName(id)
}

// member is a member of an object, and where its value goes.
type member struct {
	name string
	to   *gjson.Result
}

// readMembers reads some of an object's members.
func readMembers(object gjson.Result, wanted ...member) {
	eachMember(object, func(name string, value gjson.Result) {
		for _, m := range wanted {
			if m.name == name {
				*m.to = value
			}
		}
	})
}

// eachMember visits an object's members in order, so that the last duplicate wins.
// Anything but an object has none. It does not fill a struct, because encoding/json
// ignores the case of names, and the views do not. gjson makes no copies, so a 32 MiB
// document of nothing but members is harmless. It needs valid JSON.
func eachMember(object gjson.Result, read func(name string, value gjson.Result)) {
	if object.IsObject() {
		object.ForEach(func(name, value gjson.Result) bool {
			read(name.Str, value)
			return true
		})
	}
}

// eachObject visits the objects in an array, or a single object.
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

// readText reads a string as encoding/json does; anything else is "", and so is a
// string that is too long. NUL, which Postgres cannot store in text, becomes U+FFFD,
// like invalid UTF-8. The text is a copy, which does not keep the document in memory.
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

// readName reads a text with the syntax of an id; anything else is "".
func readName(value gjson.Result) string {
	if s := readText(value); callback.ValidID(s) {
		return s
	}
	return ""
}
