package sandbox

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/sandbox/web"
)

// grant is what a token of an account's answer allows: the web journey, the SDK, or
// the uploads of one credential.
type grant struct {
	journey *Journey
	use     string // useWeb, useSDK or a credential's id
}

const (
	useWeb = "web"
	useSDK = "sdk"
)

// accountAnswer is the guide's response to "Account Creation" and "Account Update".
type accountAnswer struct {
	Timestamp         string      `json:"timestamp"`
	Account           journey.Ref `json:"account"`
	Web               journey.Ref `json:"web"`
	SDK               sdkAnswer   `json:"sdk"`
	WorkflowExecution struct {
		ID          string             `json:"id"`
		Credentials []credentialAnswer `json:"credentials"`
	} `json:"workflowExecution"`
}

type sdkAnswer struct {
	Token string `json:"token"`
}

type credentialAnswer struct {
	ID              string     `json:"id"`
	Category        string     `json:"category"`
	Country         *choice    `json:"country,omitempty"`
	Type            *choice    `json:"type,omitempty"`
	AllowedChannels []string   `json:"allowedChannels"`
	API             *apiAnswer `json:"api,omitempty"`
}

// apiAnswer is the guide's object api. The names of the parts are in lower case, as
// in its examples.
type apiAnswer struct {
	Token             string            `json:"token"`
	Parts             map[string]string `json:"parts"`
	WorkflowExecution string            `json:"workflowExecution"`
}

// serveAccount is the guide's "Account Creation" and, with an account in the path,
// "Account Update".
func (s *Sandbox) serveAccount(w http.ResponseWriter, r *http.Request) {
	client, answer := s.admitAccount(r)
	if answer == nil {
		answer, _ = s.spoiled(r, s.commonFaults, EndpointAccount, "", func() *response { return s.initiate(w, r, client) })
	}
	s.deliver(w, r, EndpointAccount, answer)
}

// admitAccount checks headers, credentials and the limit of account requests.
func (s *Sandbox) admitAccount(r *http.Request) (Client, *response) {
	if rejected := cmp.Or(checkHeaders(r, http.StatusForbidden, "application/json"), checkLength(r), checkIDs(r)); rejected != nil {
		return Client{}, rejected
	}
	client, known := s.authenticate(r)
	if !known {
		return Client{}, unauthorized("the credentials or the access token are missing, wrong, expired or revoked")
	}
	if !s.accountLimiter.Allow() {
		return Client{}, problem(http.StatusTooManyRequests, "Request limit exceeded")
	}
	return client, nil
}

