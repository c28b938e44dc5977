package jumio

import (
	"encoding/json"
	"strconv"
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

// text is a string of at most limit characters, or a boolean.
func text(value any, limit int) string {
	if b, ok := value.(bool); ok {
		return strconv.FormatBool(b)
	}
	s, _ := value.(string)
	if utf8.RuneCountInString(s) > limit {
		return ""
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// id is a string with the syntax of an id.
func id(value any) string {
	if s, _ := value.(string); callback.ValidID(s) {
		return s
	}
	return ""
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
		account, workflow := id(at(tree, "account", "id")), id(at(tree, "workflow", "id"))
		code := ""
		if whole := decodeErr == nil && strings.Trim(body[in.InputOffset():], " \t\r\n") == ""; !whole || !isObject {
			code = CodeInvalidJSON
		} else if (account != "" && !strings.EqualFold(account, accountID)) || (workflow != "" && !strings.EqualFold(workflow, workflowID)) {
			code = CodeDetailsMismatch
		}
		if code != "" {
			wantCode(t, err, code)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if idOrNone(d.WorkflowID) != workflow || idOrNone(d.AccountID) != account {
			t.Errorf("workflow %q, account %q", d.WorkflowID, d.AccountID)
		}
		for name, field := range map[string]struct {
			got   string
			limit int
		}{"status": {d.Status, 4096}, "definitionKey": {d.DefinitionKey, 4096}, "userReference": {d.UserReference, 256}, "customerInternalReference": {d.CustomerInternalReference, 256}} {
			value := at(tree, "workflow", name)
			if _, number := value.(json.Number); number { // internal/details compares them with Postgres
				continue
			}
			if want := text(value, field.limit); field.got != want {
				t.Errorf("%s is %q, want %q", name, field.got, want)
			}
		}
		if len(d.Parts)+len(d.Missing) > 501 {
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
				from, classifier := id(at(credential, "id")), id(at(part, "classifier"))
				href, _ := at(part, "href").(string)
				if from != "" && classifier != "" && text(href, 4096) == "" && listed[from+"/"+classifier] == 0 {
					t.Errorf("part %s/%s is not listed: %+v", from, classifier, d.Parts)
				}
			}
		}
	})
}
