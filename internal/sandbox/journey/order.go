package journey

import (
	"cmp"
	"slices"
	"time"

	"callbackd/internal/workflow"
)

// Order is what a client asks for when it creates or updates an account (guide,
// "Account Creation").
type Order struct {
	// AccountID is that of the account to update; drawn when empty.
	AccountID string
	// DefinitionKey is one of Definitions.
	DefinitionKey string
	// Credentials are the definition's that the client customises. One of category
	// DOCUMENT comes in addition to the definition's; other categories that the
	// definition does not have are left out, as in the guide's example of an update.
	Credentials                              []Wanted
	UserReference, CustomerInternalReference string
}

// Wanted customises a credential.
type Wanted struct {
	Category string
	// Countries are ISO 3166-1 alpha-3 codes; empty: any.
	Countries []string
	// Types are the guide's for the category; empty: any.
	Types []string
}

// Wanted returns what is said of a category, or the zero value.
func (o Order) Wanted(category string) Wanted {
	i := slices.IndexFunc(o.Credentials, func(w Wanted) bool { return w.Category == category })
	if i < 0 {
		return Wanted{}
	}
	return o.Credentials[i]
}

func (o Order) has(category string) bool {
	return slices.Contains(flows[o.DefinitionKey].categories, category)
}

// document is the wanted kind of document where the order allows it, else the first
// that it allows; empty for a workflow without an ID.
func (o Order) document(wanted DocumentType) DocumentType {
	types := o.Wanted("ID").Types
	switch {
	case !o.has("ID"):
		return ""
	case len(types) == 0:
		return cmp.Or(wanted, Passport)
	case slices.Contains(types, string(wanted)):
		return wanted
	}
	return DocumentType(types[0])
}

func (o Order) allowsCountry(code string) bool {
	countries := o.Wanted("ID").Countries
	return len(countries) == 0 || slices.Contains(countries, code)
}

// Fits reports whether an ordered workflow can end as the kind says. Expired ones
// are no kinds of ordered journeys: they expire when the user does nothing.
func (k Kind) Fits(o Order) bool {
	ordered, own := flows[o.DefinitionKey], flows[k.key]
	executes := func(capability string) bool { return slices.Contains(ordered.capabilities, capability) }
	documentFits := (k.document != "") == o.has("ID") && o.document(k.document) == k.document
	switch {
	case k.status != "":
		return k.status == workflow.StatusAcquired
	case k.adjust != nil: // it reaches into the details
		return documentFits && o.Wanted("DOCUMENT").Category == "" && slices.Equal(ordered.capabilities, own.capabilities)
	case k.later:
		return documentFits && executes("imageChecks") && executes("extraction")
	case k.verdict.capability == "":
		return documentFits && (k.country == "" || o.allowsCountry(k.country))
	case k.verdict.label == "LIVENESS_UNDETERMINED":
		return executes(k.verdict.capability) && o.has("SELFIE")
	case k.verdict.capability == "usability":
		return (k.document != "") == o.has("ID")
	}
	return executes(k.verdict.capability)
}

// MixedFor is Mixed among the kinds that fit the order and come to an end.
func MixedFor(seed, index uint64, o Order) Kind {
	return deal(seed, index, func(k Kind) bool { return k.status == "" && k.Fits(o) })
}

// Ordered invents the journey with that index, of a kind that fits the order, for a
// workflow that is created now. Its Status is that in which it will end; see At.
func Ordered(s Settings, k Kind, o Order, index uint64) *Journey {
	k.key, k.document, k.extra = o.DefinitionKey, o.document(k.document), nil
	if document := o.Wanted("DOCUMENT").Category; document != "" {
		k.extra = []string{document}
	}
	if types := o.Wanted("FACEMAP").Types; len(types) > 0 && !slices.Contains(types, k.facemapType) {
		k.facemapType = types[0]
	}
	j, rng := invent(s, k, index)
	j.AccountID = cmp.Or(o.AccountID, j.AccountID)
	j.UserReference, j.CustomerInternalReference = o.UserReference, o.CustomerInternalReference
	if !o.allowsCountry(j.Holder.Country.Code) {
		j.Holder.Country = countryOf(o.Wanted("ID").Countries[0])
	}
	j.created, j.ordered = s.Now.UTC(), true
	j.addParts(rng)
	return j
}

// At is the journey while or because it has no result: in a status before
// PROCESSED, or an expired one.
func (j *Journey) At(status string, started, completed time.Time) *Journey {
	now := *j
	now.Status, now.started, now.completed = status, started.UTC(), completed.UTC()
	now.kind, now.Parts = Kind{Name: j.kind.Name, key: j.kind.key}, nil
	return &now
}

// Processed is the journey with its result. The user has uploaded some parts;
// those that the document has besides came by the SDK. The document's kind stays
// when it is empty, or when the journey's kind depends on it.
func (j *Journey) Processed(document DocumentType, uploaded func(*Part) bool, started, completed time.Time) *Journey {
	done := *j
	done.started, done.completed, done.ordered = started.UTC(), completed.UTC(), false
	if j.kind.adjust == nil {
		done.Document = j.Document.as(cmp.Or(document, j.Document.Kind))
	}
	done.Parts = nil
	for _, p := range j.Parts {
		if uploaded(p) || slices.Contains(done.classifiers(p.Category), p.Classifier) {
			done.Parts = append(done.Parts, p)
		}
	}
	return &done
}
