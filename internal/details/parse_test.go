package details_test

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/details"
)

// guideDetails is the guide's example, and what it does not show.
const guideDetails = `{
    "workflow": {"id": "22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "status": "PROCESSED", "definitionKey": "2",
        "userReference": "user 7", "customerInternalReference": "customer 7"},
    "account": {"id": "11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx"},
    "createdAt": "2021-03-12T15:47:17.234Z", "startedAt": "2021-03-12T15:49:32.202Z", "completedAt": "2021-03-12T15:49:33.421Z",
    "decision": {"type": "WARNING", "details": {"label": "WARNING"}, "risk": {"score": 42.50}},
    "credentials": [
        {"id": "33333333-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "category": "ID", "parts": [
            {"classifier": "FRONT", "href": "https://retrieval.amer-1.jumio.ai/api/v1/accounts/a/credentials/c/parts/FRONT"}, {"classifier": "BACK"}]},
        {"id": "44444444-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "category": "FACEMAP"}
    ],
    "capabilities": {
        "similarity": [{"id": "s", "credentials": [{"id": "33333333-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "category": "ID"}, {"id": "44444444-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "category": "SELFIE"}],
            "decision": {"type": "PASSED", "details": {"label": "MATCH"}}, "data": {"similarity": "MATCH"}}],
        "liveness": [{"credentials": [{"id": "44444444-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "category": "FACEMAP"}], "decision": {"type": "PASSED", "details": {"label": "OK"}},
            "validFaceMapForAuthentication": "https://retrieval.amer-1.jumio.ai/api/v1/accounts/a/credentials/f/parts/FACEMAP", "data": {"type": "IPROOV_STANDARD"}}],
        "extraction": [
            {"decision": {"type": "NOT_EXECUTED", "details": {"label": "TECHNICAL_ERROR"}}},
            {"credentials": [{"id": "33333333-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "category": "ID"}], "decision": {"type": "PASSED", "details": {"label": "OK"}}, "data": {
                "type": "DRIVING_LICENSE", "subType": "REGULAR_DRIVING_LICENSE", "firstName": "JANE", "lastName": "DOE", "issuingCountry": "AUT",
                "dateOfBirth": "1990-01-01", "expiryDate": "2023-12-01", "issuingDate": "2014-01-01", "documentNumber": "xxxxxxxx", "personalNumber": "<<<<<<<<<<<<<<",
                "dlCategories": ["B", {"category": "BE", "issueDate": "2014-01-01"}],
                "address": {"country": "AUT", "formattedAddress": "AUT"}}}]
    }
}`

