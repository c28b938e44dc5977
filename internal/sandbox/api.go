package sandbox

import (
	"net/http"
	"regexp"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"

	"callbackd/internal/sandbox/journey"
)

// idPattern is the form of ids; any other value is suspicious.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// serveWorkflow is the guide's "Get Status" and "Get Workflow Details".
func (s *Sandbox) serveWorkflow(endpoint Endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		client, rejected := s.admit(r)
		if rejected != nil {
			s.deliver(w, r, endpoint, *rejected)
			return
		}
		j, ok := s.journey(chi.URLParam(r, "workflow"))
		if account := chi.URLParam(r, "account"); !ok || account != "" && account != j.AccountID {
			s.deliver(w, r, endpoint, problem(http.StatusNotFound, "the workflow execution is not available"))
			return
		}
		answer := jsonResponse(j.status())
		if endpoint == EndpointDetails {
			answer = jsonResponse(j.Details())
		}
		s.serveJourney(w, r, client, visit{endpoint: endpoint, journey: j}, answer)
	}
}

// servePart is the guide's "Get Images".
func (s *Sandbox) servePart(w http.ResponseWriter, r *http.Request) {
	client, rejected := s.admit(r)
	if rejected != nil {
		s.deliver(w, r, EndpointImage, *rejected)
		return
	}
	p, ok := s.part(partKey{chi.URLParam(r, "account"), chi.URLParam(r, "credential"), chi.URLParam(r, "classifier")})
	if !ok {
		s.deliver(w, r, EndpointImage, problem(http.StatusNotFound, "the image is not available"))
		return
	}
	picture, err := s.image(p)
	if err != nil {
		s.log.Error("drawing an image", zap.Error(err))
		s.deliver(w, r, EndpointImage, problem(http.StatusInternalServerError, "the sandbox cannot draw the image"))
		return
	}
	s.serveJourney(w, r, client, visit{EndpointImage, p.journey, p}, newResponse(http.StatusOK, p.ContentType, picture))
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
	client, rejected := s.authenticate(r)
	if rejected != nil {
		return Client{}, rejected
	}
	for _, name := range []string{"account", "workflow", "credential", "classifier"} {
		if id := chi.URLParam(r, name); id != "" && !idPattern.MatchString(id) {
			return Client{}, reject(http.StatusForbidden, "suspicious value of "+name)
		}
	}
	if s.limiter != nil && !s.limiter.Allow() {
		return Client{}, reject(http.StatusTooManyRequests, "Request limit exceeded")
	}
	return client, nil
}

// serveJourney answers for a journey that is there: it checks that the client
// may see it, applies the journey's faults and keeps the ledger.
func (s *Sandbox) serveJourney(w http.ResponseWriter, r *http.Request, client Client, v visit, answer response) {
	if client.DataCenter != "" && client.DataCenter != v.journey.DataCenter {
		s.deliver(w, r, v.endpoint, problem(http.StatusForbidden, "the client belongs to another data center"))
		return
	}
	v.enter()
	complete := false
	switch fault, faulty := s.nextFault(v.journey.faults, v.endpoint, v.classifier()); {
	case faulty && fault.Kind == FaultNotFinal:
		answer = v.journey.notFinal(v.endpoint)
	case faulty:
		answer, complete = s.spoil(r, fault, answer)
	default:
		complete = answer.status == http.StatusOK
	}
	answer.beforeEnd = func() { v.leave(complete) }
	s.deliver(w, r, v.endpoint, answer)
}

// status is the answer of Get Status.
func (j *Journey) status() map[string]any {
	return map[string]any{
		"account": journey.Ref{ID: j.AccountID, Href: j.AccountHref()},
		"workflowExecution": map[string]any{
			"id": j.WorkflowExecutionID, "href": j.ShortHref(),
			"definitionKey": j.DefinitionKey, "status": j.Status,
		},
	}
}

func (j *Journey) notFinal(endpoint Endpoint) response {
	if endpoint == EndpointDetails {
		return jsonResponse(j.Unfinished())
	}
	answer := j.status()
	answer["workflowExecution"].(map[string]any)["status"] = journey.StatusAcquired
	return jsonResponse(answer)
}
