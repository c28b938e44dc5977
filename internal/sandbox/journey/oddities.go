package journey

import (
	"slices"
	"strconv"

	"callbackd/internal/workflow"
)

// oddKinds are what public integrations of Jumio have met beyond the guide, and
// what a client must survive although nobody has met it yet.
func oddKinds() []Kind {
	kinds := []Kind{
		{Name: "odd-part-without-href", Description: "the BACK part has no href", adjust: func(_ *Journey, d *Details) {
			d.Credentials[0].Parts[1].Href = ""
		}},
		{Name: "odd-foreign-href", Description: "the FRONT part's href points to a foreign host", adjust: func(_ *Journey, d *Details) {
			d.Credentials[0].Parts[0].Href = "https://retrieval.amer-1.jumio.ai.example.com/api/v1/parts/FRONT"
		}},
		{Name: "odd-foreign-facemap", Description: "the facemap's href is foreign and names no credential: an image that is unavailable", facemapLost: true, adjust: func(_ *Journey, d *Details) {
			d.Credentials = withoutFacemap(d.Credentials)
			liveness := &d.Capabilities["liveness"][0]
			liveness.Credentials = withoutFacemap(liveness.Credentials)
			liveness.ValidFaceMap = "https://facemaps.example.com/download/1"
		}},
		{Name: "odd-credential-without-parts", Description: "the FACEMAP credential has no parts; only the liveness names the facemap", adjust: func(_ *Journey, d *Details) {
			d.Credentials[len(d.Credentials)-1].Parts = nil
		}},
		{Name: "odd-facemap-of-another-workflow", Description: "the facemap belongs to a credential of an earlier workflow", adjust: func(_ *Journey, d *Details) {
			d.Credentials = withoutFacemap(d.Credentials)
		}},
		{Name: "odd-empty-data", Description: "data is {} in extraction and liveness", adjust: func(_ *Journey, d *Details) {
			d.Capabilities["extraction"][0].Data = map[string]any{}
			d.Capabilities["liveness"][0].Data = map[string]any{}
		}},
		{Name: "odd-capability-without-credentials", Description: "no capability lists its credentials", adjust: func(_ *Journey, d *Details) {
			for _, entries := range d.Capabilities {
				for i := range entries {
					entries[i].Credentials = nil
				}
			}
		}},
		{Name: "odd-name-not-available", Description: `the first name is "N/A", dates are not dates`, adjust: func(_ *Journey, d *Details) {
			data := d.Capabilities["extraction"][0].Data
			data["firstName"], data["dateOfBirth"], data["expiryDate"] = "N/A", "1990-00-00", "N/A"
		}},
		{Name: "odd-nul-in-string", Description: `the last name holds \u0000, which jsonb cannot`, adjust: func(j *Journey, d *Details) {
			d.Capabilities["extraction"][0].Data["lastName"] = j.Holder.LastName + "\x00"
		}},
		{Name: "odd-wrong-types", Description: "numbers and lists where the guide has strings", adjust: func(_ *Journey, d *Details) {
			data := d.Capabilities["extraction"][0].Data
			data["documentNumber"], data["gender"], data["address"] = 123456789, []string{"F"}, "none"
			d.Workflow.DefinitionKey = 3
		}},
		{Name: "odd-session-expired-without-started-at", Description: "SESSION_EXPIRED and no startedAt", status: workflow.StatusSessionExpired, adjust: func(_ *Journey, d *Details) {
			d.StartedAt = ""
		}},
		{Name: "odd-session-expired-with-details", Description: "SESSION_EXPIRED, yet full details with images", status: workflow.StatusSessionExpired, full: true},
		{Name: "odd-unknown-status", Description: "the callback's status is COMPLETED, which no document names; Get Status says PROCESSED", callbackStatus: "COMPLETED"},
	}
	for i := range kinds {
		kinds[i].key, kinds[i].document, kinds[i].weight = "3", IDCard, 1
	}
	return kinds
}

// addLater adds what Jumio's answers have gained since the guide.
func (d *Details) addLater(j *Journey) {
	d.Decision = j.overallDecision(d)
	d.Steps = &Ref{Href: j.WorkflowHref() + "/steps"}
	for name, entries := range d.Capabilities {
		for i := range entries {
			entries[i].ID = j.derivedID(name, i)
		}
	}
	if !j.kind.later {
		return
	}
	d.Capabilities["watchlistScreening"] = []capability{{
		ID: j.derivedID("watchlistScreening", 0), Credentials: d.Capabilities["imageChecks"][0].Credentials, Decision: newDecision(passed, "OK"),
		Data: map[string]any{"searchDate": d.CompletedAt, "searchResults": 0, "searchStatus": "DONE"},
	}}
	data := d.Capabilities["extraction"][0].Data
	born := j.Holder.Born
	data["dateOfBirthParts"] = map[string]any{"day": born.Day(), "month": int(born.Month()), "year": born.Year()}
	data["currentAge"] = strconv.Itoa(j.created.Year() - born.Year())
}

// overallDecision sums the capabilities up: the worst of them decides.
func (j *Journey) overallDecision(d *Details) *decision {
	seen := map[string]bool{}
	for _, entries := range d.Capabilities {
		for _, c := range entries {
			seen[c.Decision.Type] = true
		}
	}
	worst := passed
	switch {
	case seen[rejected]:
		worst = rejected
	case seen[warning] || seen[notExecuted]:
		worst = warning
	}
	overall := newDecision(worst, worst)
	overall.Risk = map[string]float64{"score": j.riskScore}
	return &overall
}

func withoutFacemap(credentials []credential) []credential {
	return slices.DeleteFunc(credentials, func(c credential) bool { return c.Category == "FACEMAP" })
}