// oddBodies are cases that chance may miss.
var oddBodies = []string{
	"{}", " {} ", `{"workflow":null,"account":[],"credentials":7,"capabilities":"x"}`,
	`{"workflow":{"status":"A","Status":"B","status":"C"},"workflow":{"definitionKey":-0.0}}`,
	`{"capabilities":{"extraction":{"data":{"dateOfBirth":"2021-02-30","expiryDate":20210101,"issuingDate":["2021-01-01"],"address":"AUT"}}}}`,
	`{"capabilities":{"extraction":[null,7,[],{"data":{}},{"data":null},{"data":[{}]}],"x":{"credentials":{"id":1}},"liveness":{"data":"x"}}}`,
	`{"credentials":[null,{"parts":{"classifier":true}},[],{"id":7,"parts":[null,"x",{"classifier":1.50}]}]}`,
	`{"capabilities":{"a\u0000":{"id":"1"},"a\ud800":{"id":"2"},"a` + "\xff" + `":{"id":"3"},"bb":{"id":"4"},"B":{"id":"5"}}}`,
	`{"createdAt":"0001-01-01T00:00:00.000001Z","startedAt":"2021-03-12T15:47:60.5Z","completedAt":"2021-03-12T15:47:17.9999995Z"}`,
	`{"decision":{"risk":{"score":1e1001}}}`, `{"decision":{"risk":{"score":"42"},"details":"x"}}`,
	`{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `,"account":{"id":"a"}}`,
}

// documentTexts and addressTexts are the texts of an extraction's data and address.
const (
	documentTexts = `type subType issuingCountry firstName lastName documentNumber gender nationality state personalNumber optionalMrzField1 optionalMrzField2
		issuingAuthority issuingPlace curp placeOfBirth taxNumber cpf registrationNumber mothersName fathersName personalIdentificationNumber rgNumber
		voterIdNumber issuingNumber passportNumber durationOfStay numberOfEntries visaCategory dni pesel`
	addressTexts = `line1 line2 line3 line4 line5 country postalCode subdivision city formattedAddress`
)

func at(value string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, value)
	return t
}

func TestParse(t *testing.T) {
	const idDocument, facemap = "33333333-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "44444444-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	want := &details.Details{
		WorkflowID: "22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx", AccountID: "11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
		Status: "PROCESSED", DefinitionKey: "2", UserReference: "user 7", CustomerInternalReference: "customer 7",
		CreatedAt: at("2021-03-12T15:47:17.234Z"), StartedAt: at("2021-03-12T15:49:32.202Z"), CompletedAt: at("2021-03-12T15:49:33.421Z"),
		DecisionType: "WARNING", DecisionLabel: "WARNING", RiskScore: "42.50",
		Credentials: []details.Credential{
			{Position: 1, CredentialID: idDocument, Category: "ID", Classifiers: []string{"FRONT", "BACK"}, Parts: []details.Part{
				{Classifier: "FRONT", Href: "https://retrieval.amer-1.jumio.ai/api/v1/accounts/a/credentials/c/parts/FRONT"}, {Classifier: "BACK"},
			}},
			{Position: 2, CredentialID: facemap, Category: "FACEMAP", Classifiers: []string{}},
		},
		Capabilities: []details.Capability{
			{
				Capability: "liveness", Position: 1, DecisionType: "PASSED", DecisionLabel: "OK", CredentialIDs: []string{facemap},
				CredentialCategories: []string{"FACEMAP"}, LivenessType: "IPROOV_STANDARD",
				ValidFacemapForAuthentication: "https://retrieval.amer-1.jumio.ai/api/v1/accounts/a/credentials/f/parts/FACEMAP",
			},
			{
				Capability: "extraction", Position: 1, DecisionType: "NOT_EXECUTED", DecisionLabel: "TECHNICAL_ERROR",
				CredentialIDs: []string{}, CredentialCategories: []string{},
			},
			{
				Capability: "extraction", Position: 2, DecisionType: "PASSED", DecisionLabel: "OK",
				CredentialIDs: []string{idDocument}, CredentialCategories: []string{"ID"},
			},
			{
				Capability: "similarity", Position: 1, CapabilityID: "s", DecisionType: "PASSED", DecisionLabel: "MATCH",
				CredentialIDs: []string{idDocument, facemap}, CredentialCategories: []string{"ID", "SELFIE"}, Similarity: "MATCH",
			},
		},
		Documents: []details.Document{{
			Position: 2, CredentialIDs: []string{idDocument}, Type: "DRIVING_LICENSE", SubType: "REGULAR_DRIVING_LICENSE", FirstName: "JANE", LastName: "DOE",
			IssuingCountry: "AUT", DateOfBirth: at("1990-01-01T00:00:00Z"), ExpiryDate: at("2023-12-01T00:00:00Z"), IssuingDate: at("2014-01-01T00:00:00Z"),
			DocumentNumber: "xxxxxxxx", PersonalNumber: "<<<<<<<<<<<<<<", DLCategories: []string{"B", "BE"}, AddressCountry: "AUT", AddressFormatted: "AUT",
		}},
		Facemaps: []details.Facemap{{
			Href:        "https://retrieval.amer-1.jumio.ai/api/v1/accounts/a/credentials/f/parts/FACEMAP",
			Credentials: []details.CredentialRef{{ID: facemap, Category: "FACEMAP"}},
		}},
	}
	if diff := cmp.Diff(want, details.Parse([]byte(guideDetails))); diff != "" {
		t.Error(diff)
	}
}

// A fraction of a leap second is read, although Postgres does not.
func TestLeapSecond(t *testing.T) {
	got := details.Parse([]byte(`{"createdAt":"2016-12-31T23:59:60.5Z"}`))
	if want := at("2017-01-01T00:00:00.5Z"); !got.CreatedAt.Equal(want) || len(got.Unreadable) > 0 {
		t.Errorf("got %v, unreadable %q", got.CreatedAt, got.Unreadable)
	}
}

func TestParseOfNoObject(t *testing.T) {
	deep := strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20)
	for _, body := range []string{"", "null", "7", `"x"`, "[]", `[{"account":{"id":"a"}}]`, "{", `{"account":{"id":"a"}}x`, "\ufeff{}", deep, `{"account":{"id":"a"},"x":` + deep + "}"} {
		if diff := cmp.Diff(new(details.Details), details.Parse([]byte(body))); diff != "" {
			t.Errorf("%.40s: %s", body, diff)
		}
	}
}

func TestParseStatus(t *testing.T) {
	got := details.ParseStatus([]byte(`{"account":{"id":"a"},"workflowExecution":{"id":"w","status":"ACQUIRED","definitionKey":10011}}`))
	if want := (details.Status{WorkflowID: "w", AccountID: "a", Status: "ACQUIRED", DefinitionKey: "10011"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, body := range []string{"", "[]", "{", `{"account":7,"workflowExecution":[]}`} {
		if got := details.ParseStatus([]byte(body)); got != (details.Status{}) {
			t.Errorf("%s: %+v", body, got)
		}
	}
}

// topNames are the names of unreadable fields that are neither in a document nor in an
// address.
const topNames = `createdAt startedAt completedAt account account.id workflow workflow.id workflow.status workflow.definitionKey workflow.userReference
	workflow.customerInternalReference decision decision.type decision.details decision.details.label decision.risk decision.risk.score
	credentials credentials.id credentials.category credentials.parts credentials.parts.classifier credentials.parts.href
	capabilities capabilities.id capabilities.decision capabilities.decision.type capabilities.decision.details capabilities.decision.details.label
	capabilities.credentials capabilities.credentials.id capabilities.credentials.category capabilities.validFaceMapForAuthentication
	capabilities.data capabilities.data.type capabilities.data.similarity
	dateOfBirth expiryDate issuingDate dlCategories address`

func unreadableNames() []string {
	names := append(strings.Fields(topNames), strings.Fields(documentTexts)...)
	for name := range strings.FieldsSeq(addressTexts) {
		names = append(names, "address."+name)
	}
	return names
}

// nested puts a value into objects of one member each.
func nested(path, value string) string {
	names := strings.Split(path, ".")
	for _, name := range slices.Backward(names) {
		value = `{"` + name + `":` + value + `}`
	}
	return value
}

// TestUnreadable: a field with a value that the guide does not allow is named, null and
// the empty text are not.
func TestUnreadable(t *testing.T) {
	long := `"` + strings.Repeat("x", 4097) + `"`
	for _, name := range unreadableNames() {
		paths := []string{name}
		switch {
		case strings.HasPrefix(name, "capabilities.data"):
			paths = []string{"capabilities.liveness" + strings.TrimPrefix(name, "capabilities")}
			switch name {
			case "capabilities.data":
				paths = append(paths, "capabilities.similarity.data", "capabilities.extraction.data")
			case "capabilities.data.similarity":
				paths = []string{"capabilities.similarity.data.similarity"}
			}
		case strings.HasPrefix(name, "capabilities."):
			paths = []string{"capabilities.dataChecks" + strings.TrimPrefix(name, "capabilities")}
		case !slices.Contains(strings.Fields(topNames), name), slices.Contains([]string{"dateOfBirth", "expiryDate", "issuingDate", "dlCategories", "address"}, name):
			paths = []string{"capabilities.extraction.data." + name}
		}
		for _, path := range paths {
			for _, value := range []string{`[[]]`, long} {
				if got := details.Parse([]byte(nested(path, value))).Unreadable; !slices.Equal(got, []string{name}) {
					t.Errorf("%s of %.20s: %q", path, value, got)
				}
			}
			if got := details.Parse([]byte(nested(path, "null"))).Unreadable; len(got) > 0 {
				t.Errorf("%s of null: %q", path, got)
			}
		}
	}
	for body, want := range map[string][]string{
		guideDetails: nil,
		`{"createdAt":"","workflow":{"userReference":""},"capabilities":{"extraction":{"data":{"dateOfBirth":"","dlCategories":[]}}}}`: nil,
		`{"createdAt":"yesterday","startedAt":20210312,"completedAt":"0001-01-01T00:00:00Z"}`:                                          {"createdAt", "startedAt", "completedAt"},
		`{"capabilities":{"extraction":[{"data":{"dateOfBirth":"1990-02-30"}},{"data":{"dateOfBirth":"N/A"}}]}}`:                       {"dateOfBirth", "dateOfBirth"},
		`{"capabilities":{"extraction":{"data":{"dlCategories":["B",[],{"category":{}}],"documentNumber":17,"gender":true}}}}`:         {"dlCategories"},
		`{"account":{"id":7},"workflow":{"id":true,"definitionKey":7},"decision":{"risk":{"score":"42"}}}`:                             {"workflow.id", "account.id", "decision.risk.score"},
		`{"account":{"id":[]},"account":{"id":"a"},"Account":7,"unknown":{"id":[]}}`:                                                   nil,
		`{"credentials":[null,7,{"parts":["x",{"classifier":{}}]}],"capabilities":{"x":[7,{"credentials":[[],{"id":[]}],"data":7}]}}`: {
			"credentials", "credentials.parts", "credentials.parts.classifier", "capabilities", "capabilities.credentials", "capabilities.credentials.id",
		},
	} {
		if diff := cmp.Diff(want, details.Parse([]byte(body)).Unreadable); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

// Texts that are indexed have at most 256 characters, others 4,096.
func TestLongTexts(t *testing.T) {
	short := strings.Fields(`account.id workflow.id workflow.userReference workflow.customerInternalReference decision.type decision.details.label
		credentials.id capabilities.x.id capabilities.x.decision.type capabilities.x.decision.details.label capabilities.x.credentials.id
		capabilities.extraction.data.documentNumber capabilities.extraction.data.issuingCountry`)
	long := strings.Fields(`workflow.status workflow.definitionKey credentials.category credentials.parts.classifier credentials.parts.href
		capabilities.x.credentials.category capabilities.x.validFaceMapForAuthentication capabilities.liveness.data.type capabilities.similarity.data.similarity
		capabilities.extraction.data.dlCategories.category capabilities.extraction.data.firstName capabilities.extraction.data.address.line1`)
	check := func(paths []string, limit int) {
		for _, path := range paths {
			for n, readable := range map[int]bool{limit: true, limit + 1: false} {
				got := details.Parse([]byte(nested(path, `"`+strings.Repeat(`\ud83d\ude00`, n)+`"`)))
				if (len(got.Unreadable) == 0) != readable || strings.Contains(fmt.Sprint(got), strings.Repeat("\U0001f600", n)) != readable {
					t.Errorf("%s of %d characters: unreadable %q", path, n, got.Unreadable)
				}
			}
		}
	}
	check(short, 256)
	check(long, 4096)
	for n, want := range map[int]int{256: 1, 257: 0} {
		if got := details.Parse([]byte(nested("capabilities."+strings.Repeat("é", n), "{}"))); len(got.Capabilities) != want || len(got.Unreadable) != 1-want {
			t.Errorf("a capability's name of %d characters: %d read, unreadable %q", n, len(got.Capabilities), got.Unreadable)
		}
	}
}

// times repeats an element, with its number for each #.
func times(n int, element string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strings.ReplaceAll(element, "#", fmt.Sprint(i)))
	}
	return b.String()
}

func TestLimits(t *testing.T) {
	counts := func(d *details.Details) [6]int {
		parts, refs := 0, 0
		for _, c := range d.Credentials {
			parts += len(c.Parts)
		}
		for _, c := range d.Capabilities {
			refs += len(c.CredentialIDs)
		}
		return [6]int{len(d.Credentials), parts + len(d.Facemaps), len(d.Capabilities), refs, len(d.Documents), d.PartsOver}
	}
	facemap := `{"validFaceMapForAuthentication":"x"}`
	tests := map[string]struct {
		body       string
		want       [6]int // credentials, parts and face maps, capabilities, their credentials, documents, parts over
		unreadable []string
	}{
		"credentials": {`{"credentials":[` + times(1000, `{"id":"c#"}`) + `,{},{"parts":[{},{},7]}]}`, [6]int{1000, 0, 0, 0, 0, 2}, []string{"credentials", "credentials.parts"}},
		"parts":       {`{"credentials":[{"parts":[` + times(400, "{}") + `]},{"parts":[` + times(103, "{}") + `]}]}`, [6]int{2, 500, 0, 0, 0, 3}, []string{"credentials.parts"}},
		"parts and face maps": {
			`{"credentials":{"parts":[` + times(499, "{}") + `]},"capabilities":{"liveness":[` + times(3, facemap) + `]}}`,
			[6]int{1, 500, 3, 0, 0, 2},
			[]string{"capabilities.validFaceMapForAuthentication"},
		},
		"results":            {`{"capabilities":{"liveness":[` + times(1001, "{}") + `]}}`, [6]int{0, 0, 1000, 0, 0, 0}, []string{"capabilities"}},
		"results' face maps": {`{"capabilities":{"liveness":[` + times(1000, "{}") + "," + facemap + `]}}`, [6]int{0, 1, 1000, 0, 0, 0}, []string{"capabilities"}},
		"capabilities":       {`{"capabilities":{` + times(1001, `"a#":{}`) + `,"a0":` + facemap + `,"b":` + facemap + `}}`, [6]int{0, 2, 1000, 0, 0, 0}, []string{"capabilities"}},
		"a capability's credentials": {
			`{"capabilities":{"x":{"credentials":[` + times(1002, `{"id":"c#"}`) + `]}}}`, [6]int{0, 0, 1, 1000, 0, 0}, []string{"capabilities.credentials"},
		},
		"documents":      {`{"capabilities":{"extraction":[` + times(102, `{"data":{}}`) + `]}}`, [6]int{0, 0, 102, 0, 100, 0}, []string{"capabilities.data"}},
		"dlCategories":   {`{"capabilities":{"extraction":{"data":{"dlCategories":[` + times(1001, `"B"`) + `]}}}}`, [6]int{0, 0, 1, 0, 1, 0}, []string{"dlCategories"}},
		"what is broken": {`{"credentials":[` + times(1001, "7") + `]}`, [6]int{}, slices.Repeat([]string{"credentials"}, 1000)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := details.Parse([]byte(tt.body))
			if counts(got) != tt.want {
				t.Errorf("read %v, want %v", counts(got), tt.want)
			}
			if diff := cmp.Diff(tt.unreadable, got.Unreadable); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestHostileDetails: what costs much to read carelessly costs little memory and time.
func TestHostileDetails(t *testing.T) {
	const n = 200_000
	for name, body := range map[string]string{
		"credentials":  `{"credentials":[` + times(n, "{}") + `]}`,
		"parts":        `{"credentials":{"parts":[` + times(n, "{}") + `]}}`,
		"results":      `{"capabilities":{"extraction":[` + times(n, "{}") + `]}}`,
		"capabilities": `{"capabilities":{` + times(n, `"#":{}`) + `}}`,
		"references":   `{"capabilities":{"x":{"credentials":[` + times(n, "{}") + `]}}}`,
		"categories":   `{"capabilities":{"extraction":{"data":{"dlCategories":[` + times(n, "{}") + `]}}}}`,
		"documents":    `{"capabilities":{"extraction":[` + times(n, `{"data":{"address":[]}}`) + `]}}`,
		"nonsense":     `{"credentials":[` + times(n, "7") + `],"capabilities":[` + times(n, "7") + `]}`,
		"members":      `{` + times(n, `"#":7`) + `}`,
		"one member":   `{` + times(n, `"workflow":{}`) + `}`,
		"a long text":  `{"workflow":{"status":"` + strings.Repeat(`\u0000`, n) + `"}}`,
		"a number":     `{"workflow":{"status":` + strings.Repeat("9", n) + `}}`,
		"nested":       `{"workflow":` + strings.Repeat(`{"workflow":`, 9000) + "{}" + strings.Repeat("}", 9000) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			details.Parse([]byte(body))
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if b := int(after.TotalAlloc - before.TotalAlloc); b > 4*len(body)+2<<20 {
				t.Errorf("%d bytes of details took %d bytes", len(body), b)
			}
			if took > 10*time.Second { // quadratic would be minutes
				t.Errorf("took %v", took)
			}
		})
	}
}

// Whatever Jumio sends: Parse does not panic, says the same each time, keeps its limits,
// and gives nothing of the body away in the names of what is unreadable.
func FuzzParse(f *testing.F) {
	f.Add(guideDetails)
	for _, body := range oddBodies {
		f.Add(body)
	}
	names := unreadableNames()
	f.Fuzz(func(t *testing.T, body string) {
		d := details.Parse([]byte(body))
		if diff := cmp.Diff(d, details.Parse([]byte(body))); diff != "" {
			t.Errorf("not the same twice:\n%s", diff)
		}
		if len(d.Credentials) > 1000 || len(d.Capabilities) > 1000 || len(d.Documents) > 100 || len(d.Facemaps) > 500 || len(d.Unreadable) > 1000 {
			t.Error("more than the limits")
		}
		for _, field := range d.Unreadable {
			if !slices.Contains(names, field) {
				t.Errorf("unreadable: %q", field)
			}
		}
		for _, s := range texts(d) {
			if len(s) > 4*4096 || strings.ContainsRune(s, 0) || s != strings.ToValidUTF8(s, "?") {
				t.Errorf("no text for Postgres: %.50q", s)
			}
		}
		if decision := details.Decide(d); (decision.Type == "") != (decision.Source == "") {
			t.Errorf("decision %+v", decision)
		}
	})
}

// texts are all texts in a value.
func texts(value any) []string {
	var list []string
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			list = append(list, v.String())
		case reflect.Pointer:
			walk(v.Elem())
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Struct:
			if _, isTime := v.Interface().(time.Time); !isTime {
				for i := range v.NumField() {
					walk(v.Field(i))
				}
			}
		}
	}
	walk(reflect.ValueOf(value))
	return list
}

func BenchmarkParse(b *testing.B) {
	body := []byte(guideDetails)
	for len(body) < 5<<10 { // the usual size
		body = slices.Concat(body[:len(body)-1], []byte(`,"rest":[`+times(100, `{"n":"#"}`)+`]}`))
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		details.Parse(body)
	}
}
