// Package webtest has journeys to test the web journey's pages with. Its own tests
// use the pages in a real browser.
package webtest

import (
	"maps"
	"sync"

	"callbackd/internal/sandbox/web"
)

// What every Journey says of itself.
const (
	AccountID                 = "11111111-1111-1111-1111-aaaaaaaaaaaa"
	WorkflowExecutionID       = "22222222-2222-2222-2222-aaaaaaaaaaaa"
	CustomerInternalReference = "onboarding & more"
)

// Journeys are known by their tokens.
type Journeys map[string]*Journey

// ByToken returns the journey with the error that End has set.
func (js Journeys) ByToken(token string) (web.Journey, error) {
	j, ok := js[token]
	if !ok {
		return nil, web.ErrUnknown
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j, j.err
}

// Journey remembers what was done. It ends with Finish or Fail.
type Journey struct {
	Success, Error      string // URLs
	Documents, IssuedIn []string
	Face                bool
	// FinishError is the answer of Finish.
	FinishError error

	mu   sync.Mutex
	err  error
	done Done
}

// Done is what a person has done in a journey.
type Done struct {
	Starts       int
	Finished     bool
	DocumentType string
	Pictures     map[string][]byte
	FailedWith   int // 0: not failed
}

// Done returns what has been done so far.
func (j *Journey) Done() Done {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.done
}

// End sets the error that comes with the journey from now on.
func (j *Journey) End(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = err
}

// AccountID and the methods below are web.Journey's.
func (j *Journey) AccountID() string { return AccountID }

// WorkflowExecutionID is web.Journey's.
func (j *Journey) WorkflowExecutionID() string { return WorkflowExecutionID }

// CustomerInternalReference is web.Journey's.
func (j *Journey) CustomerInternalReference() string { return CustomerInternalReference }

// SuccessURL is web.Journey's.
func (j *Journey) SuccessURL() string { return j.Success }

// ErrorURL is web.Journey's.
func (j *Journey) ErrorURL() string { return j.Error }

// Locale is web.Journey's.
func (j *Journey) Locale() string { return "de" }

// DocumentTypes is web.Journey's.
func (j *Journey) DocumentTypes() []string { return j.Documents }

// Countries is web.Journey's.
func (j *Journey) Countries() []string { return j.IssuedIn }

// NeedsFace is web.Journey's.
func (j *Journey) NeedsFace() bool { return j.Face }

// Start is web.Journey's.
func (j *Journey) Start() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done.Starts++
}

// Finish is web.Journey's.
func (j *Journey) Finish(documentType string, pictures map[string][]byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.FinishError != nil {
		return j.FinishError
	}
	j.done.Finished, j.done.DocumentType, j.done.Pictures = true, documentType, maps.Clone(pictures)
	j.err = web.ErrExpired
	return nil
}

// Fail is web.Journey's.
func (j *Journey) Fail(code int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done.FailedWith = code
	j.err = web.ErrExpired
}
