package sandbox

import (
	"net/http"

	"github.com/go-chi/chi/v5"
)

// account is one of the tenant's accounts.
type account struct {
	dataCenter string
	journeys   int // that are remembered
	deleted    bool
}

// account returns the journey's account, which it makes if need be; the caller holds
// the lock.
func (s *Sandbox) account(j *Journey) *account {
	a, ok := s.accounts[j.AccountID]
	if !ok {
		a = &account{dataCenter: j.DataCenter}
		s.accounts[j.AccountID] = a
	}
	return a
}

// knownAccount is the account with that id, unless it was deleted.
func (s *Sandbox) knownAccount(id string) (account, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.accounts[id]
	if !ok {
		return account{}, false
	}
	return *a, !a.deleted
}

// findDeletion is the guide's "Workflow Deletion".
func (s *Sandbox) findDeletion(r *http.Request) (visit, action) {
	j, ok := s.findWorkflow(r)
	if !ok {
		return visit{}, rejected(http.StatusNotFound, "the workflow execution is not available")
	}
	return visit{EndpointDelete, j, nil}, func() *response {
		s.remove(j)
		return newResponse(http.StatusOK, "application/json", nil)
	}
}

// findAccount is the guide's "Account Deletion". The visit counts for the account's
// newest workflow execution.
func (s *Sandbox) findAccount(r *http.Request) (visit, action) {
	id := chi.URLParam(r, "account")
	var journeys []*Journey
	for _, j := range s.Journeys() {
		if j.AccountID == id {
			journeys = append(journeys, j)
		}
	}
	if _, ok := s.knownAccount(id); !ok || len(journeys) == 0 {
		return visit{}, rejected(http.StatusNotFound, "the account is not available")
	}
	return visit{EndpointDelete, journeys[len(journeys)-1], nil}, func() *response {
		s.mu.Lock()
		s.account(journeys[0]).deleted = true
		s.mu.Unlock()
		for _, j := range journeys {
			s.remove(j)
		}
		return newResponse(http.StatusOK, "application/json", nil)
	}
}

// remove deletes what Jumio knows of the journey. The ledger keeps it.
func (s *Sandbox) remove(j *Journey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopWaiting(j)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.deleted = true
}
