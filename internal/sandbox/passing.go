package sandbox

import "fmt"

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

// nextFault takes a fault of all requests, else one of own.
func (s *Sandbox) nextFault(own *faultQueue, endpoint Endpoint, classifier string) (Fault, bool) {
	now := s.cfg.Now()
	if f, faulty := s.passing.Load().next(endpoint, classifier, now); faulty {
		return f, true
	}
	return own.next(endpoint, classifier, now)
}
