// Package journey invents what Jumio would know of a verification: a person with
// a document, the kind of the journey, its ids, and the details that Jumio would
// answer. All of it follows from a seed.
//
// It draws nothing and answers nobody.
package journey

import (
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/workflow"
)

// DataCenters are the labels of Jumio's data centers as they stand in its host
// names (guide, "Access Token URL").
var DataCenters = []string{"amer-1", "emea-1", "apac-1"}

// Settings are what the journeys of one sandbox have in common.
type Settings struct {
	// Seed decides ids, people and documents.
	Seed uint64
	// DataCenter is drawn when empty.
	DataCenter string
	// Base is scheme and host of the hrefs; Jumio's when empty.
	Base string
	// UserReference, when empty, is drawn for half of the journeys.
	UserReference string
	// OverallDecision puts Jumio's overall decision into all details; into those
	// of a quarter of the workflows otherwise.
	OverallDecision bool
	// Intermediate is the share of journeys, 0 to 1, with callbacks before the
	// final one.
	Intermediate float64
	// DetailsBytes is about the size of the details, where they can be padded.
	DetailsBytes int
	// Now is the time at which the journey ends.
	Now time.Time
}

// Journey is one invented workflow execution. It does not change; At and Processed
// return it as it is later.
type Journey struct {
	Kind string
	// Index counts a sandbox's journeys from 0.
	Index                     uint64
	WorkflowExecutionID       string
	AccountID                 string
	DataCenter                string
	DefinitionKey             string
	Status                    string // what Get Status and Get Workflow Details say
	UserReference             string
	CustomerInternalReference string
	Holder                    Person
	Document                  Document
	Parts                     []*Part
	// Intermediate says that callbacks precede the final one.
	Intermediate bool

	kind         Kind
	base         string // of hrefs: scheme and host
	modern       bool   // answers carry what came after the guide
	riskScore    float64
	detailsBytes int
	// ordered journeys have the parts of every document that the user may choose.
	ordered bool

	created, started, completed time.Time
}

// Part is one image or facemap of a credential.
type Part struct {
	Credential, Classifier string
	Category               string // of its credential: ID, SELFIE, FACEMAP or DOCUMENT
	ContentType            string // JPEG, PNG or Binary
	journey                *Journey
}

// The content types of parts.
const (
	JPEG   = "image/jpeg"
	PNG    = "image/png"
	Binary = "application/octet-stream"
)

// New invents the journey with that index.
func New(s Settings, k Kind, index uint64) *Journey {
	j, rng := invent(s, k, index)
	if j.Status == workflow.StatusProcessed || k.full {
		j.addParts(rng)
	}
	return j
}

// invent makes a journey without parts.
func invent(s Settings, k Kind, index uint64) (*Journey, *rand.Rand) {
	rng := rand.New(rand.NewPCG(s.Seed, index))
	j := &Journey{
		Kind: k.Name, kind: k, Index: index,
		WorkflowExecutionID: newUUID(rng), AccountID: newUUID(rng),
		DefinitionKey: k.key, Status: cmp.Or(k.status, workflow.StatusProcessed), detailsBytes: s.DetailsBytes, DataCenter: pick(rng, DataCenters),
		Holder: newPerson(rng), Document: newDocument(k.document, rng),
		created: s.Now.UTC().Add(-time.Duration(60+rng.IntN(600)) * time.Second),
	}
	j.DataCenter = cmp.Or(s.DataCenter, j.DataCenter)
	j.base = cmp.Or(s.Base, "https://retrieval."+j.DataCenter+".jumio.ai")
	j.CustomerInternalReference = "order-" + strconv.FormatUint(100_000+index, 10)
	j.UserReference = s.UserReference
	if j.UserReference == "" && rng.IntN(2) == 0 {
		j.UserReference = "user-" + strconv.FormatUint(100_000+index, 10)
	}
	j.riskScore = float64(rng.IntN(1010))/10 - 1
	j.modern = rng.IntN(4) == 0 || k.later || s.OverallDecision
	j.Intermediate = rng.Float64() < s.Intermediate
	j.started, j.completed = j.created.Add(7340*time.Millisecond), j.created.Add(52718*time.Millisecond)
	if k.country != "" {
		j.Holder.Country = countryOf(k.country)
	}
	j.Document.SubType = cmp.Or(k.subType, j.Document.SubType)
	return j, rng
}

// Waits reports whether the workflow has not reached a final status.
func (j *Journey) Waits() bool {
	final, _ := workflow.FinalStatus(j.Status)
	return !final
}

// addParts gives the journey its credentials' images.
func (j *Journey) addParts(rng *rand.Rand) {
	for _, category := range slices.Concat(flows[j.DefinitionKey].categories, j.kind.extra) {
		credential := newUUID(rng)
		for _, classifier := range j.classifiers(category) {
			p := &Part{Credential: credential, Classifier: classifier, Category: category, ContentType: JPEG, journey: j}
			switch {
			case category == "FACEMAP":
				p.ContentType = Binary
			case j.Document.Kind == DrivingLicense || classifier == "BACK" && j.Document.Kind == IDCard:
				p.ContentType = PNG
			}
			j.Parts = append(j.Parts, p)
		}
	}
}

func (j *Journey) classifiers(category string) []string {
	switch {
	case category == "FACEMAP":
		return []string{"FACEMAP"}
	case category == "SELFIE" && j.kind.later:
		return []string{"FACE", "LIVENESS_1", "LIVENESS_2", "LIVENESS_3"}
	case category == "SELFIE":
		return []string{"FACE"}
	case category == "DOCUMENT":
		return []string{"FRONT"}
	case j.kind.later && j.ordered:
		return []string{"FRONT", "BACK", "FRONT_WITH_FLASH"}
	case j.kind.later:
		return []string{"FRONT", "FRONT_WITH_FLASH"}
	case j.ordered || j.Document.Kind == IDCard || j.Document.Kind == DrivingLicense:
		return []string{"FRONT", "BACK"}
	default:
		return []string{"FRONT"}
	}
}

// newUUID draws a version 4 UUID.
func newUUID(rng *rand.Rand) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], rng.Uint64())
	binary.BigEndian.PutUint64(id[8:], rng.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// derivedID is a UUID that depends on the journey and the name alone.
func (j *Journey) derivedID(name string, n int) string {
	return uuid.NewSHA1(uuid.MustParse(j.WorkflowExecutionID), []byte(name+strconv.Itoa(n))).String()
}

// AccountHref is the account's address.
func (j *Journey) AccountHref() string { return j.base + "/api/v1/accounts/" + j.AccountID }

// WorkflowHref is the address of the details.
func (j *Journey) WorkflowHref() string {
	return j.AccountHref() + "/workflow-executions/" + j.WorkflowExecutionID
}

// Href is the part's address.
func (p *Part) Href() string {
	return p.journey.AccountHref() + "/credentials/" + p.Credential + "/parts/" + p.Classifier
}

// ShortHref is the address of the details without the account.
func (j *Journey) ShortHref() string {
	return j.base + "/api/v1/workflow-executions/" + j.WorkflowExecutionID
}

// CallbackStatus is the status in the final callback.
func (j *Journey) CallbackStatus() string { return cmp.Or(j.kind.callbackStatus, j.Status) }

// Unclear reports whether only Get Status tells what the final callback means.
func (j *Journey) Unclear() bool { return j.kind.callbackStatus != "" }

// Reachable reports whether the details lead to the part's address.
func (p *Part) Reachable() bool { return p.Category != "FACEMAP" || !p.journey.kind.facemapLost }

// Journey is whose part it is.
func (p *Part) Journey() *Journey { return p.journey }
