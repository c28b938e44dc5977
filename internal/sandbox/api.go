package sandbox

import (
	"net/http"
	"regexp"

	"github.com/go-chi/chi/v5"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/workflow"
)

// idPattern is the form of ids; any other value is suspicious.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// serveWorkflow is the guide's "Get Status" and "Get Workflow Details".
func (s *Sandbox) serveWorkflow(endpoint Endpoint) http.HandlerFunc {
	return s.retrieve(endpoint, func(r *http.Request) (visit, *response) {
		j, ok := s.journey(chi.URLParam(r, "workflow"))
		account := chi.URLParam(r, "account")
		switch {
		case !ok || account != "" && account != j.AccountID:
			return visit{}, problem(http.StatusNotFound, "the workflow execution is not available")
		case endpoint == EndpointDetails:
			return visit{endpoint, j, nil}, jsonResponse(j.Details())
		}
		return visit{endpoint, j, nil}, j.statusAnswer(j.Status)
	})
}

// findPart is the guide's "Get Images".
func (s *Sandbox) findPart(r *http.Request) (visit, *response) {
	p, ok := s.part(partKey{chi.URLParam(r, "account"), chi.URLParam(r, "credential"), chi.URLParam(r, "classifier")})
	if !ok {
		return visit{}, problem(http.StatusNotFound, "the image is not available")
	}
	return visit{EndpointImage, p.journey, p}, newResponse(http.StatusOK, p.ContentType, s.image(p))
}

func (s *Sandbox) part(key partKey) (*part, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.byPart[key]
	return p, ok && p.Uploaded()
}

// admit checks headers, credentials, the ids' form and the request limit.
func (s *Sandbox) admit(r *http.Request) (Client, *response) {
	if rejected := checkHeaders(r, http.StatusForbidden, "application/json"); rejected != nil {
		return Client{}, rejected
	}
	client, known := s.authenticate(r)
	if !known {
		return Client{}, unauthorized("the credentials or the access token are missing, wrong, expired or revoked")
	}
	for _, name := range []string{"account", "workflow", "credential", "classifier"} {
		if id := chi.URLParam(r, name); id != "" && !idPattern.MatchString(id) {
			return Client{}, problem(http.StatusForbidden, "suspicious value of "+name)
		}
	}
	if !s.limiter.Allow() {
		return Client{}, problem(http.StatusTooManyRequests, "Request limit exceeded")
	}
	return client, nil
}

// retrieve serves one endpoint of the Retrieval API. It admits the request, has
// find look up what is asked for with the right answer, and spoils that by faults.
// If find's visit has no journey, its answer stays.
func (s *Sandbox) retrieve(endpoint Endpoint, find func(*http.Request) (visit, *response)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		client, answer := s.admit(r)
		if answer == nil {
			var v visit
			if v, answer = find(r); v.journey != nil {
				answer = s.visit(r, client, v, answer)
			}
		}
		s.deliver(w, r, endpoint, answer)
	}
}

// visit checks that the client may see the journey, applies the journey's faults
// to the right answer and keeps the ledger.
func (s *Sandbox) visit(r *http.Request, client Client, v visit, answer *response) *response {
	if client.DataCenter != "" && client.DataCenter != v.journey.DataCenter {
		return problem(http.StatusForbidden, "the client belongs to another data center")
	}
	v.enter()
	complete := false
	switch fault, faulty := s.nextFault(v.journey.faults, v.endpoint, v.classifier()); {
	case faulty && fault.Kind == FaultNotFinal && v.endpoint == EndpointDetails:
		answer = jsonResponse(v.journey.Unfinished())
	case faulty && fault.Kind == FaultNotFinal:
		answer = v.journey.statusAnswer(workflow.StatusAcquired)
	case faulty:
		answer, complete = s.spoil(r, fault, answer)
	default:
		complete = answer.status == http.StatusOK
	}
	answer.beforeEnd = func() { v.leave(complete) }
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
