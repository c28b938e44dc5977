package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox/journey"
)

const accounts = "/api/v1/accounts"

// send makes a request of the APIs that take data.
func (c *apiClient) send(method, path, contentType, body string) (int, []byte) {
	c.t.Helper()
	status, answer, err := c.do(c.sending(method, path, contentType, body))
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return status, answer
}

func (c *apiClient) sending(method, path, contentType, body string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequest(method, c.s.URL()+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header = c.request(path).Header
	r.Header.Set("Content-Type", contentType)
	return r
}

// initiationOf is a body with the definition's key and more parameters.
func initiationOf(key string, more ...string) string {
	fields := append([]string{`"customerInternalReference":"order-1"`, `"workflowDefinition":{"key":` + key + `}`}, more...)
	return "{" + strings.Join(fields, ",") + "}"
}

// create creates an account and returns the answer and its journey.
func (c *apiClient) create(body string) (accountAnswer, *Journey) {
	c.t.Helper()
	return c.initiate(http.MethodPost, accounts, body)
}

func (c *apiClient) initiate(method, path, body string) (accountAnswer, *Journey) {
	c.t.Helper()
	status, answer := c.send(method, path, "application/json", body)
	var a accountAnswer
	if err := json.Unmarshal(answer, &a); err != nil || status != http.StatusOK {
		c.t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
	}
	j, ok := c.s.journey(a.WorkflowExecution.ID)
	if !ok {
		c.t.Fatal("the sandbox does not know what it has created")
	}
	return a, j
}

// credentialOf finds the credential of a category in an answer.
func credentialOf(t *testing.T, a accountAnswer, category string) credentialAnswer {
	t.Helper()
	i := slices.IndexFunc(a.WorkflowExecution.Credentials, func(c credentialAnswer) bool { return c.Category == category })
	if i < 0 {
		t.Fatalf("there is no credential %s", category)
	}
	return a.WorkflowExecution.Credentials[i]
}

func TestCreationAnswersAsTheGuideSays(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	_, raw := c.send(http.MethodPost, accounts, "application/json", `{
		"customerInternalReference": "CUSTOMER_REFERENCE",
		"workflowDefinition": {
			"key": 2,
			"credentials": [{
				"category": "ID",
				"type": {"values": ["DRIVING_LICENSE", "ID_CARD", "PASSPORT"]},
				"country": {"values": ["USA", "CAN", "AUT", "GBR"], "predefinedType": "RECOMMENDED"}
			}]
		},
		"callbackUrl": "https://callbacks.example.com/jumio",
		"userReference": "YOUR_USER_REFERENCE",
		"reportingCriteria": "campaign 7",
		"tokenLifetime": "1d",
		"web": {"successUrl": "https://example.com/ok", "errorUrl": "https://example.com/error", "locale": "es"}
	}`)
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	j := s.Journeys()[0]
	web, _ := url.Parse(got["web"].(map[string]any)["href"].(string))
	credential := got["workflowExecution"].(map[string]any)["credentials"].([]any)[0].(map[string]any)
	api := credential["api"].(map[string]any)
	for name, token := range map[string]any{
		"sdk.token": got["sdk"].(map[string]any)["token"], "api.token": api["token"], "authorizationToken": web.Query().Get("authorizationToken"),
	} {
		text, _ := token.(string)
		parts := strings.Split(text, ".")
		if payload, err := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)]); len(parts) != 3 || err != nil || !json.Valid(payload) {
			t.Errorf("%s is no JWT: %q", name, text)
		}
	}
	if web.Scheme+"://"+web.Host != s.URL() || web.Path != "/web/v4/app" || web.Query().Get("locale") != "es" {
		t.Errorf("web.href %s", web)
	}
	execution := "https://api.amer-1.jumio.ai" + detailsPath(j)
	parts := execution + "/credentials/" + credential["id"].(string) + "/parts/"
	want := map[string]any{
		"timestamp": got["timestamp"], "account": map[string]any{"id": j.AccountID},
		"web": got["web"], "sdk": got["sdk"],
		"workflowExecution": map[string]any{"id": j.WorkflowExecutionID, "credentials": []any{map[string]any{
			"id": j.parts[0].Credential, "category": "ID",
			"country":         map[string]any{"predefinedType": "RECOMMENDED", "values": []any{"USA", "CAN", "AUT", "GBR"}},
			"type":            map[string]any{"predefinedType": "DEFINED", "values": []any{"DRIVING_LICENSE", "ID_CARD", "PASSPORT"}},
			"allowedChannels": []any{"WEB", "API", "SDK"},
			"api": map[string]any{
				"token": api["token"], "parts": map[string]any{"front": parts + "FRONT", "back": parts + "BACK"}, "workflowExecution": execution,
			},
		}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if j.UserReference != "YOUR_USER_REFERENCE" || j.CustomerInternalReference != "CUSTOMER_REFERENCE" || j.callbackURL != "https://callbacks.example.com/jumio" {
		t.Errorf("journey %+v", j.Journey)
	}
}

func TestEveryDefinitionHasItsCredentials(t *testing.T) {
	s := start(t, Config{OwnHrefs: true})
	c := login(t, s)
	for key, want := range map[string]string{
		"2": "ID front back", "3": "ID front back, SELFIE face, FACEMAP facemap", "5": "SELFIE face, FACEMAP facemap", "6": "SELFIE face, FACEMAP facemap",
		"9": "SELFIE face, FACEMAP facemap", "16": "SELFIE face, FACEMAP facemap", "20": "ID front back, SELFIE face", "32": "ID front back, SELFIE face, FACEMAP facemap",
	} {
		a, j := c.create(initiationOf(key))
		var got []string
		for _, credential := range a.WorkflowExecution.Credentials {
			text := credential.Category
			for _, part := range []string{"front", "back", "face", "facemap"} {
				if href, ok := credential.API.Parts[part]; ok && strings.HasPrefix(href, s.URL()+"/api/v1/accounts/") {
					text += " " + part
				}
			}
			got = append(got, text)
		}
		if text := strings.Join(got, ", "); text != want || j.DefinitionKey != key {
			t.Errorf("definition %s has %s, want %s", key, text, want)
		}
	}
}

func TestCredentialsAreCustomised(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	for _, tt := range []struct{ key, credentials, want string }{
		{"2", `{"category":"FACEMAP","type":{"values":["IPROOV_STANDARD","JUMIO_STANDARD"]}},{"category":"ID"}`, "ID ID_CARD,DRIVING_LICENSE,PASSPORT,VISA WEB,API,SDK"},
		{"2", `{"category":"DOCUMENT","type":{"values":["BS"]}}`, "ID ID_CARD,DRIVING_LICENSE,PASSPORT,VISA WEB,API,SDK; DOCUMENT BS WEB,API,SDK"},
		{"6", `{"category":"FACEMAP","type":{"values":["IPROOV_PREMIUM"]}}`, "SELFIE  WEB,API,SDK; FACEMAP IPROOV_PREMIUM SDK"},
		{"6", `{"category":"SELFIE"}`, "SELFIE  WEB,API,SDK; FACEMAP IPROOV_STANDARD,IPROOV_PREMIUM,JUMIO_STANDARD WEB,API,SDK"},
	} {
		a, _ := c.create(`{"customerInternalReference":"x","workflowDefinition":{"key":"` + tt.key + `","credentials":[` + tt.credentials + `]}}`)
		var got []string
		for _, one := range a.WorkflowExecution.Credentials {
			got = append(got, one.Category+" "+strings.Join(one.Type.values(), ",")+" "+strings.Join(one.AllowedChannels, ","))
			if (one.API == nil) != (len(one.AllowedChannels) == 1) {
				t.Errorf("%s: api %v for the channels %v", one.Category, one.API, one.AllowedChannels)
			}
		}
		if text := strings.Join(got, "; "); text != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.key, tt.credentials, text, tt.want)
		}
	}
}

