package journey

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"callbackd/internal/workflow"
)

// Kind is one sort of journey.
type Kind struct {
	// Name is what Find takes.
	Name string `json:"name"`
	// Description is one line for a person.
	Description string `json:"description"`

	// key is the workflow definition key (guide, "Workflow Definition Keys").
	key string
	// document is empty where the workflow has no ID.
	document DocumentType
	// subType and country are drawn when empty.
	subType, country string
	// facemapType is JUMIO_STANDARD when empty.
	facemapType string
	// extra are credential categories besides the definition's.
	extra []string
	// status is PROCESSED when empty.
	status string
	// full details and images are there although the workflow was not processed.
	full bool
	// facemapLost says that the details do not lead to the facemap.
	facemapLost bool
	// callbackStatus replaces status in the final callback.
	callbackStatus string
	// verdict is the one decision that is not the good one.
	verdict verdict
	// later adds what Jumio's answers gained after the guide.
	later bool
	// adjust makes the journey or its details odd.
	adjust func(*Journey, *Details)
	// weight is how often the kind occurs in the mix.
	weight int
}

type verdict struct {
	capability, decision, label string
}

const (
	passed      = "PASSED"
	rejected    = "REJECTED"
	warning     = "WARNING"
	notExecuted = "NOT_EXECUTED"
)

// guideLabels are the labels that each capability can be decided with besides
// the good one, in the guide's order. PRECONDITION_NOT_FULFILLED is missing:
// it is the consequence of another capability's decision.
var guideLabels = []struct {
	capability string
	labels     []string
}{
	{"usability", []string{
		"BLACK_WHITE", "MISSING_PAGE", "MISSING_SIGNATURE", "NOT_A_DOCUMENT", "BAD_QUALITY", "PHOTOCOPY", "UNSUPPORTED_COUNTRY",
		"UNSUPPORTED_DOCUMENT_TYPE", "NOT_UPLOADED", "TECHNICAL_ERROR", "LIVENESS_UNDETERMINED",
	}},
	{"liveness", []string{
		"LIVENESS_UNDETERMINED", "ID_USED_AS_SELFIE", "MULTIPLE_PEOPLE", "DIGITAL_COPY", "PHOTOCOPY", "MANIPULATED", "NO_FACE_PRESENT",
		"FACE_NOT_FULLY_VISIBLE", "BLACK_WHITE", "AGE_DIFFERENCE", "BAD_QUALITY", "TECHNICAL_ERROR",
	}},
	{"similarity", []string{"NO_MATCH", "NOT_POSSIBLE", "TECHNICAL_ERROR"}},
	{"authentication", []string{"FAILED", "TECHNICAL_ERROR"}},
	{"imageChecks", []string{
		"DIFFERENT_PERSON", "DIGITAL_COPY", "WATERMARK", "MANIPULATED_DOCUMENT", "OTHER_REJECTION", "GHOST_IMAGE_DIFFERENT", "PUNCHED",
		"TECHNICAL_ERROR", "SAMPLE",
	}},
	{"extraction", []string{"TECHNICAL_ERROR"}},
	{"dataChecks", []string{"NFC_CERTIFICATE", "MISMATCHING_DATAPOINTS", "MRZ_CHECKSUM", "TECHNICAL_ERROR"}},
}

// warnings are labels with which the guide's WARNING is shown; the
// capabilities behind them are executed.
var warnings = map[string]string{
	"usability": "MISSING_SIGNATURE", "liveness": "AGE_DIFFERENCE", "similarity": "NOT_POSSIBLE", "imageChecks": "WATERMARK",
}

var catalogue = slices.Concat(passedKinds(), nationalKinds(), verdictKinds(), unfinishedKinds(), oddKinds())

// Kinds lists every sort of journey that the sandbox knows.
func Kinds() []Kind { return slices.Clone(catalogue) }

// Find looks a kind up by its name.
func Find(name string) (Kind, error) {
	if i := slices.IndexFunc(catalogue, func(k Kind) bool { return k.Name == name }); i >= 0 {
		return catalogue[i], nil
	}
	return Kind{}, fmt.Errorf("unknown kind of journey %q", name)
}

// Mixed deals the kinds like cards: each round has every kind, as often as its
// weight says.
func Mixed(seed, index uint64) Kind {
	return deal(seed, index, func(Kind) bool { return true })
}

// deal is Mixed for the kinds that are wanted, of which there must be one.
func deal(seed, index uint64, wanted func(Kind) bool) Kind {
	var deck []Kind
	for _, k := range catalogue {
		if wanted(k) {
			deck = append(deck, slices.Repeat([]Kind{k}, k.weight)...)
		}
	}
	round, place := index/uint64(len(deck)), index%uint64(len(deck))
	rng := rand.New(rand.NewPCG(seed, ^round))
	rng.Shuffle(len(deck), func(a, b int) { deck[a], deck[b] = deck[b], deck[a] })
	return deck[place]
}

