package jumio

import (
	"context"
	"io"
	"net/http"
	"slices"
)

// The states of Jumio and of its services (guide, "Health Check Response Parameters").
const (
	HealthUp       = "UP"
	HealthDegraded = "DEGRADED"
	HealthDown     = "DOWN"
)

// HealthServices gives the services in the guide's details, in its order.
func HealthServices() []string {
	return []string{"api", "callback", "mobile", "processing", "retrieval", "web"}
}

// Health is what Jumio says of its services in a data center.
type Health struct {
	// Status is HealthUp, HealthDegraded or HealthDown, or "" for anything else.
	Status string
	// Details are the states of single services, as in Status; nil if Jumio sends none,
	// as it does while all are up. A service has the syntax of an id, and may be newer
	// than HealthServices.
	Details map[string]string
	// Raw is the answer as it came.
	Raw Answer
}

// Up tells whether all is up, and each service that the details name.
func (h *Health) Up() bool {
	for _, state := range h.Details {
		if state != HealthUp {
			return false
		}
	}
	return h.Status == HealthUp
}

// Health asks a data center for the state of Jumio's services (guide, "Health Check"),
// without authorization. It needs no credentials. Errors are of type *Error.
func (c *Client) Health(ctx context.Context, dataCenter string) (*Health, error) {
	if !c.cfg.trusts(dataCenter) {
		return nil, failure(EndpointHealth, CodeNoDataCenter, "neither one of Jumio's data centers nor one with credentials of its own")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpointOrigin(c.cfg.StatusURL, "status", dataCenter)+"/", nil)
	if err != nil {
		return nil, failure(EndpointHealth, CodeNoDataCenter, "no URL can be built")
	}
	req.Header.Set("Accept", acceptJSON)
	var health *Health
	err = c.do(req, EndpointHealth, 0, func(resp *http.Response) error {
		body, err := io.ReadAll(io.LimitReader(resp.Body, smallLimit))
		if err != nil {
			return err
		}
		health, err = ParseHealth(body)
		return err
	})
	return health, err
}

// ParseHealth reads an answer of the health check. The error, for anything but a JSON
// object, is an *Error with CodeInvalidJSON.
func ParseHealth(body []byte) (*Health, error) {
	answer, ok := parseObject(body)
	if !ok {
		return nil, notJSONObject(EndpointHealth)
	}
	health := &Health{Status: healthState(answer.at("status")), Raw: body}
	details, _ := answer.at("details").value.(map[string]any)
	for service, state := range details {
		if idOrNone(service) == "" {
			continue
		}
		if health.Details == nil {
			health.Details = make(map[string]string, len(details))
		}
		health.Details[service] = healthState(node{state})
	}
	return health, nil
}

func healthState(n node) string {
	if state := n.text(); slices.Contains([]string{HealthUp, HealthDegraded, HealthDown}, state) {
		return state
	}
	return ""
}