func TestUpdateAddsAWorkflowExecutionToTheAccount(t *testing.T) {
	s := start(t, Config{DataCenter: "apac-1", Clients: []Client{{ID: "sandbox", Secret: "sandbox"}, {ID: "us", Secret: "u", DataCenter: "amer-1"}}})
	c := login(t, s)
	a, first := c.create(initiationOf("3"))
	b, second := c.initiate(http.MethodPut, accounts+"/"+a.Account.ID, initiationOf("9"))
	if b.Account.ID != a.Account.ID || first == second || second.AccountID != first.AccountID || second.DataCenter != "apac-1" {
		t.Errorf("the update made %+v of %+v", second.Journey, first.Journey)
	}
	direct := newJourney(t, s, "passed-passport")
	c.initiate(http.MethodPut, accounts+"/"+direct.AccountID, initiationOf("9"))
	unknown := accounts + "/00000000-0000-4000-8000-000000000000"
	if status, answer := c.send(http.MethodPut, unknown, "application/json", initiationOf("3")); status != 404 {
		t.Errorf("unknown account: %d %s", status, answer)
	}
	if status, answer := c.send(http.MethodPut, accounts+"/x%27", "application/json", initiationOf("3")); status != 403 {
		t.Errorf("suspicious account: %d %s", status, answer)
	}
	r := c.sending(http.MethodPut, accounts+"/"+a.Account.ID, "application/json", initiationOf("3"))
	r.SetBasicAuth("us", "u")
	if status, answer, err := c.do(r); err != nil || status != 403 {
		t.Errorf("a client of another data center: %d %s %v", status, answer, err)
	}
	if n := s.Ledger().Totals.Creations; n != 3 {
		t.Errorf("%d creations, want 3", n)
	}
}