func (s *Sandbox) initiate(w http.ResponseWriter, r *http.Request, client Client) *response {
	accountID := chi.URLParam(r, "account")
	dataCenter := cmp.Or(client.DataCenter, s.cfg.DataCenter, journey.DataCenters[0])
	if accountID != "" {
		known, ok := s.knownAccount(accountID)
		switch {
		case !ok:
			return problem(http.StatusNotFound, "the account is not available")
		case client.DataCenter != "" && client.DataCenter != known.dataCenter:
			return problem(http.StatusForbidden, "the client belongs to another data center")
		}
		dataCenter = known.dataCenter
	}
	if s.isDown(dataCenter, EndpointAccount) {
		return problem(http.StatusServiceUnavailable, "the service is down")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return problem(http.StatusBadRequest, "the body cannot be read")
	}
	request, err := parseInitiation(body)
	if err != nil {
		return problem(http.StatusBadRequest, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	j, err := s.create(request, accountID, dataCenter)
	if err != nil {
		return problem(http.StatusBadRequest, err.Error())
	}
	return jsonResponse(s.accountAnswer(j, "http://"+r.Host))
}

// create makes the workflow execution that a client asks for, which waits for the
// user. Its data center is the client's or Config.DataCenter's; else the US, which
// the guide's SDK takes by default.
func (s *Sandbox) create(request initiation, accountID, dataCenter string) (*Journey, error) {
	name, faults, err := request.wishes()
	if err != nil {
		return nil, err
	}
	order := request.order(accountID)
	kind, err := journey.Find(name)
	switch {
	case name != "" && err != nil:
		return nil, err
	case name != "" && !kind.Fits(order):
		return nil, fmt.Errorf("the kind %s does not fit the workflow definition and its credentials", name)
	}
	j, err := s.add(func(settings journey.Settings, index uint64) *journey.Journey {
		if name == "" {
			kind = journey.MixedFor(s.cfg.Seed, index, order)
		}
		return journey.Ordered(settings, kind, order, index)
	}, WithFaults(faults...), WithCallbackURL(request.CallbackURL), withDataCenter(dataCenter), withRequest(request))
	if err != nil {
		return nil, err
	}
	s.await(j)
	s.total(func(t *Totals) { t.Creations++ })
	return j, nil
}

// accountAnswer issues the tokens. web.href begins with the origin under which the
// client reached the sandbox.
func (s *Sandbox) accountAnswer(j *Journey, origin string) accountAnswer {
	request := j.acquisition.request
	a := accountAnswer{
		Timestamp: s.timestamp(), Account: journey.Ref{ID: j.AccountID}, SDK: sdkAnswer{s.grant(j, useSDK)},
	}
	query := url.Values{"authorizationToken": {s.grant(j, useWeb)}, "locale": {cmp.Or(request.Web.Locale, "en")}}
	a.Web.Href = origin + web.AppPath + "?" + query.Encode()
	a.WorkflowExecution.ID = j.WorkflowExecutionID
	for _, p := range j.parts {
		if slices.ContainsFunc(a.WorkflowExecution.Credentials, func(c credentialAnswer) bool { return c.ID == p.Credential }) {
			continue
		}
		wanted := request.settings(p.Category)
		c := credentialAnswer{
			ID: p.Credential, Category: p.Category, Country: wanted.Country.orDefault(nil), Type: wanted.Type.orDefault(defaultTypes[p.Category]),
			AllowedChannels: []string{"WEB", "API", "SDK"},
		}
		if c.Type != nil && slices.Equal(c.Type.Values, []string{journey.FacemapPremium}) {
			c.AllowedChannels = []string{"SDK"}
		} else {
			c.API = s.apiAnswer(j, p.Credential, s.grant(j, p.Credential))
		}
		a.WorkflowExecution.Credentials = append(a.WorkflowExecution.Credentials, c)
	}
	return a
}

// defaultTypes are the types of a category that the client does not customise.
var defaultTypes = map[string][]string{"ID": journey.IDTypes, "FACEMAP": journey.FacemapTypes}

// orDefault is what the user may choose from when the client has not said it; nil:
// anything.
func (c *choice) orDefault(values []string) *choice {
	switch {
	case c != nil:
		return &choice{PredefinedType: cmp.Or(c.PredefinedType, "DEFINED"), Values: c.Values}
	case values != nil:
		return &choice{Values: values}
	}
	return nil
}

func (s *Sandbox) apiAnswer(j *Journey, credential, token string) *apiAnswer {
	base := "https://api." + j.DataCenter + ".jumio.ai"
	if s.cfg.OwnHrefs {
		base = s.URL()
	}
	a := &apiAnswer{
		Token: token, Parts: map[string]string{},
		WorkflowExecution: base + "/api/v1/accounts/" + j.AccountID + "/workflow-executions/" + j.WorkflowExecutionID,
	}
	for _, p := range j.parts {
		if p.Credential == credential && slices.Contains(uploadClassifiers, p.Classifier) {
			a.Parts[strings.ToLower(p.Classifier)] = a.WorkflowExecution + "/credentials/" + credential + "/parts/" + p.Classifier
		}
	}
	return a
}

func (s *Sandbox) timestamp() string { return s.cfg.Now().UTC().Format(journey.TimeFormat) }

// grant issues a token in the form of a JWT.
func (s *Sandbox) grant(j *Journey, use string) string {
	lifetime, _ := j.acquisition.request.lifetime() // checked before
	payload, _ := json.Marshal(map[string]any{
		"sub": j.WorkflowExecutionID, "jti": rand.Text(), "exp": s.cfg.Now().Add(lifetime).Unix(),
	})
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(payload) + "." + encode([]byte(rand.Text()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants[token] = grant{j, use}
	j.tokens = append(j.tokens, token)
	return token
}

// granted finds what a token allows.
func (s *Sandbox) granted(token string) (grant, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.grants[token]
	return g, ok
}
