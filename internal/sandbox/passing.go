package sandbox

import "fmt"

// SetFaults makes the faults hold for all requests from now on, before those of
// the journeys and of the configuration; their times count over all journeys.
// It replaces what an earlier call set; without faults it ends that. It changes
// no expected end state: the faults must pass within the client's attempts.
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

// nextFault takes a fault that holds for all requests, else one of own.
func (s *Sandbox) nextFault(own *faultQueue, endpoint Endpoint, classifier string) (Fault, bool) {
	now := s.cfg.Now()
	if f, faulty := s.passing.Load().next(endpoint, classifier, now); faulty {
		return f, true
	}
	return own.next(endpoint, classifier, now)
}
