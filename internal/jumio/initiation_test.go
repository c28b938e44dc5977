package jumio

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const least = `"customerInternalReference":"r","workflowDefinition":{"key":2}`

// TestInitiationProblems compares requests with the guide's limits: one line for each that
// is broken.
func TestInitiationProblems(t *testing.T) {
	x := func(n int) string { return strings.Repeat("ä", n) }
	address := func(n int) string { return "https://h.example/" + strings.Repeat("x", n-18) }
	definition := func(text string) string {
		return `{"customerInternalReference":"r","workflowDefinition":` + text + `}`
	}
	credential := func(text string) string { return definition(`{"key":2,"credentials":[` + text + `]}`) }
	const oneOfIDs = ", not one of ID_CARD, DRIVING_LICENSE, PASSPORT, VISA"
	for name, tt := range map[string]struct {
		body string
		want []string
	}{
		"the least": {"{" + least + "}", nil},
		"the guide's": {`{"customerInternalReference":"CUSTOMER_REFERENCE","workflowDefinition":{"key":2,"credentials":[{"category":"ID",
			"type":{"values":["DRIVING_LICENSE","ID_CARD","PASSPORT"]},"country":{"values":["USA","CAN","AUT","GBR"]}},
			{"category":"FACEMAP","type":{"predefinedType":"RECOMMENDED","values":["IPROOV_STANDARD","IPROOV_PREMIUM","JUMIO_STANDARD"]}},
			{"category":"DOCUMENT","type":{"values":["US_PAYSLIP"]}},{"category":"SELFIE"}]},
			"callbackUrl":"https://h.example/c","userReference":"u","reportingCriteria":"","tokenLifetime":"1d",
			"web":{"successUrl":"https://h.example/s","errorUrl":"app://done","locale":"pt-BR"}}`, nil},
		"unknown parameters": {"{" + least + `,"userConsent":{"userIp":"192.0.2.1"},"web":{"later":1}}`, nil},
		"nulls":              {"{" + least + `,"userReference":null,"web":null,"callbackUrl":null}`, nil},
		"the longest": {`{"customerInternalReference":"` + x(100) + `","workflowDefinition":{"key":2,"credentials":[]},"userReference":"` + x(100) +
			`","reportingCriteria":"` + x(255) + `","callbackUrl":"` + address(255) + `","web":{"successUrl":"` + address(255) + `","errorUrl":"` + address(255) + `"},"tokenLifetime":"60d"}`, nil},
		"one too long each": {`{"customerInternalReference":"` + x(101) + `","workflowDefinition":{"key":2},"userReference":"` + x(101) +
			`","reportingCriteria":"` + x(256) + `","callbackUrl":"` + address(256) + `","web":{"successUrl":"` + address(256) + `","errorUrl":"` + address(256) + `"}}`, []string{
			"customerInternalReference has 101 characters, at most 100 are allowed",
			"userReference has 101 characters, at most 100 are allowed",
			"reportingCriteria has 256 characters, at most 255 are allowed",
			"callbackUrl has 256 characters, at most 255 are allowed",
			"web.successUrl has 256 characters, at most 255 are allowed",
			"web.errorUrl has 256 characters, at most 255 are allowed",
		}},
		"nothing":              {`{}`, []string{"customerInternalReference is missing", "workflowDefinition.key is missing"}},
		"empty":                {`{"customerInternalReference":"","userReference":"","workflowDefinition":{}}`, []string{"customerInternalReference is missing", "workflowDefinition.key is missing", "userReference is empty"}},
		"no definition":        {definition(`[]`), []string{"workflowDefinition is not an object"}},
		"a key as a string":    {definition(`{"key":"2"}`), []string{"workflowDefinition.key is not a whole number above 0"}},
		"a key with a part":    {definition(`{"key":2.5}`), []string{"workflowDefinition.key is not a whole number above 0"}},
		"a key of 0":           {definition(`{"key":0}`), []string{"workflowDefinition.key is not a whole number above 0"}},
		"no array":             {definition(`{"key":2,"credentials":{}}`), []string{"workflowDefinition.credentials is not an array"}},
		"no objects":           {definition(`{"key":2,"credentials":["ID",{}]}`), []string{"workflowDefinition.credentials[0] is not an object"}},
		"an unknown category":  {credential(`{"category":"PASSPORT"}`), []string{`workflowDefinition.credentials[0].category is "PASSPORT", not one of ID, FACEMAP, DOCUMENT, SELFIE`}},
		"countries":            {credential(`{"category":"ID","country":{"values":["AT","AUT","aut"]}}`), []string{`workflowDefinition.credentials[0].country.values has "AT", not an ISO 3166-1 alpha-3 code such as AUT`, `workflowDefinition.credentials[0].country.values has "aut", not an ISO 3166-1 alpha-3 code such as AUT`}},
		"no country":           {credential(`{"category":"ID","country":{"values":[]}}`), []string{"workflowDefinition.credentials[0].country.values is empty, at least one is needed"}},
		"countries as a list":  {credential(`{"category":"ID","country":["AUT"]}`), []string{"workflowDefinition.credentials[0].country is not an object"}},
		"numbers as countries": {credential(`{"category":"ID","country":{"values":[1]}}`), []string{"workflowDefinition.credentials[0].country.values has something else than strings"}},
		"a type of another":    {credential(`{"category":"ID","type":{"values":["JUMIO_STANDARD"]}}`), []string{`workflowDefinition.credentials[0].type.values has "JUMIO_STANDARD"` + oneOfIDs}},
		"DRIVING LICENSE":      {credential(`{"category":"ID","type":{"values":["DRIVING LICENSE"]}}`), []string{`workflowDefinition.credentials[0].type.values has "DRIVING LICENSE"` + oneOfIDs}},
		"predefinedType":       {credential(`{"category":"ID","type":{"predefinedType":"FIXED"}}`), []string{`workflowDefinition.credentials[0].type.predefinedType is "FIXED", not one of DEFINED, RECOMMENDED`}},
		"wrong types":          {`{"customerInternalReference":1,"workflowDefinition":{"key":2},"userReference":["u"],"reportingCriteria":true,"callbackUrl":{},"tokenLifetime":30,"web":"x"}`, []string{"customerInternalReference is not a string", "userReference is not a string", "reportingCriteria is not a string", "callbackUrl is not a string", "tokenLifetime is not a string", "web is not an object"}},
		"a secret path":        {"{" + least + `,"callbackUrl":"/secret"}`, []string{"callbackUrl is not an absolute URL such as https://www.example.com/path"}},
		"a callback to an app": {"{" + least + `,"callbackUrl":"app://secret"}`, []string{"callbackUrl is not an absolute URL such as https://www.example.com/path"}},
		"a script":             {"{" + least + `,"web":{"successUrl":"javascript:alert(1)"}}`, []string{"web.successUrl is not an absolute URL such as https://www.example.com/path"}},
		"an unknown language":  {"{" + least + `,"web":{"locale":"de-AT"}}`, []string{"web.locale is \"de-AT\", not one of " + strings.Join(locales, ", ")}},
		"a short lifetime":     {"{" + least + `,"tokenLifetime":"299s"}`, []string{"tokenLifetime is not from 5m to 60d"}},
	} {
		t.Run(name, func(t *testing.T) {
			initiation, err := ParseInitiation([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, initiation.Problems()); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, forbidden := range "<>\"/;%`" {
		initiation := Initiation{"customerInternalReference": "a" + string(forbidden), "workflowDefinition": map[string]any{"key": json.Number("2")}}
		want := []string{"customerInternalReference must not contain any of <>\"/;%`"}
		if diff := cmp.Diff(want, initiation.Problems()); diff != "" {
			t.Errorf("%c: %s", forbidden, diff)
		}
	}
	if len(locales) != 39 {
		t.Errorf("%d languages", len(locales))
	}
}

func TestInitiationFields(t *testing.T) {
	initiation, err := ParseInitiation([]byte(`{"userReference":"u<>&","workflowDefinition":{"key":10011},"tokenLifetime":"600s","amount":1.50}`))
	if err != nil {
		t.Fatal(err)
	}
	if initiation.UserReference() != "u<>&" || initiation.DefinitionKey() != "10011" || initiation.TokenLifetime() != 10*time.Minute {
		t.Errorf("%s, %s, %v", initiation.UserReference(), initiation.DefinitionKey(), initiation.TokenLifetime())
	}
	body, err := initiation.Encode()
	if err != nil || string(body) != `{"amount":1.50,"tokenLifetime":"600s","userReference":"u<>&","workflowDefinition":{"key":10011}}` {
		t.Errorf("%s, %v", body, err)
	}
	none := Initiation{}
	if none.UserReference() != "" || none.DefinitionKey() != "" || none.TokenLifetime() != 30*time.Minute {
		t.Error("wrong defaults")
	}
}

func TestParseTokenLifetime(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"5m": 5 * time.Minute, "300s": 5 * time.Minute, "30m": 30 * time.Minute, "1h": time.Hour, "1d": day, "60d": 60 * day, "5184000s": 60 * day, "0060d": 60 * day,
		"4m": 0, "299s": 0, "61d": 0, "5184001s": 0, "": 0, "30": 0, "m": 0, "1.5h": 0, "1w": 0, "30M": 0, " 30m": 0, "30m ": 0, "-30m": 0, "1h30m": 0, "999999999d": 0, "9999999999m": 0, "3０m": 0,
	} {
		got, err := ParseTokenLifetime(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %v, %v, want %v", text, got, err, want)
		}
	}
}

func FuzzParseTokenLifetime(f *testing.F) {
	for _, seed := range []string{"30m", "1d", "600s", "60d", "61d", "", "9999999999999999999d", "1e3m"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTokenLifetime(text)
		if err == nil && (got < 5*time.Minute || got > 60*24*time.Hour || got%time.Second != 0) || err != nil && got != 0 {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	})
}

// Whatever a body holds: what is taken is sent with the same meaning, and problems are
// lines that begin with a parameter and repeat no long value.
func FuzzParseInitiation(f *testing.F) {
	for _, seed := range []string{
		"{" + least + "}", `{"workflowDefinition":{"key":1e2,"credentials":[{"category":"ID","country":{"values":["AUT"]}},null]}}`,
		`{"web":{"locale":"\u2028\n"},"tokenLifetime":"1d"}`, `{"a":1e400,"a":"\ud800"}`, "[]", "null", "", "{}{}", "\xff{}", `{"a":"` + "\xff" + `"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		initiation, err := ParseInitiation([]byte(body))
		if err != nil {
			return
		}
		if !utf8.ValidString(body) {
			t.Error("taken, although it is not UTF-8")
		}
		for _, problem := range initiation.Problems() {
			name, _, _ := strings.Cut(problem, " ")
			name, _, _ = strings.Cut(name, "[")
			name, _, _ = strings.Cut(name, ".")
			if strings.ContainsAny(problem, "\r\n") || len(problem) > 700 ||
				!slices.Contains([]string{"customerInternalReference", "workflowDefinition", "userReference", "reportingCriteria", "callbackUrl", "tokenLifetime", "web"}, name) {
				t.Errorf("problem %q", problem)
			}
		}
		sent, err := initiation.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseInitiation(sent)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(initiation, again); diff != "" {
			t.Error(diff)
		}
	})
}
