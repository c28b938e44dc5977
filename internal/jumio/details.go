package jumio

import (
	"cmp"
	"slices"
	"strings"

	"callbackd/internal/callback"
	"callbackd/internal/details"
)

// Details are a workflow execution's details, and the image parts that they name.
type Details struct {
	*details.Details
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

// ParseDetails reads the details of w (guide, "Get Workflow Details"). A field that
// cannot be read counts as absent and is not an error. Errors are of type *Error:
// CodeInvalidJSON for anything but a JSON object, and CodeDetailsMismatch.
//
// Parts come from credentials[].parts[] and from validFaceMapForAuthentication in any
// capability, which may name a credential of another workflow. A part's ids are those
// in its href if that is trusted, or else those in the JSON.
func (c *Client) ParseDetails(body []byte, w Workflow) (*Details, error) {
	if !isJSONObject(body) {
		return nil, notJSONObject(EndpointDetails)
	}
	d := &Details{Details: details.Parse(body)}
	accountID := idOrNone(d.AccountID)
	if err := checkSubject(EndpointDetails, w, idOrNone(d.WorkflowID), accountID); err != nil {
		return nil, err
	}
	list := partList{client: c, accountID: cmp.Or(accountID, w.AccountID), categories: map[string]string{}}
	list.addCredentials(d.Credentials)
	list.addFacemaps(d.Facemaps)
	d.Parts, d.Missing = list.parts, list.missingParts(d.PartsOver)
	return d, nil
}

// checkSubject reports a response about another workflow execution or account than w's.
// Ids that cannot be read say nothing. It ignores case, which means nothing in a UUID.
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
}

// addCredentials adds the parts of the workflow's credentials.
func (l *partList) addCredentials(credentials []details.Credential) {
	refs := make([]details.CredentialRef, len(credentials))
	for i, from := range credentials {
		refs[i] = details.CredentialRef{ID: from.CredentialID, Category: from.Category}
		id, category := idOrNone(from.CredentialID), idOrNone(from.Category)
		if category != "" {
			l.categories[id] = category
		}
		for _, p := range from.Parts {
			part, err := l.client.parsePartHref(p.Href)
			if err != nil {
				part = Part{AccountID: l.accountID, CredentialID: id, Classifier: idOrNone(p.Classifier)}
			}
			part.Category = category
			l.add(part)
		}
	}
	l.facemapID = onlyFacemap(refs)
}

// addFacemaps adds the facemaps that the capabilities name. If an href is unusable, the
// facemap must be the only facemap credential of the capability or else of the workflow.
func (l *partList) addFacemaps(facemaps []details.Facemap) {
	for _, f := range facemaps {
		part, err := l.client.parsePartHref(f.Href)
		if err != nil {
			id := cmp.Or(onlyFacemap(f.Credentials), l.facemapID)
			part = Part{AccountID: l.accountID, CredentialID: id, Classifier: facemap}
		}
		part.Category = cmp.Or(l.categories[part.CredentialID], facemap)
		l.add(part)
	}
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

// missingParts gives what is missing in the end, with the number of parts over the
// limits: a later href may have led to a part whose ids were missing.
func (l *partList) missingParts(over int) []MissingPart {
	missing := slices.DeleteFunc(l.missing, func(m MissingPart) bool {
		return m.CredentialID != "" && l.has(m.Part)
	})
	if over > 0 {
		missing = append(missing, MissingPart{Reason: "too many parts", Count: over})
	}
	return missing
}

// onlyFacemap gives the id of the facemap credential, if there is exactly one.
func onlyFacemap(credentials []details.CredentialRef) string {
	only, several := "", false
	for _, c := range credentials {
		if id := idOrNone(c.ID); c.Category == facemap && id != "" && id != only {
			several = only != ""
			only = id
		}
	}
	if several {
		return ""
	}
	return only
}

// idOrNone returns a text with the syntax of an id; anything else is "". Classifiers and
// categories have it, too.
func idOrNone(s string) string {
	if callback.ValidID(s) {
		return s
	}
	return ""
}
