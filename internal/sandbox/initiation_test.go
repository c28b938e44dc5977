package sandbox

import (
	"net/http"
	"strings"
	"testing"
)

func TestInitiationIsAsStrictAsTheGuide(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	with := func(field string) string { return initiationOf("3", field) }
	credentials := func(list string) string {
		return `{"customerInternalReference":"x","workflowDefinition":{"key":3,"credentials":[` + list + `]}}`
	}
	for _, tt := range []struct {
		body   string
		status int
		detail string // of the problem
	}{
		{initiationOf("3"), 200, ""},
		{initiationOf(`"32"`), 200, ""},
		{with(`"somethingNew":{"a":1}`), 200, ""},
		{with(`"userReference":"` + strings.Repeat("ü", 100) + `"`), 200, ""},
		{with(`"userReference":"` + strings.Repeat("u", 101) + `"`), 400, "userReference is longer than 100"},
		{with(`"reportingCriteria":"` + strings.Repeat("r", 256) + `"`), 400, "reportingCriteria is longer than 255"},
		{with(`"callbackUrl":"https://example.com/` + strings.Repeat("c", 255) + `"`), 400, "callbackUrl is longer than 255"},
		{with(`"callbackUrl":"ftp://example.com"`), 400, "callbackUrl must be"},
		{with(`"callbackUrl":"https://example.com/#x"`), 400, "callbackUrl must be"},
		{with(`"web":{"successUrl":"/ok","errorUrl":"javascript:alert(1)","locale":"xx"}`), 400, "web.successUrl must be an http or https address without a fragment; web.errorUrl must be"},
		{with(`"web":{"locale":"xx"}`), 400, "web.locale"},
		{with(`"web":{"locale":"zh-CN"}`), 200, ""},
		{with(`"tokenLifetime":"5m"`), 200, ""},
		{with(`"tokenLifetime":"60d"`), 200, ""},
		{with(`"tokenLifetime":"600s"`), 200, ""},
		{with(`"tokenLifetime":"4m"`), 400, "between 5m and 60d"},
		{with(`"tokenLifetime":"61d"`), 400, "between 5m and 60d"},
		{with(`"tokenLifetime":"999999999d"`), 400, "between 5m and 60d"},
		{with(`"tokenLifetime":"1w"`), 400, "tokenLifetime must be a number"},
		{with(`"tokenLifetime":30`), 400, "tokenLifetime must not be a JSON number"},
		{`{"workflowDefinition":{"key":3}}`, 400, "customerInternalReference is missing"},
		{`{"customerInternalReference":"a/b","workflowDefinition":{"key":3}}`, 400, "customerInternalReference must hold none of"},
		{`{"customerInternalReference":"` + strings.Repeat("c", 101) + `","workflowDefinition":{"key":3}}`, 400, "customerInternalReference is longer"},
		{`{"customerInternalReference":"x"}`, 400, "workflowDefinition.key is missing"},
		{initiationOf("4"), 400, "workflowDefinition.key is none of 2, 3, 5, 6, 9, 16, 20, 32"},
		{credentials(`{"category":"PASSPORT"}`), 400, "workflowDefinition.credentials[0].category is none of ID, FACEMAP, DOCUMENT, SELFIE"},
		{credentials(`{"category":"ID"},{"category":"ID"}`), 400, "twice"},
		{credentials(`{"category":"ID","country":{"values":["XKX"]}}`), 200, ""},
		{credentials(`{"category":"ID","country":{"values":["DE"]}}`), 400, "credentials[0].country.values"},
		{credentials(`{"category":"ID","country":{"values":["ZZZ"]}}`), 400, "credentials[0].country.values"},
		{credentials(`{"category":"ID","country":{"values":[]}}`), 400, "credentials[0].country.values is missing"},
		{credentials(`{"category":"ID","country":{"values":["AUT"],"predefinedType":"FIXED"}}`), 400, "predefinedType"},
		{credentials(`{"category":"ID","type":{"values":["JUMIO_STANDARD"]}}`), 400, "credentials[0].type.values"},
		{credentials(`{"category":"FACEMAP","type":{"values":["PASSPORT"]}}`), 400, "credentials[0].type.values"},
		{credentials(`{"category":"SELFIE","type":{"values":["PASSPORT"]}}`), 400, "credentials[0].type.values"},
		{with(`"reportingCriteria":"kind=nonsense"`), 400, "unknown kind"},
		{with(`"reportingCriteria":"kind=session-expired"`), 400, "does not fit"},
		{with(`"reportingCriteria":"fault=nonsense"`), 400, "fault"},
		{with(`"reportingCriteria":"fault=token:500"`), 400, "belong to no journey"},
		{initiationOf("6", `"reportingCriteria":"kind=passed-passport"`), 400, "does not fit"},
		{`[]`, 400, "the body is not the guide's JSON object"},
		{``, 400, "the body is not the guide's JSON object"},
		{initiationOf("3") + "x", 400, "the body is not the guide's JSON object"},
	} {
		status, answer := c.send(http.MethodPost, accounts, "application/json", tt.body)
		if status != tt.status || !strings.Contains(string(answer), tt.detail) {
			t.Errorf("%.120s: %d %s, want %d with %q", tt.body, status, answer, tt.status, tt.detail)
		} else if status != 200 {
			checkProblem(t, status, answer)
		}
	}
}

func TestInitiationChecksTheGuidesHeaders(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	a, _ := c.create(initiationOf("3"))
	for _, address := range []string{http.MethodPost + " " + accounts, http.MethodPut + " " + accounts + "/" + a.Account.ID} {
		method, path, _ := strings.Cut(address, " ")
		for _, tt := range []struct {
			header, value string
			want          int
		}{
			{"Accept", "application/json", 200},
			{"Accept", "", 403},
			{"Content-Type", "", 403},
			{"Content-Type", "text/plain", 403},
			{"User-Agent", "", 403},
			{"Authorization", "", 401},
			{"Authorization", "Bearer " + credentialOf(t, a, "ID").API.Token, 401},
			{"Content-Length", "", 403},
		} {
			r := c.sending(method, path, "application/json", initiationOf("3"))
			switch {
			case tt.header == "Content-Length":
				r.ContentLength = -1
			case tt.value == "":
				r.Header.Set(tt.header, "")
			default:
				r.Header.Set(tt.header, tt.value)
			}
			status, answer, err := c.do(r)
			if err != nil || status != tt.want {
				t.Errorf("%s with %s %q: %d %s %v, want %d", method, tt.header, tt.value, status, answer, err, tt.want)
			}
		}
	}
	r := c.sending(http.MethodPost, accounts, "application/json", initiationOf("3"))
	r.SetBasicAuth("sandbox", "sandbox")
	if status, answer, err := c.do(r); err != nil || status != 200 {
		t.Errorf("Basic authentication: %d %s %v", status, answer, err)
	}
}
