package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// faultQueue hands out faults, each as often as it says.
type faultQueue struct {
	mu     sync.Mutex
	faults []queuedFault
}

type queuedFault struct {
	Fault
	hits  int
	first time.Time // hit
}

func newFaultQueue(faults []Fault, endpoints ...Endpoint) *faultQueue {
	q := &faultQueue{}
	for _, f := range faults {
		if slices.Contains(endpoints, f.Endpoint) {
			q.faults = append(q.faults, queuedFault{Fault: f})
		}
	}
	return q
}

// next takes the first fault that is still due for a request to the endpoint.
func (q *faultQueue) next(endpoint Endpoint, classifier string, now time.Time) (Fault, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.faults {
		f := &q.faults[i]
		switch {
		case f.Endpoint != endpoint, f.Part != "" && f.Part != classifier:
		case f.Kind == FaultWrongType && classifier == "FACEMAP":
		case f.Times > 0 && f.hits >= f.Times:
		case f.For > 0 && f.hits > 0 && now.Sub(f.first) >= f.For:
		default:
			if f.hits == 0 {
				f.first = now
			}
			f.hits++
			return f.Fault, true
		}
	}
	return Fault{}, false
}

// SetFaults sets the faults of all requests from now on, instead of those that an
// earlier call set. They come before the journeys' and the configuration's; their
// times count over all journeys. The expected end states stay: the faults must
// pass within the client's attempts.
func (s *Sandbox) SetFaults(faults ...Fault) error {
	for _, f := range faults {
		if err := f.validate(); err != nil {
			return err
		}
		if f.Endpoint == EndpointCallback {
			return fmt.Errorf("fault %s: callbacks belong to journeys; give it to them", f)
		}
	}
	s.passing.Store(newFaultQueue(faults, requests...))
	return nil
}

// nextFault takes a fault of all requests, or else one of own.
func (s *Sandbox) nextFault(own *faultQueue, endpoint Endpoint, classifier string) (Fault, bool) {
	now := s.cfg.Now()
	if f, faulty := s.passing.Load().next(endpoint, classifier, now); faulty {
		return f, true
	}
	return own.next(endpoint, classifier, now)
}

// spoiled carries a request out, unless a fault of all requests, or else one of own,
// refuses it, and spoils the answer by the fault. complete means that the client
// gets all of the right answer.
func (s *Sandbox) spoiled(r *http.Request, own *faultQueue, endpoint Endpoint, classifier string, act action) (answer *response, complete bool) {
	fault, faulty := s.nextFault(own, endpoint, classifier)
	switch {
	case !faulty:
		answer = act()
		return answer, answer.status == http.StatusOK
	case fault.refuses():
		return s.spoil(r, fault, nil)
	}
	return s.spoil(r, fault, act())
}
