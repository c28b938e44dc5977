package journey

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"callbackd/internal/workflow"
)

// TimeFormat is the guide's format of every timestamp.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// Details is the answer of Get Workflow Details, in the guide's order.
type Details struct {
	Workflow     workflowDetails         `json:"workflow"`
	Account      Ref                     `json:"account"`
	CreatedAt    string                  `json:"createdAt"`
	StartedAt    string                  `json:"startedAt,omitempty"`
	CompletedAt  string                  `json:"completedAt,omitempty"`
	Credentials  []credential            `json:"credentials,omitempty"`
	Decision     *decision               `json:"decision,omitempty"`
	Steps        *Ref                    `json:"steps,omitempty"`
	Capabilities map[string][]capability `json:"capabilities,omitempty"`
}

type workflowDetails struct {
	ID                        string `json:"id"`
	Status                    string `json:"status"`
	DefinitionKey             any    `json:"definitionKey"`
	UserReference             string `json:"userReference,omitempty"`
	CustomerInternalReference string `json:"customerInternalReference,omitempty"`
}

// Ref names something of Jumio's.
type Ref struct {
	ID   string `json:"id,omitempty"`
	Href string `json:"href,omitempty"`
}

type credential struct {
	ID       string        `json:"id"`
	Category string        `json:"category"`
	Parts    []detailsPart `json:"parts,omitempty"`
}

type detailsPart struct {
	Classifier string `json:"classifier"`
	Href       string `json:"href,omitempty"`
}

type capability struct {
	ID           string       `json:"id,omitempty"`
	Credentials  []credential `json:"credentials,omitempty"`
	Decision     decision     `json:"decision"`
	ValidFaceMap string       `json:"validFaceMapForAuthentication,omitempty"`
	// Data is left out when nil; empty it is written as {}.
	Data map[string]any `json:"data,omitzero"`
}

type decision struct {
	Type    string             `json:"type"`
	Details map[string]string  `json:"details"`
	Risk    map[string]float64 `json:"risk,omitempty"` // of the overall decision
}

func newDecision(kind, label string) decision {
	return decision{Type: kind, Details: map[string]string{"label": label}}
}

// Details builds the journey's answer of Get Workflow Details.
func (j *Journey) Details() *Details {
	d := &Details{
		Workflow: workflowDetails{
			ID: j.WorkflowExecutionID, Status: j.Status, DefinitionKey: j.DefinitionKey,
			UserReference: j.UserReference, CustomerInternalReference: j.CustomerInternalReference,
		},
		Account:   Ref{ID: j.AccountID},
		CreatedAt: j.created.Format(TimeFormat),
	}
	if j.Status != workflow.StatusInitiated && j.Status != workflow.StatusTokenExpired {
		d.StartedAt = j.started.Format(TimeFormat)
	}
	if !j.Waits() {
		d.CompletedAt = j.completed.Format(TimeFormat)
	}
	if len(j.Parts) > 0 {
		d.Credentials = j.credentials()
		d.Capabilities = j.capabilities(d.Credentials)
		if j.modern {
			d.addLater(j)
		}
	}
	if j.kind.adjust != nil {
		j.kind.adjust(j, d)
	}
	if j.detailsBytes > 0 {
		d.pad(j.detailsBytes, j.Document)
	}
	return d
}

// Unfinished is the answer while Jumio still works on the journey.
func (j *Journey) Unfinished() *Details {
	d := j.Details()
	d.Workflow.Status, d.CompletedAt = workflow.StatusAcquired, ""
	d.Credentials, d.Capabilities, d.Decision, d.Steps = nil, nil, nil, nil
	return d
}

func (j *Journey) credentials() []credential {
	var all []credential
	for _, p := range j.Parts {
		n := len(all)
		if n == 0 || all[n-1].ID != p.Credential {
			all = append(all, credential{ID: p.Credential, Category: p.Category})
			n++
		}
		if p.Uploaded() {
			all[n-1].Parts = append(all[n-1].Parts, detailsPart{p.Classifier, p.Href()})
		}
	}
	return all
}

// Uploaded reports whether the user provided the part at all.
func (p *Part) Uploaded() bool {
	return p.journey.kind.verdict.label != "NOT_UPLOADED" || p.Category != "ID"
}

func (j *Journey) capabilities(credentials []credential) map[string][]capability {
	all := map[string][]capability{}
	stopped := map[string]bool{}
	for _, name := range flows[j.DefinitionKey].capabilities {
		v := j.kind.verdict
		outcome := newDecision(passed, "OK")
		if name == "similarity" {
			outcome = newDecision(passed, "MATCH")
		}
		switch {
		case v.capability == name:
			outcome = newDecision(v.decision, v.label)
		case stopped[precondition[name]]:
			outcome = newDecision(notExecuted, "PRECONDITION_NOT_FULFILLED")
		}
		stopped[name] = outcome.Type == rejected || outcome.Type == notExecuted
		if name == "usability" {
			all[name] = j.usability(credentials, outcome)
			continue
		}
		all[name] = []capability{j.execute(name, outcome, credentials)}
	}
	return all
}

