package jumio

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestParseDetails(t *testing.T) {
	tests := map[string]struct {
		body string
		want Details
	}{
		"the guide's example": {
			guideDetails,
			Details{Status: "PROCESSED", AccountID: accountID, DefinitionKey: "2", Parts: []Part{frontPart}},
		},
		"all fields": {
			`{"workflow":{"status":"PROCESSED","definitionKey":10011,"userReference":"u\u0000r","customerInternalReference":"c"},"account":{"id":"a"}}`,
			Details{Status: "PROCESSED", AccountID: "a", DefinitionKey: "10011", UserReference: "u\uFFFDr", CustomerInternalReference: "c"},
		},
		"names are matched exactly, the last of duplicates holds": {
			`{"account":{"id":"old"},"account":{"ID":"b","id":"a"},"Account":{"id":"c"},
			  "workflow":{"status":"PROCESSED","Status":"INITIATED","status":"ACQUIRED"},
			  "Credentials":[{"id":"d","parts":[{"classifier":"FRONT"}]}]}`,
			Details{Status: "ACQUIRED", AccountID: "a"},
		},
		"nothing": {`{}`, Details{}},
		"other types everywhere": {
			`{"workflow":[1],"account":"a","credentials":"none","capabilities":[{"validFaceMapForAuthentication":"x"}]}`,
			Details{},
		},
		"odd fields inside": {
			`{"workflow":{"status":1,"definitionKey":{},"userReference":[],"customerInternalReference":null},"account":{"id":{}},
			  "credentials":[null,7,"x",{"id":3,"category":4,"parts":"none"},{"id":"c","parts":[null,"FRONT"]},{"id":"d"}],
			  "capabilities":{"extraction":{"data":{}},"liveness":[null,{"validFaceMapForAuthentication":{}},{"validFaceMapForAuthentication":null}],"usability":null}}`,
			Details{},
		},
		"a single credential and a single part": {
			`{"account":{"id":"a"},"credentials":{"id":"c","category":"SELFIE","parts":{"classifier":"FACE"}}}`,
			Details{AccountID: "a", Parts: []Part{{"a", "c", "SELFIE", "FACE"}}},
		},
		"part without an href, account of the callback": {
			`{"credentials":[{"id":"c","category":"ID","parts":[{"classifier":"BACK"}]}]}`,
			Details{Parts: []Part{{accountID, "c", "ID", "BACK"}}},
		},
		"part with a foreign href": {
			`{"account":{"id":"a"},"credentials":[{"id":"c","category":"ID","parts":[{"classifier":"BACK","href":"https://evil.example/api/v1/accounts/x/credentials/y/parts/Z"}]}]}`,
			Details{AccountID: "a", Parts: []Part{{"a", "c", "ID", "BACK"}}},
		},
		"the ids of a trusted href win": {
			`{"account":{"id":"a"},"credentials":[{"id":"c","category":"ID","parts":[{"classifier":"BACK","href":"` + partHref("emea-1", "a2", "c2", "FRONT") + `"}]}]}`,
			Details{AccountID: "a", Parts: []Part{{"a2", "c2", "ID", "FRONT"}}},
		},
		"each credential and classifier once": {
			`{"account":{"id":"a"},"credentials":[
			   {"id":"c","category":"ID","parts":[{"classifier":"FRONT"},{"classifier":"FRONT","href":"` + partHref("amer-1", "a", "c", "FRONT") + `"},{"classifier":"BACK"}]},
			   {"id":"f","category":"FACEMAP","parts":[{"classifier":"FACEMAP"}]}],
			  "capabilities":{"liveness":[{"validFaceMapForAuthentication":"` + partHref("amer-1", "a", "f", "FACEMAP") + `"}]}}`,
			Details{AccountID: "a", Parts: []Part{{"a", "c", "ID", "FRONT"}, {"a", "c", "ID", "BACK"}, {"a", "f", "FACEMAP", "FACEMAP"}}},
		},
		"facemap of another workflow, in any capability": {
			`{"account":{"id":"a"},"capabilities":{
			   "liveness":[{},{"validFaceMapForAuthentication":"` + partHref("amer-1", "a", "f1", "FACEMAP") + `"}],
			   "brandNew":{"validFaceMapForAuthentication":"` + partHref("amer-1", "a", "f2", "FACEMAP") + `"}}}`,
			Details{AccountID: "a", Parts: []Part{{"a", "f2", "FACEMAP", "FACEMAP"}, {"a", "f1", "FACEMAP", "FACEMAP"}}},
		},
		"facemap with a foreign href, credential in the capability": {
			`{"account":{"id":"a"},"capabilities":{"liveness":[{"validFaceMapForAuthentication":"https://evil.example/x","credentials":[{"id":"s","category":"SELFIE"},{"id":"f","category":"FACEMAP"}]}]}}`,
			Details{AccountID: "a", Parts: []Part{{"a", "f", "FACEMAP", "FACEMAP"}}},
		},
		"facemap with a foreign href, credential in the workflow": {
			`{"account":{"id":"a"},"credentials":[{"id":"f","category":"FACEMAP"}],"capabilities":{"liveness":[{"validFaceMapForAuthentication":"https://evil.example/x"}]}}`,
			Details{AccountID: "a", Parts: []Part{{"a", "f", "FACEMAP", "FACEMAP"}}},
		},
		"facemap with a foreign href, two credentials": {
			`{"account":{"id":"a"},"capabilities":{"liveness":[{"validFaceMapForAuthentication":"https://evil.example/x","credentials":[{"id":"f","category":"FACEMAP"},{"id":"g","category":"FACEMAP"}]}]}}`,
			Details{AccountID: "a", Missing: []MissingPart{{Part{"a", "", "FACEMAP", "FACEMAP"}, "no credential id"}}},
		},
		"parts that no address can be built for": {
			`{"account":{"id":"a"},"credentials":[
			   {"category":"ID","parts":[{"classifier":"FRONT"}]},
			   {"id":"../c","category":"ID","parts":[{"classifier":"FRONT"},{"classifier":"BACK"}]},
			   {"id":"c","category":"JANE DOE","parts":[{},{"classifier":"JANE DOE"},{"classifier":"a/b"}]}]}`,
			Details{AccountID: "a", Missing: []MissingPart{
				{Part{"a", "", "ID", "FRONT"}, "no credential id"},
				{Part{"a", "", "ID", "BACK"}, "no credential id"},
				{Part{"a", "c", "", ""}, "no classifier"},
			}},
		},
	}
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := c.ParseDetails([]byte(tt.body), testWorkflow)
			if err != nil {
				t.Fatal(err)
			}
			if got.Parts = append([]Part(nil), got.Parts...); len(got.Missing) == 0 {
				got.Missing = nil
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
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
	want := &Details{
		Parts:   []Part{{"a", "f", "FACEMAP", "FACEMAP"}}, // the capability's href knew the account
		Missing: []MissingPart{{Part{"", "c", "ID", "FRONT"}, "no account id"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseDetailsRefusesWhatIsNoObject(t *testing.T) {
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	for _, body := range []string{"", "null", "[]", `"x"`, "{", "<html>", "{}x"} {
		if _, err := c.ParseDetails([]byte(body), testWorkflow); !errors.Is(err, ErrNotJSONObject) {
			t.Errorf("%q: got %v", body, err)
		}
	}
}