func TestCreationsLiveWhereTheClientDoes(t *testing.T) {
	s := start(t, Config{Clients: []Client{{ID: "sandbox", Secret: "sandbox"}, {ID: "eu", Secret: "e", DataCenter: "emea-1"}}})
	c := login(t, s)
	if _, j := c.create(initiationOf("3")); j.DataCenter != "amer-1" {
		t.Errorf("a client of all data centers creates in %s", j.DataCenter)
	}
	r := c.sending(http.MethodPost, accounts, "application/json", initiationOf("3"))
	r.SetBasicAuth("eu", "e")
	status, answer, err := c.do(r)
	if err != nil || status != 200 || !strings.Contains(string(answer), "https://api.emea-1.jumio.ai/") {
		t.Errorf("%d %s %v", status, answer, err)
	}
}

func TestAccountRequestsHaveALimitOfTheirOwn(t *testing.T) {
	s := start(t, Config{AccountsPerSecond: 0.001})
	c := login(t, s)
	_, j := c.create(initiationOf("3"))
	if status, answer := c.send(http.MethodPost, accounts, "application/json", initiationOf("3")); status != 429 {
		t.Errorf("the second creation: %d %s", status, answer)
	}
	if status, answer := c.get(detailsPath(j)); status != 200 {
		t.Errorf("a retrieval: %d %s", status, answer)
	}
}

func TestCreationsOutcomeCanBeUnknown(t *testing.T) {
	for _, tt := range []struct {
		fault   string
		created int
	}{
		{"account:500:1", 0}, {"account:401:1", 0}, {"account:429:1", 0}, {"account:truncated:1", 1}, {"account:reset:1", 1}, {"account:broken_json:1", 1},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			s := start(t, Config{Faults: faults(t, tt.fault)})
			c := login(t, s)
			_, answer, _ := c.do(c.sending(http.MethodPost, accounts, "application/json", initiationOf("3")))
			if n := len(s.Journeys()); n != tt.created || json.Valid(answer) && tt.created == 1 {
				t.Errorf("%d journeys, want %d; answer %s", n, tt.created, answer)
			}
			c.create(initiationOf("3")) // the fault has passed
		})
	}
}

func TestTheClientChoosesTheKind(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	_, j := c.create(initiationOf("3", `"reportingCriteria":"campaign 7 kind=liveness-digital-copy fault=details:429:1 fault=callback:lost"`))
	if j.Kind != "liveness-digital-copy" || len(j.Faults) != 2 || j.Faults[1].Kind != FaultLost {
		t.Errorf("kind %s, faults %v", j.Kind, j.Faults)
	}
	for _, key := range journey.Definitions() {
		for range 20 { // of the mix
			c.create(initiationOf(key))
		}
	}
}
