package jumio

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"callbackd/internal/callback"
)

// at follows names through decoded JSON objects, matched exactly; nil for none.
func at(value any, names ...string) any {
	for _, name := range names {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

func text(value any) string {
	s, _ := value.(string)
	if utf8.RuneCountInString(s) > maxText {
		return ""
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// elements are the objects of an array, or the one object.
func elements(value any) []any {
	if list, ok := value.([]any); ok {
		return list
	}
	return []any{value}
}

// Whatever Jumio sends: no JSON object is an error, fields are read as
// encoding/json reads a tree, every part that the details name plainly is there,
// each can be asked for, and none is listed twice.
func FuzzParseDetails(f *testing.F) {
	for _, seed := range []string{
		guideDetails,
		`{"workflow":{"status":"\u0000\ud800","definitionKey":1e400,"userReference":"\xff","customerInternalReference":"c"},"account":{"id":"a b"}}`,
		`{"workflow":{"status":"A","Status":"B","STATUS":"C"},"Account":{"id":"a"},"account":{"Id":"b"}}`,
		`{"workflow":{"id":"x"},"account":{"id":"y"}}`,
		`{"workflow":{"definitionKey":"","definitionKey":-0.0},"workflow":null,"account":[{"id":"a"}]}`,
		`{"credentials":{"id":"c","parts":{"classifier":"FACE","href":"` + partHref("amer-1", "b", "c", "D") + `"}}}`,
		`{"account":{"id":"` + accountID + `"},"credentials":[{"id":"c","category":"ID","parts":[{"classifier":"FRONT"},{"classifier":"FRONT"},{"Classifier":"BACK"}]}]}`,
		`{"capabilities":{"a":[{"validFaceMapForAuthentication":"x","credentials":{"id":"f","category":"FACEMAP"}}]}}`,
		`{"credentials":[[],{},{"parts":[[],{}]}],"capabilities":{"a":1}}`,
		"[]", "null", "{", "{}{}", "\ufeff{}", " {} ",
	} {
		f.Add(seed)
	}
	c, err := New(testConfig("http://127.0.0.1:8099"), nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		d, err := c.ParseDetails([]byte(body), testWorkflow)
		var tree any
		in := json.NewDecoder(strings.NewReader(body))
		in.UseNumber()
		decodeErr := in.Decode(&tree)
		_, isObject := tree.(map[string]any)
		account, id := validOrNone(text(at(tree, "account", "id"))), validOrNone(text(at(tree, "workflow", "id")))
		code := ""
		if whole := decodeErr == nil && strings.Trim(body[in.InputOffset():], " \t\r\n") == ""; !whole || !isObject {
			code = CodeInvalidJSON
		} else if (account != "" && !strings.EqualFold(account, accountID)) || (id != "" && !strings.EqualFold(id, workflowID)) {
			code = CodeDetailsMismatch
		}
		if code != "" {
			wantCode(t, err, code)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		definitionKey := text(at(tree, "workflow", "definitionKey"))
		if number, ok := at(tree, "workflow", "definitionKey").(json.Number); ok && len(number) <= maxText {
			definitionKey = number.String()
		}
		for name, field := range map[string][2]string{
			"workflow.id":               {d.WorkflowID, id},
			"status":                    {d.Status, text(at(tree, "workflow", "status"))},
			"account.id":                {d.AccountID, account},
			"definitionKey":             {d.DefinitionKey, definitionKey},
			"userReference":             {d.UserReference, text(at(tree, "workflow", "userReference"))},
			"customerInternalReference": {d.CustomerInternalReference, text(at(tree, "workflow", "customerInternalReference"))},
		} {
			if field[0] != field[1] || !utf8.ValidString(field[0]) || strings.Contains(field[0], "\x00") {
				t.Errorf("%s is %q, want %q", name, field[0], field[1])
			}
		}
		if len(d.Parts)+len(d.Missing) > maxParts+1 {
			t.Errorf("%d parts, %d missing", len(d.Parts), len(d.Missing))
		}
		if d.MissingCount() > len(d.Missing) {
			return // over the limits
		}
		listed := map[string]int{}
		for _, p := range d.Parts {
			if !callback.ValidID(p.AccountID) || !callback.ValidID(p.CredentialID) || !callback.ValidID(p.Classifier) {
				t.Errorf("part %+v cannot be asked for", p)
			}
			listed[p.CredentialID+"/"+p.Classifier]++
		}
		for part, n := range listed {
			if n > 1 {
				t.Errorf("part %s is listed %d times", part, n)
			}
		}
		for _, credential := range elements(at(tree, "credentials")) {
			for _, part := range elements(at(credential, "parts")) {
				id, classifier := text(at(credential, "id")), text(at(part, "classifier"))
				if callback.ValidID(id) && callback.ValidID(classifier) && text(at(part, "href")) == "" && listed[id+"/"+classifier] == 0 {
					t.Errorf("part %s/%s is not listed: %+v", id, classifier, d.Parts)
				}
			}
		}
	})
}

func validOrNone(id string) string {
	if callback.ValidID(id) {
		return id
	}
	return ""
}
