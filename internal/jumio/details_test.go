package jumio

import (
	"cmp"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func partHref(dataCenter, account, credential, classifier string) string {
	return "https://retrieval." + dataCenter + ".jumio.ai/api/v1/accounts/" + account + "/credentials/" + credential + "/parts/" + classifier
}

// guideDetails is the guide's example response, of another data center than the
// callback's; its extraction is left out.
const guideDetails = `{
    "workflow": {"id": "22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "status": "PROCESSED", "definitionKey": "2"},
    "account": {"id": "11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx"},
    "createdAt": "2021-03-12T15:47:17.234Z",
    "credentials": [
        {
            "id": "33333333-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
            "category": "ID",
            "parts": [
                {
                    "classifier": "FRONT",
                    "href": "https://retrieval.amer-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx/credentials/33333333-xxxx-xxxx-xxxx-xxxxxxxxxxxx/parts/FRONT"
                }
            ]
        }
    ],
    "capabilities": {
        "usability": [{"credentials": [{"id": "33333333-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "category": "ID"}], "decision": {"type": "PASSED", "details": {"label": "OK"}}}]
    }
}`

// said is what a retrieval needs of Details.
type said struct {
	WorkflowID, Status, AccountID, DefinitionKey, UserReference, CustomerInternalReference string

	Parts   []Part
	Missing []MissingPart
}

func saidBy(d *Details) said {
	return said{d.WorkflowID, d.Status, d.AccountID, d.DefinitionKey, d.UserReference, d.CustomerInternalReference, d.Parts, d.Missing}
}

func TestParseDetails(t *testing.T) {
	tests := map[string]struct {
		body string
		want said
	}{
		"the guide's example": {
			guideDetails,
			said{WorkflowID: workflowID, Status: "PROCESSED", AccountID: accountID, DefinitionKey: "2", Parts: []Part{frontPart}},
		},
		"texts that are too long": {
			`{"workflow":{"status":"` + strings.Repeat("x", 4097) + `","definitionKey":"` + strings.Repeat("1", 4097) + `","userReference":"` +
				strings.Repeat(`\ud83d\ude00`, 257) + `","customerInternalReference":"` + strings.Repeat(`\u0000`, 4097) + `"}}`,
			said{},
		},
		"texts that are just short enough": {
			`{"workflow":{"status":"` + strings.Repeat(`\ud83d\ude00`, 4096) + `","userReference":"` + strings.Repeat(`\ud83d\ude00`, 256) + `"}}`,
			said{Status: strings.Repeat("\U0001f600", 4096), UserReference: strings.Repeat("\U0001f600", 256)},
		},
		"all fields": {
			`{"workflow":{"status":"PROCESSED","definitionKey":10011,"userReference":"u\u0000r","customerInternalReference":"c"},"account":{"id":"a"}}`,
			said{Status: "PROCESSED", AccountID: "a", DefinitionKey: "10011", UserReference: "u\uFFFDr", CustomerInternalReference: "c"},
		},
		"names are matched exactly, the last of duplicates holds": {
			`{"account":{"id":"old"},"account":{"ID":"b","id":"a"},"Account":{"id":"c"},
			  "workflow":{"status":"PROCESSED","Status":"INITIATED","status":"ACQUIRED"},
			  "Credentials":[{"id":"d","parts":[{"classifier":"FRONT"}]}]}`,
			said{Status: "ACQUIRED", AccountID: "a"},
		},
		"nothing": {`{}`, said{}},
		"other types everywhere": {
			`{"workflow":[1],"account":"a","credentials":"none","capabilities":[{"validFaceMapForAuthentication":"x"}]}`,
			said{},
		},
		"odd fields inside": {
			`{"workflow":{"status":1,"definitionKey":{},"userReference":[],"customerInternalReference":null},"account":{"id":{}},
			  "credentials":[null,7,"x",{"id":3,"category":4,"parts":"none"},{"id":"c","parts":[null,"FRONT"]},{"id":"d"}],
			  "capabilities":{"extraction":{"data":{}},"liveness":[null,{"validFaceMapForAuthentication":{}},{"validFaceMapForAuthentication":null}],"usability":null}}`,
			said{Status: "1"}, // a scalar is text
		},
		"a single credential and a single part": {
			`{"account":{"id":"a"},"credentials":{"id":"c","category":"SELFIE","parts":{"classifier":"FACE"}}}`,
			said{AccountID: "a", Parts: []Part{{"a", "c", "SELFIE", "FACE"}}},
		},
		"part without an href, account of the callback": {
			`{"credentials":[{"id":"c","category":"ID","parts":[{"classifier":"BACK"}]}]}`,
			said{Parts: []Part{{accountID, "c", "ID", "BACK"}}},
		},
		"part with a foreign href": {
			`{"account":{"id":"a"},"credentials":[{"id":"c","category":"ID","parts":[{"classifier":"BACK","href":"https://evil.example/api/v1/accounts/x/credentials/y/parts/Z"}]}]}`,
			said{AccountID: "a", Parts: []Part{{"a", "c", "ID", "BACK"}}},
		},
		"the ids of a trusted href win": {
			`{"account":{"id":"a"},"credentials":[{"id":"c","category":"ID","parts":[{"classifier":"BACK","href":"` + partHref("emea-1", "a2", "c2", "FRONT") + `"}]}]}`,
			said{AccountID: "a", Parts: []Part{{"a2", "c2", "ID", "FRONT"}}},
		},
		"each credential and classifier once": {
			`{"account":{"id":"a"},"credentials":[
			   {"id":"c","category":"ID","parts":[{"classifier":"FRONT"},{"classifier":"FRONT","href":"` + partHref("amer-1", "a", "c", "FRONT") + `"},{"classifier":"BACK"}]},
			   {"id":"f","category":"FACEMAP","parts":[{"classifier":"FACEMAP"}]}],
			  "capabilities":{"liveness":[{"validFaceMapForAuthentication":"` + partHref("amer-1", "a", "f", "FACEMAP") + `"}]}}`,
			said{AccountID: "a", Parts: []Part{{"a", "c", "ID", "FRONT"}, {"a", "c", "ID", "BACK"}, {"a", "f", "FACEMAP", "FACEMAP"}}},
		},
		"facemap of another workflow, in any capability": {
			`{"account":{"id":"a"},"capabilities":{
			   "liveness":[{},{"validFaceMapForAuthentication":"` + partHref("amer-1", "a", "f1", "FACEMAP") + `"}],
			   "brandNew":{"validFaceMapForAuthentication":"` + partHref("amer-1", "a", "f2", "FACEMAP") + `"}}}`,
			said{AccountID: "a", Parts: []Part{{"a", "f2", "FACEMAP", "FACEMAP"}, {"a", "f1", "FACEMAP", "FACEMAP"}}},
		},
		"facemap with a foreign href, credential in the capability": {
			`{"account":{"id":"a"},"capabilities":{"liveness":[{"validFaceMapForAuthentication":"https://evil.example/x","credentials":[{"id":"s","category":"SELFIE"},{"id":"f","category":"FACEMAP"}]}]}}`,
			said{AccountID: "a", Parts: []Part{{"a", "f", "FACEMAP", "FACEMAP"}}},
		},
		"facemap with a foreign href, credential in the workflow": {
			`{"account":{"id":"a"},"credentials":[{"id":"f","category":"FACEMAP"}],"capabilities":{"liveness":[{"validFaceMapForAuthentication":"https://evil.example/x"}]}}`,
			said{AccountID: "a", Parts: []Part{{"a", "f", "FACEMAP", "FACEMAP"}}},
		},
		"facemap with a foreign href, two credentials": {
			`{"account":{"id":"a"},"capabilities":{"liveness":[{"validFaceMapForAuthentication":"https://evil.example/x","credentials":[{"id":"f","category":"FACEMAP"},{"id":"g","category":"FACEMAP"}]}]}}`,
			said{AccountID: "a", Missing: []MissingPart{{Part{"a", "", "FACEMAP", "FACEMAP"}, "no credential id", 1}}},
		},
		"parts that no address can be built for": {
			`{"account":{"id":"a"},"credentials":[
			   {"category":"ID","parts":[{"classifier":"FRONT"}]},
			   {"id":"../c","category":"ID","parts":[{"classifier":"FRONT"},{"classifier":"BACK"}]},
			   {"id":"c","category":"JANE DOE","parts":[{},{"classifier":"JANE DOE"},{"classifier":"a/b"}]}]}`,
			said{AccountID: "a", Missing: []MissingPart{
				{Part{"a", "", "ID", "FRONT"}, "no credential id", 1},
				{Part{"a", "", "ID", "BACK"}, "no credential id", 1},
				{Part{"a", "c", "", ""}, "no classifier", 1},
			}},
		},
	}
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := testWorkflow
			w.AccountID = cmp.Or(tt.want.AccountID, accountID)
			got, err := c.ParseDetails([]byte(tt.body), w)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(tt.want, saidBy(got), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseDetailsWithoutAccount(t *testing.T) {
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	body := `{"credentials":[{"id":"f","category":"FACEMAP","parts":[{"classifier":"FACEMAP"}]},{"id":"c","category":"ID","parts":[{"classifier":"FRONT"}]}],
	  "capabilities":{"liveness":[{"validFaceMapForAuthentication":"` + partHref("amer-1", "a", "f", "FACEMAP") + `"}]}}`
	got, err := c.ParseDetails([]byte(body), Workflow{ID: workflowID})
	if err != nil {
		t.Fatal(err)
	}
	want := said{
		Parts:   []Part{{"a", "f", "FACEMAP", "FACEMAP"}}, // the capability's href knew the account
		Missing: []MissingPart{{Part{"", "c", "ID", "FRONT"}, "no account id", 1}},
	}
	if diff := gocmp.Diff(want, saidBy(got)); diff != "" {
		t.Error(diff)
	}
}

func TestParseDetailsRefusesWhatIsNoObject(t *testing.T) {
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	for _, body := range []string{"", "null", "[]", `"x"`, "{", "<html>", "{}x"} {
		wantCode(t, second(c.ParseDetails([]byte(body), testWorkflow)), CodeInvalidJSON)
	}
}

// These are the bodies of answers about something else than testWorkflow,
// and of those that are about it; %s is workflow or workflowExecution.
var (
	otherSubjects = map[string]string{
		"another workflow execution":                 `{"%s":{"id":"99999999-xxxx-xxxx-xxxx-xxxxxxxxxxxx","status":"PROCESSED"},"account":{"id":"` + accountID + `"}}`,
		"another account":                            `{"%s":{"id":"` + workflowID + `","status":"PROCESSED"},"account":{"id":"99999999-xxxx-xxxx-xxxx-xxxxxxxxxxxx"}}`,
		"another workflow execution, no account":     `{"%s":{"id":"99999999-xxxx-xxxx-xxxx-xxxxxxxxxxxx","status":"PROCESSED"}}`,
		"another account, no workflow execution":     `{"account":{"id":"99999999-xxxx-xxxx-xxxx-xxxxxxxxxxxx"}}`,
		"the right workflow execution and another":   `{"%s":{"id":"` + workflowID + `","id":"99999999-xxxx-xxxx-xxxx-xxxxxxxxxxxx"}}`,
		"the workflow execution's id as the account": `{"account":{"id":"` + workflowID + `"}}`,
	}
	sameSubjects = map[string]string{
		"both ids":           `{"%s":{"id":"` + workflowID + `","status":"PROCESSED"},"account":{"id":"` + accountID + `"}}`,
		"in capital letters": `{"%s":{"id":"` + strings.ToUpper(workflowID) + `"},"account":{"id":"` + strings.ToUpper(accountID) + `"}}`,
		"none":               `{"%s":{"status":"PROCESSED"}}`,
		"ids that are none":  `{"%s":{"id":7},"account":{"id":"../x"}}`,
	}
)

// TestDetailsOfSomethingElse: an answer about another workflow execution or
// account is an error, which names no id.
func TestDetailsOfSomethingElse(t *testing.T) {
	var body string
	s := newServer(t, nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
	c := newClient(t, testConfig(s.URL))
	ask := map[string]func(name string) error{
		EndpointDetails: func(format string) error {
			return second(c.ParseDetails([]byte(strings.ReplaceAll(format, "%s", "workflow")), testWorkflow))
		},
		EndpointStatus: func(format string) error {
			body = strings.ReplaceAll(format, "%s", "workflowExecution")
			return second(c.Status(t.Context(), testWorkflow))
		},
	}
	for endpoint, ask := range ask {
		for name, format := range otherSubjects {
			t.Run(endpoint+"/"+name, func(t *testing.T) {
				e := asError(t, ask(format), CodeDetailsMismatch)
				if e.Endpoint != endpoint || e.Verdict != EndAttempt || strings.Contains(e.Error(), "xxxx") {
					t.Errorf("got %#v, %v", e, e)
				}
			})
		}
		for name, format := range sameSubjects {
			t.Run(endpoint+"/"+name, func(t *testing.T) {
				if err := ask(format); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if _, err := c.ParseDetails([]byte(`{"account":{"id":"any"}}`), Workflow{ID: workflowID}); err != nil {
		t.Errorf("an account that was not asked for: %v", err)
	}
}

// TestDetailsOverTheLimits: parts beyond 500, and those of credentials beyond
// 1,000, are counted.
func TestDetailsOverTheLimits(t *testing.T) {
	list := func(n int, element string) string {
		var elements []string
		for i := range n {
			elements = append(elements, strings.ReplaceAll(element, "#", strconv.Itoa(i)))
		}
		return strings.Join(elements, ",")
	}
	tests := map[string]struct {
		body           string
		parts, missing int
		count          int
	}{
		"as many as allowed": {`{"credentials":[{"id":"c","parts":[` + list(500, `{"classifier":"P#"}`) + `]}]}`, 500, 0, 0},
		"parts":              {`{"credentials":[{"id":"c","parts":[` + list(503, `{"classifier":"P#"}`) + `]}]}`, 500, 1, 3},
		"parts that are missing anyway": {
			`{"credentials":[{"id":"c","parts":[{},` + list(501, `{"classifier":"P#"}`) + `]}]}`, 499, 2, 3,
		},
		"credentials": {
			`{"credentials":[` + list(1000, `{"id":"c#"}`) + `,` + list(2, `{"id":"d#","parts":[{"classifier":"P"},{"classifier":"Q"},7]}`) + `]}`, 0, 1, 4,
		},
		"facemaps": {
			`{"capabilities":{"liveness":[{},` + list(502, `{"validFaceMapForAuthentication":"`+partHref("amer-1", "a", "f#", "FACEMAP")+`"}`) + `]}}`, 500, 1, 2,
		},
		"capabilities": {
			`{"capabilities":{` + list(1000, `"a#":{}`) + `,"b":{"validFaceMapForAuthentication":"` + partHref("amer-1", "a", "f", "FACEMAP") + `"}}}`, 1, 0, 0,
		},
	}
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := c.ParseDetails([]byte(tt.body), testWorkflow)
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Parts) != tt.parts || len(d.Missing) != tt.missing || d.MissingCount() != tt.count {
				t.Errorf("%d parts, %d entries of missing ones that stand for %d", len(d.Parts), len(d.Missing), d.MissingCount())
			}
			if n := len(d.Missing); n > 0 && d.Missing[n-1].Reason != "too many parts" {
				t.Errorf("the last one is %+v", d.Missing[n-1])
			}
		})
	}
}

// TestHostileDetails: what costs much to read carelessly costs little memory
// and time, and the lists stay short.
func TestHostileDetails(t *testing.T) {
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	for name, body := range hostileDetails(2 << 20) {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			d, err := c.ParseDetails(body, testWorkflow)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			// It is less than 3 times (BenchmarkParseDetails); with the race
			// detector, each small allocation is a larger one.
			if n := int(after.TotalAlloc - before.TotalAlloc); n > 8*len(body) {
				t.Errorf("%d bytes of details took %d bytes", len(body), n)
			}
			if took := time.Since(start); took > 10*time.Second { // quadratic would be a minute
				t.Errorf("took %v", took)
			}
			if n := len(d.Parts) + len(d.Missing); n > 501 {
				t.Errorf("%d entries", n)
			}
		})
	}
}