func passedKinds() []Kind {
	return []Kind{
		{Name: "passed-passport", Description: "passport, selfie and facemap, all passed", key: "3", document: Passport, weight: 14},
		{Name: "passed-id-card", Description: "ID card with front and back, selfie and facemap, all passed", key: "3", document: IDCard, weight: 14},
		{Name: "passed-driving-license", Description: "driving license (PNG images), document only, passed", key: "2", document: DrivingLicense, weight: 8},
		{Name: "passed-visa", Description: "visa, document only, passed", key: "2", document: Visa, weight: 4},
		{Name: "passed-liveness", Description: "standalone liveness: selfie and facemap without a document", key: "6", weight: 3},
		{Name: "passed-similarity", Description: "similarity of a selfie and an ID card, MATCH", key: "20", document: IDCard, weight: 3},
		{Name: "passed-authentication", Description: "facemap compared with an earlier one, passed", key: "9", weight: 4},
		{Name: "passed-later-jumio", Description: "passport as later Jumio answers it: decision and risk, capability ids, LIVENESS_1.., watchlist", key: "32", document: Passport, later: true, weight: 8},
		{Name: "passed-screening", Description: "passport, selfie and facemap with screening, as the guide has it", key: "32", document: Passport, weight: 1},
		{Name: "passed-similarity-to-existing-id", Description: "selfie compared with an ID of an earlier workflow, MATCH", key: "5", weight: 1},
		{Name: "passed-authentication-on-premise", Description: "facemap compared with one that the customer keeps, passed", key: "16", weight: 1},
		{Name: "passed-liveness-iproov-standard", Description: "standalone liveness with an IPROOV_STANDARD facemap", key: "6", facemapType: "IPROOV_STANDARD", weight: 1},
		{Name: "passed-liveness-iproov-premium", Description: "standalone liveness with an IPROOV_PREMIUM facemap", key: "6", facemapType: FacemapPremium, weight: 1},
		{Name: "passed-document", Description: "ID card with a supporting DOCUMENT, passed", key: "2", document: IDCard, extra: []string{"DOCUMENT"}, weight: 1},
	}
}

// verdictKinds makes one kind per capability and label: the label's own words
// name it, such as "image-checks-digital-copy".
func verdictKinds() []Kind {
	var kinds []Kind
	add := func(capability, decision, label, suffix string) {
		k := Kind{
			Name:        kebab(capability) + "-" + kebab(label) + suffix,
			Description: fmt.Sprintf("%s %s, %s", capability, decision, label),
			key:         "3", document: Passport,
			verdict: verdict{capability, decision, label},
			weight:  1,
		}
		switch {
		case capability == "authentication":
			k.key, k.document = "9", ""
		case label == "MISSING_PAGE" || label == "PUNCHED" || label == "BLACK_WHITE":
			k.document = IDCard
		}
		kinds = append(kinds, k)
	}
	for _, c := range guideLabels {
		for _, label := range c.labels {
			decision := rejected
			if label == "TECHNICAL_ERROR" || label == "NOT_UPLOADED" {
				decision = notExecuted
			}
			add(c.capability, decision, label, "")
		}
		if label, ok := warnings[c.capability]; ok {
			add(c.capability, warning, label, "-warning")
		}
	}
	return append(kinds, Kind{
		Name: "usability-bad-quality-authentication", Description: "authentication not executed, because usability is REJECTED, BAD_QUALITY",
		key: "9", verdict: verdict{"usability", rejected, "BAD_QUALITY"}, weight: 1,
	})
}

func unfinishedKinds() []Kind {
	return []Kind{
		{Name: "session-expired", Description: "started, but the session ran out: SESSION_EXPIRED", key: "3", document: Passport, status: workflow.StatusSessionExpired, weight: 5},
		{Name: "token-expired", Description: "never started: TOKEN_EXPIRED", key: "3", document: Passport, status: workflow.StatusTokenExpired, weight: 5},
		{Name: "initiated", Description: "stays INITIATED; no final callback ever comes", key: "3", document: Passport, status: workflow.StatusInitiated, weight: 1},
		{Name: "acquired", Description: "stays ACQUIRED; no final callback ever comes", key: "3", document: Passport, status: workflow.StatusAcquired, weight: 2},
	}
}

var hyphens = strings.NewReplacer("Checks", "-checks", "_", "-")

// kebab turns "imageChecks" and "DIGITAL_COPY" into words joined by hyphens.
func kebab(name string) string { return strings.ToLower(hyphens.Replace(name)) }
