package sandbox

import (
	"fmt"
	"net/http"
	"slices"

	"callbackd/internal/sandbox/journey"
)

// Health is the answer of the guide's "Health Check".
type Health struct {
	Status  string            `json:"status"`
	Details map[string]string `json:"details,omitempty"`
}

// The guide's statuses of the whole and of a service, from good to bad, and the
// services.
var (
	healthStatuses = []string{"UP", "DEGRADED", healthDown}
	services       = []string{"api", "callback", "mobile", "processing", "retrieval", "web"}
)

const healthDown = "DOWN"

// endpointServices are the services behind the endpoints that answer 503 while
// they are DOWN.
var endpointServices = map[Endpoint]string{
	EndpointAccount: "api", EndpointUpload: "api", EndpointFinalize: "api",
	EndpointStatus: "retrieval", EndpointDetails: "retrieval", EndpointImage: "retrieval", EndpointDelete: "retrieval",
}

// SetHealth sets the health of a data center, or of all when it is empty. While its
// details say that retrieval or api is DOWN, these APIs answer 503 for the data
// center's workflow executions.
func (s *Sandbox) SetHealth(dataCenter string, h Health) error {
	if !knownDataCenter(dataCenter) {
		return fmt.Errorf("data center %q is none of %s", dataCenter, join(journey.DataCenters))
	}
	if !slices.Contains(healthStatuses, h.Status) {
		return fmt.Errorf("status %q is none of %s", h.Status, join(healthStatuses))
	}
	for service, status := range h.Details {
		if !slices.Contains(services, service) || !slices.Contains(healthStatuses, status) {
			return fmt.Errorf("details: %q is not one of %s with one of %s", service+" "+status, join(services), join(healthStatuses))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range journey.DataCenters {
		if dataCenter == "" || dataCenter == known {
			s.health[known] = h
		}
	}
	return nil
}

// reportedHealth is that of Config.StatusDataCenter, or the worst of everything.
func (s *Sandbox) reportedHealth() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := Health{Status: healthStatuses[0], Details: map[string]string{}}
	for dataCenter, h := range s.health {
		if s.cfg.StatusDataCenter != "" && s.cfg.StatusDataCenter != dataCenter {
			continue
		}
		all.Status = worse(all.Status, h.Status)
		for service, status := range h.Details {
			all.Details[service] = worse(all.Details[service], status)
		}
	}
	return all
}

func worse(a, b string) string {
	if slices.Index(healthStatuses, a) > slices.Index(healthStatuses, b) {
		return a
	}
	return b
}

// isDown reports whether the endpoint does not work in the data center.
func (s *Sandbox) isDown(dataCenter string, endpoint Endpoint) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	service, ok := endpointServices[endpoint]
	return ok && s.health[dataCenter].Details[service] == healthDown
}

// serveHealth is the guide's "Health Check", which needs no authorization.
func (s *Sandbox) serveHealth(w http.ResponseWriter, r *http.Request) {
	answer := checkHeaders(r, http.StatusForbidden)
	if answer == nil {
		answer, _ = s.spoiled(r, s.commonFaults, EndpointHealth, "", func() *response { return jsonResponse(s.reportedHealth()) })
	}
	s.deliver(w, r, EndpointHealth, answer)
}

// setHealth is SetHealth over HTTP.
func (s *Sandbox) setHealth(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		DataCenter string `json:"data_center"`
		Health
	}
	err := readJSON(w, r, &wanted)
	if err == nil {
		err = s.SetHealth(wanted.DataCenter, wanted.Health)
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
