package journey

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Definitions are the guide's workflow definition keys ("Workflow Definition Keys").
func Definitions() []string {
	return slices.SortedFunc(maps.Keys(flows), func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
}

// FacemapTypes are the guide's types of a FACEMAP credential.
var FacemapTypes = []string{"IPROOV_STANDARD", FacemapPremium, "JUMIO_STANDARD"}

// FacemapPremium is the one that only the SDK captures.
const FacemapPremium = "IPROOV_PREMIUM"

// IDTypes are the guide's types of an ID credential.
var IDTypes = []string{string(IDCard), string(DrivingLicense), string(Passport), string(Visa)}

// flow says what a workflow definition collects and executes.
type flow struct {
	categories   []string
	capabilities []string
}

var (
	identity = flow{
		categories:   []string{"ID", "SELFIE", "FACEMAP"},
		capabilities: []string{"usability", "liveness", "similarity", "imageChecks", "extraction", "dataChecks"},
	}
	// flows are keyed by the guide's workflow definition keys.
	flows = map[string]flow{
		"2":  {[]string{"ID"}, []string{"usability", "imageChecks", "extraction", "dataChecks"}},
		"3":  identity,
		"5":  {[]string{"SELFIE", "FACEMAP"}, []string{"usability", "liveness", "similarity"}},
		"6":  {[]string{"SELFIE", "FACEMAP"}, []string{"usability", "liveness"}},
		"9":  {[]string{"SELFIE", "FACEMAP"}, []string{"usability", "authentication"}},
		"16": {[]string{"SELFIE", "FACEMAP"}, []string{"usability", "authentication"}},
		"20": {[]string{"ID", "SELFIE"}, []string{"usability", "similarity"}},
		"32": identity,
	}
	// precondition is the capability that each one needs (guide, "Capability
	// execution dependencies").
	precondition = map[string]string{
		"imageChecks": "usability", "extraction": "imageChecks", "dataChecks": "extraction",
		"liveness": "usability", "similarity": "usability", "authentication": "usability",
	}
	// subjects are the credential categories that a capability looks at.
	subjects = map[string][]string{
		"imageChecks": {"ID"}, "extraction": {"ID"}, "dataChecks": {"ID"},
		"liveness": {"SELFIE", "FACEMAP"}, "similarity": {"SELFIE", "ID"}, "authentication": {"SELFIE", "FACEMAP"},
	}
)
