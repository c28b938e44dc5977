package sandbox

import (
	"net/http"
	"regexp"
	"slices"

	"github.com/go-chi/chi/v5"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/workflow"
)

// idPattern is the form of ids; any other value is suspicious.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// action carries a request out and returns the right answer.
type action func() *response

// rejected is the action of a request that cannot be carried out.
func rejected(status int, detail string) action {
	return func() *response { return problem(status, detail) }
}

// serveWorkflow is the guide's "Get Status" and "Get Workflow Details".
func (s *Sandbox) serveWorkflow(endpoint Endpoint) http.HandlerFunc {
	return s.retrieve(endpoint, func(r *http.Request) (visit, action) {
		j, ok := s.findWorkflow(r)
		switch {
		case !ok:
			return visit{}, rejected(http.StatusNotFound, "the workflow execution is not available")
		case endpoint == EndpointDetails:
			return visit{endpoint, j, nil}, func() *response {
				answer := jsonResponse(j.Details())
				answer.notFinal = func() *response { return jsonResponse(j.now().Unfinished()) }
				return answer
			}
		}
		return visit{endpoint, j, nil}, func() *response {
			answer := j.statusAnswer(j.now().Status)
			answer.notFinal = func() *response { return j.statusAnswer(workflow.StatusAcquired) }
			return answer
		}
	})
}

// findWorkflow finds what the ids in the path name, unless it was deleted.
func (s *Sandbox) findWorkflow(r *http.Request) (*Journey, bool) {
	j, ok := s.journey(chi.URLParam(r, "workflow"))
	account := chi.URLParam(r, "account")
	return j, ok && (account == "" || account == j.AccountID) && !j.isDeleted()
}

// findPart is the guide's "Get Images".
func (s *Sandbox) findPart(r *http.Request) (visit, action) {
	p, ok := s.part(partKey{chi.URLParam(r, "account"), chi.URLParam(r, "credential"), chi.URLParam(r, "classifier")})
	if !ok || !p.available() {
		return visit{}, rejected(http.StatusNotFound, "the image is not available")
	}
	return visit{EndpointImage, p.journey, p}, func() *response {
		file := s.image(p)
		p.journey.mu.Lock()
		defer p.journey.mu.Unlock()
		return newResponse(http.StatusOK, p.contentType(), file)
	}
}

func (s *Sandbox) part(key partKey) (*part, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.byPart[key]
	return p, ok
}

// available reports whether the part can be retrieved now.
func (p *part) available() bool {
	p.journey.mu.Lock()
	defer p.journey.mu.Unlock()
	return !p.journey.deleted && p.Uploaded() && slices.Contains(p.journey.current.Parts, p.Part)
}

// admit checks headers, credentials, the ids' form and the limit of the Retrieval API.
// contentTypes are those that the request may have; none: it needs none.
func (s *Sandbox) admit(r *http.Request, contentTypes ...string) (Client, *response) {
	if rejected := checkHeaders(r, http.StatusForbidden, contentTypes...); rejected != nil {
		return Client{}, rejected
	}
	client, known := s.authenticate(r)
	if !known {
		return Client{}, unauthorized("the credentials or the access token are missing, wrong, expired or revoked")
	}
	if suspicious := checkIDs(r); suspicious != nil {
		return Client{}, suspicious
	}
	if !s.limiter.Allow() {
		return Client{}, problem(http.StatusTooManyRequests, "Request limit exceeded")
	}
	return client, nil
}

// checkIDs checks the form of the ids in the path.
func checkIDs(r *http.Request) *response {
	for _, name := range []string{"account", "workflow", "credential", "classifier"} {
		if id := chi.URLParam(r, name); id != "" && !idPattern.MatchString(id) {
			return problem(http.StatusForbidden, "suspicious value of "+name)
		}
	}
	return nil
}

// retrieve serves one endpoint of the Retrieval API. It admits the request, has
// find look up what is asked for with the action that answers, and spoils that by
// faults. If find's visit has no journey, its answer stays.
func (s *Sandbox) retrieve(endpoint Endpoint, find func(*http.Request) (visit, action)) http.HandlerFunc {
	contentTypes := []string{"application/json"}
	if endpoint == EndpointDelete {
		contentTypes = nil
	}
	return func(w http.ResponseWriter, r *http.Request) {
		s.peaks.count(s.dataCenterOf(r))
		client, answer := s.admit(r, contentTypes...)
		if answer == nil {
			v, act := find(r)
			answer = s.visit(r, client, v, act)
		}
		s.deliver(w, r, endpoint, answer)
	}
}

// dataCenterOf is where that lives which the request asks for.
func (s *Sandbox) dataCenterOf(r *http.Request) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j, ok := s.byID[chi.URLParam(r, "workflow")]; ok {
		return j.DataCenter
	}
	if a, ok := s.accounts[chi.URLParam(r, "account")]; ok {
		return a.dataCenter
	}
	return "unknown"
}

// visit checks that the client may see the journey and that the service is up,
// applies the journey's faults and keeps the ledger.
func (s *Sandbox) visit(r *http.Request, client Client, v visit, act action) *response {
	if v.journey == nil {
		return act()
	}
	if client.DataCenter != "" && client.DataCenter != v.journey.DataCenter {
		return problem(http.StatusForbidden, "the client belongs to another data center")
	}
	v.enter(r.Context())
	var answer *response
	complete := false
	if s.isDown(v.journey.DataCenter, v.endpoint) {
		answer = problem(http.StatusServiceUnavailable, "the service is down")
	} else {
		answer, complete = s.spoiled(r, v.journey.faults, v.endpoint, v.classifier(), act)
	}
	answer.beforeEnd = func() { v.leave(r.Context(), complete) }
	return answer
}

// statusAnswer is the answer of Get Status.
func (j *Journey) statusAnswer(status string) *response {
	return jsonResponse(map[string]any{
		"account": journey.Ref{ID: j.AccountID, Href: j.AccountHref()},
		"workflowExecution": map[string]any{
			"id": j.WorkflowExecutionID, "href": j.ShortHref(),
			"definitionKey": j.DefinitionKey, "status": status,
		},
	})
}