// usability judges each credential on its own; one of them carries the outcome.
func (j *Journey) usability(credentials []credential, outcome decision) []capability {
	culprit := credentials[0].Category
	if outcome.Details["label"] == "LIVENESS_UNDETERMINED" {
		culprit = "SELFIE"
	}
	all := make([]capability, len(credentials))
	for i, c := range credentials {
		all[i] = capability{Credentials: []credential{{ID: c.ID, Category: c.Category}}, Decision: newDecision(passed, "OK")}
		if c.Category == culprit {
			all[i].Decision = outcome
		}
	}
	return all
}

func (j *Journey) execute(name string, outcome decision, credentials []credential) capability {
	c := capability{Decision: outcome}
	for _, cred := range credentials {
		if slices.Contains(subjects[name], cred.Category) {
			c.Credentials = append(c.Credentials, credential{ID: cred.ID, Category: cred.Category})
		}
	}
	executed := outcome.Type != notExecuted
	good := outcome.Type == passed || outcome.Type == warning
	switch {
	case name == "extraction" && good:
		c.Data = j.extractionData()
	case name == "liveness" && executed:
		c.Data = map[string]any{"type": cmp.Or(j.kind.facemapType, "JUMIO_STANDARD")}
	case name == "similarity" && executed:
		c.Data = map[string]any{"similarity": outcome.Details["label"]}
	}
	i := slices.IndexFunc(j.Parts, func(p *Part) bool { return p.Category == "FACEMAP" })
	if i >= 0 && good && (name == "liveness" || name == "authentication") {
		c.ValidFaceMap = j.Parts[i].Href()
	}
	return c
}

func (j *Journey) extractionData() map[string]any {
	h, doc := j.Holder, j.Document
	data := map[string]any{
		"type": doc.Kind, "issuingCountry": h.Country.Code,
		"firstName": h.FirstName, "lastName": h.LastName, "gender": h.Gender, "nationality": h.Country.Code,
		"dateOfBirth": h.Born.Format(time.DateOnly), "issuingDate": doc.Issued.Format(time.DateOnly), "expiryDate": doc.Expires.Format(time.DateOnly),
		"documentNumber": doc.Number, "placeOfBirth": h.Country.City,
		"address": j.address(),
	}
	if doc.SubType != "" {
		data["subType"] = doc.SubType
	}
	switch doc.Kind {
	case Passport:
		data["personalNumber"] = doc.PersonalNumber
		mrz := h.MRZ(doc)
		data["optionalMrzField1"], data["optionalMrzField2"] = mrz[0][2:], mrz[1][28:]
	case DrivingLicense:
		data["dlCategories"] = []dlCategory{newDLCategory("B", doc)}
	case Visa:
		data["visaCategory"], data["numberOfEntries"], data["durationOfStay"], data["passportNumber"] = "C", "MULT", "090 DAYS", doc.Number
	}
	j.addNational(data)
	return data
}

// Names reports whether the details name the part.
func (d *Details) Names(p *Part) bool {
	for _, c := range d.Credentials {
		if c.ID == p.Credential && slices.ContainsFunc(c.Parts, func(dp detailsPart) bool { return dp.Classifier == p.Classifier }) {
			return true
		}
	}
	for _, entries := range d.Capabilities {
		if p.Category == "FACEMAP" && slices.ContainsFunc(entries, func(c capability) bool { return c.ValidFaceMap != "" }) {
			return true
		}
	}
	return false
}

// dlCategory is an element of data.dlCategories of an extraction.
type dlCategory struct {
	Category   string `json:"category"`
	IssueDate  string `json:"issueDate"`
	ExpiryDate string `json:"expiryDate"`
}

func newDLCategory(category string, doc Document) dlCategory {
	return dlCategory{category, doc.Issued.Format(time.DateOnly), doc.Expires.Format(time.DateOnly)}
}

// paddingCategories are all of the same length, so that all elements are.
var paddingCategories = []string{"AM", "A1", "A2", "BE", "B1", "CE", "C1", "DE", "D1"}

// pad makes the details about size bytes long, see Settings.DetailsBytes.
func (d *Details) pad(size int, doc Document) {
	extractions := d.Capabilities["extraction"]
	if len(extractions) == 0 || len(extractions[0].Data) == 0 {
		return
	}
	missing := size - len(jsonOf(d))
	each := len(jsonOf(newDLCategory(paddingCategories[0], doc))) + len(",")
	data := extractions[0].Data
	list, _ := data["dlCategories"].([]dlCategory)
	for n := range (missing + each/2) / each {
		list = append(list, newDLCategory(paddingCategories[n%len(paddingCategories)], doc))
	}
	if len(list) > 0 {
		data["dlCategories"] = list
	}
}

// jsonOf cannot fail: there are only texts, numbers, lists and maps.
func jsonOf(value any) []byte {
	text, _ := json.Marshal(value)
	return text
}
