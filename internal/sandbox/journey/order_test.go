package journey

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// The fields of the guide's "capabilities.extraction.data" and of its address.
var (
	extractionFields = strings.Fields(`type subType issuingCountry firstName lastName dateOfBirth expiryDate issuingDate documentNumber state personalNumber
		optionalMrzField1 optionalMrzField2 address issuingAuthority issuingPlace curp gender nationality placeOfBirth taxNumber cpf registrationNumber
		mothersName fathersName personalIdentificationNumber rgNumber dlCategories voterIdNumber issuingNumber passportNumber durationOfStay
		numberOfEntries visaCategory dni pesel`)
	addressFields = strings.Fields("line1 line2 line3 line4 line5 country postalCode subdivision city formattedAddress")
)

func TestTheKindsShowEveryFieldOfAnExtraction(t *testing.T) {
	if len(extractionFields) != 36 || len(addressFields) != 10 {
		t.Fatalf("%d fields and %d of the address", len(extractionFields), len(addressFields))
	}
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if strings.HasPrefix(k.Name, "odd-") {
			continue
		}
		var details struct {
			Capabilities struct {
				Extraction []struct{ Data map[string]any }
			}
		}
		if err := json.Unmarshal(jsonOf(newJourney(t, k.Name, 0).Details()), &details); err != nil {
			t.Fatal(err)
		}
		for _, extraction := range details.Capabilities.Extraction {
			for field, value := range extraction.Data {
				if value == "" {
					t.Errorf("%s: %s is empty", k.Name, field)
				}
				seen[field] = true
			}
			address, _ := extraction.Data["address"].(map[string]any)
			for field := range address {
				seen["address "+field] = true
			}
		}
	}
	for _, field := range extractionFields {
		if !seen[field] {
			t.Errorf("no kind shows %s", field)
		}
	}
	for _, field := range addressFields {
		if !seen["address "+field] {
			t.Errorf("no kind shows %s of an address", field)
		}
	}
}

func TestTheKindsShowEveryDefinitionCategoryAndFacemapType(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds() {
		j := newJourney(t, k.Name, 0)
		seen[j.DefinitionKey] = true
		for _, p := range j.Parts {
			seen[p.Category] = true
		}
		for _, liveness := range j.Details().Capabilities["liveness"] {
			if facemapType, ok := liveness.Data["type"].(string); ok {
				seen[facemapType] = true
			}
		}
	}
	for _, wanted := range slices.Concat(strings.Fields("2 3 5 6 9 16 20 32 ID SELFIE FACEMAP DOCUMENT"), FacemapTypes) {
		if !seen[wanted] {
			t.Errorf("no kind shows %s", wanted)
		}
	}
}

// orders are of every definition, customised in every way.
func orders() []Order {
	var all []Order
	for _, key := range Definitions() {
		all = append(all, Order{DefinitionKey: key}, Order{DefinitionKey: key, Credentials: []Wanted{
			{Category: "DOCUMENT", Types: []string{"BS"}}, {Category: "ID", Countries: []string{"XKX"}}, {Category: "FACEMAP", Types: []string{"IPROOV_STANDARD"}},
		}})
		for _, document := range IDTypes {
			all = append(all, Order{DefinitionKey: key, Credentials: []Wanted{{Category: "ID", Types: []string{document}}}})
		}
	}
	return all
}

// TestWhateverFitsAnOrderEnds goes through every kind, order and document.
func TestWhateverFitsAnOrderEnds(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	fitting := map[string]int{}
	for i, o := range orders() {
		if k := MixedFor(1, uint64(i), o); !k.Fits(o) || k.status != "" {
			t.Errorf("the mix has %s for %+v", k.Name, o)
		}
		for _, k := range Kinds() {
			if !k.Fits(o) {
				continue
			}
			fitting[k.Name]++
			j := Ordered(Settings{Now: now}, k, o, 7)
			if d := j.At("INITIATED", time.Time{}, time.Time{}).Details(); d.StartedAt != "" || d.CompletedAt != "" || d.Credentials != nil || d.Capabilities != nil {
				t.Errorf("%s for %+v begins with %s", k.Name, o, jsonOf(d))
			}
			for _, document := range []DocumentType{"", Passport, IDCard} {
				done := j.Processed(document, func(*Part) bool { return false }, now, now)
				d := done.Details()
				if len(done.Parts) == 0 || len(d.Capabilities) == 0 {
					t.Errorf("%s for %+v ends with %s", k.Name, o, jsonOf(d))
				}
				for _, p := range done.Parts {
					if p.Category == "ID" && p.Classifier == "BACK" && done.Document.Kind == Passport {
						t.Errorf("%s for %+v: a passport with a back", k.Name, o)
					}
				}
			}
		}
	}
	for _, k := range Kinds() {
		if wanted := k.status == "" || k.status == "ACQUIRED"; wanted != (fitting[k.Name] > 0) {
			t.Errorf("%s fits %d orders", k.Name, fitting[k.Name])
		}
	}
}

func TestAnOrderIsObeyed(t *testing.T) {
	k, err := Find("passed-passport")
	if err != nil {
		t.Fatal(err)
	}
	o := Order{
		AccountID: "account-1", DefinitionKey: "32", UserReference: "user-1", CustomerInternalReference: "order-1",
		Credentials: []Wanted{{Category: "ID", Countries: []string{"CAN"}}, {Category: "FACEMAP", Types: []string{FacemapPremium}}, {Category: "DOCUMENT"}},
	}
	j := Ordered(Settings{Now: time.Now(), UserReference: "somebody"}, k, o, 0)
	d := j.Processed("", func(*Part) bool { return false }, time.Now(), time.Now()).Details()
	categories := map[string]bool{}
	for _, c := range d.Credentials {
		categories[c.Category] = true
	}
	got := []any{
		d.Account.ID, d.Workflow.DefinitionKey, d.Workflow.UserReference, d.Workflow.CustomerInternalReference,
		d.Capabilities["extraction"][0].Data["issuingCountry"], d.Capabilities["liveness"][0].Data["type"],
		strings.Join(slices.Sorted(maps.Keys(categories)), " "),
	}
	want := []any{"account-1", "32", "user-1", "order-1", "CAN", FacemapPremium, "DOCUMENT FACEMAP ID SELFIE"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
