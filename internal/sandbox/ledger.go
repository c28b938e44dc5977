package sandbox

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Ledger is what the sandbox served and sent, to compare a client's results with.
type Ledger struct {
	Totals   Totals  `json:"totals"`
	Journeys []Entry `json:"journeys"` // oldest first
}

// Totals count over all journeys, forgotten ones included.
type Totals struct {
	Journeys int `json:"journeys"`
	// TokenRequests were answered with a token, TokensIssued with a new one.
	TokenRequests int `json:"token_requests"`
	TokensIssued  int `json:"tokens_issued"`
	// Creations are the workflow executions that clients have created, by creating
	// or updating an account; Uploads the parts that they have uploaded.
	Creations int `json:"creations"`
	Uploads   int `json:"uploads"`
	// PeakRetrievals is, for each data center, the most requests to the Retrieval
	// API that came within one second. Those for what the sandbox does not know
	// count under "unknown".
	PeakRetrievals map[string]int `json:"peak_retrievals"`
	// Responses are counted by endpoint and answer, such as "details 200".
	Responses map[string]int `json:"responses"`
	// RedirectsFollowed should stay 0.
	RedirectsFollowed     int `json:"redirects_followed"`
	CallbacksSent         int `json:"callbacks_sent"`
	CallbacksAcknowledged int `json:"callbacks_acknowledged"`
	// CallbacksGivenUp were not answered with 200, not even when repeated.
	CallbacksGivenUp int `json:"callbacks_given_up"`
}

// Entry is one journey in the ledger.
type Entry struct {
	WorkflowExecutionID string   `json:"workflow_execution_id"`
	AccountID           string   `json:"account_id"`
	Kind                string   `json:"kind"`
	Status              string   `json:"status"`
	DefinitionKey       string   `json:"definition_key"`
	DataCenter          string   `json:"data_center"`
	Document            string   `json:"document,omitempty"`
	Faults              []string `json:"faults"`
	Expected            Expected `json:"expected"`
	// Created says that a client created it over the API.
	Created bool `json:"created"`
	Deleted bool `json:"deleted"`
	// WebErrorCode is the guide's error code with which the web journey ended.
	WebErrorCode int `json:"web_error_code,omitempty"`

	StatusRequests   Hits        `json:"status_requests"`
	DetailsRequests  Hits        `json:"details_requests"`
	Images           []ImageHits `json:"images"`
	UploadRequests   Hits        `json:"upload_requests"`
	FinalizeRequests Hits        `json:"finalize_requests"`
	DeleteRequests   Hits        `json:"delete_requests"`
	Activity
}

// Activity is what happens around a journey.
type Activity struct {
	// MaxConcurrent is the most requests for this workflow execution in progress
	// at once; MaxConcurrentSame is the most for one address: more than 1 means
	// that it was retrieved twice at a time.
	MaxConcurrent     int `json:"max_concurrent"`
	MaxConcurrentSame int `json:"max_concurrent_same"`

	CallbacksSent         int `json:"callbacks_sent"`
	CallbacksAcknowledged int `json:"callbacks_acknowledged"`
	// Callbacks are the latest deliveries, oldest first.
	Callbacks []Delivery `json:"callbacks"`
}

// Hits counts requests, and those that got the whole and final answer with 200.
type Hits struct {
	Requests int `json:"requests"`
	OK       int `json:"ok"`
}

// ImageHits are the requests for one image.
type ImageHits struct {
	Image
	Hits
}

// Delivery is one posted callback.
type Delivery struct {
	Status         string    `json:"status"`
	CallbackSentAt time.Time `json:"callback_sent_at"`
	DeliveredAt    time.Time `json:"delivered_at"`
	Code           int       `json:"code"`            // HTTP status; 0 without an answer
	Error          string    `json:"error,omitempty"` // why there was no answer
}

// maxDeliveries bounds the deliveries remembered per journey.
const maxDeliveries = 32

// record is one journey's part of the ledger.
type record struct {
	Activity
	hits     map[visit]Hits
	inFlight map[visit][]context.Context // those of the requests
}

// visit is what a request asks of a journey; part is nil unless it is an image.
type visit struct {
	endpoint Endpoint
	journey  *Journey
	part     *part
}

func (v visit) classifier() string {
	if v.part == nil {
		return ""
	}
	return v.part.Classifier
}

// enter counts the visit of a request, until leave. A request whose client has gone, and
// that has not noticed yet, is no longer in progress.
func (v visit) enter(request context.Context) {
	j := v.journey
	j.mu.Lock()
	defer j.mu.Unlock()
	r := &j.ledger
	hits := r.hits[v]
	hits.Requests++
	r.hits[v] = hits
	r.inFlight[v] = append(r.inFlight[v], request)
	all := 0
	for of, requests := range r.inFlight {
		requests = slices.DeleteFunc(requests, func(other context.Context) bool { return other.Err() != nil })
		r.inFlight[of] = requests
		all += len(requests)
	}
	r.MaxConcurrent = max(r.MaxConcurrent, all)
	r.MaxConcurrentSame = max(r.MaxConcurrentSame, len(r.inFlight[v]))
}

// leave ends the visit of a request; complete means that it got its whole, final answer.
func (v visit) leave(request context.Context, complete bool) {
	v.journey.mu.Lock()
	defer v.journey.mu.Unlock()
	r := &v.journey.ledger
	r.inFlight[v] = slices.DeleteFunc(r.inFlight[v], func(other context.Context) bool { return other == request })
	if complete {
		hits := r.hits[v]
		hits.OK++
		r.hits[v] = hits
	}
}

// total changes the totals.
func (s *Sandbox) total(change func(*Totals)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.totals)
}

// delivered keeps one delivery in the ledger.
func (s *Sandbox) delivered(j *Journey, d Delivery) {
	s.total(func(t *Totals) {
		t.CallbacksSent++
		if d.Code == 200 {
			t.CallbacksAcknowledged++
		}
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	r := &j.ledger
	r.CallbacksSent++
	if d.Code == 200 {
		r.CallbacksAcknowledged++
	}
	if len(r.Callbacks) == maxDeliveries {
		r.Callbacks = slices.Delete(r.Callbacks, 0, 1)
	}
	r.Callbacks = append(r.Callbacks, d)
}

// Ledger returns what has been served and sent so far. It draws no image: the
// SHA-256 of an image that nobody asked for is empty (see Expected).
func (s *Sandbox) Ledger() Ledger { return s.ledgerOf(s.Journeys()) }

func (s *Sandbox) ledgerOf(journeys []*Journey) Ledger {
	s.mu.Lock()
	l := Ledger{Totals: s.totals}
	l.Totals.Responses = maps.Clone(s.totals.Responses)
	s.mu.Unlock()
	l.Totals.PeakRetrievals = s.peaks.all()
	l.Journeys = make([]Entry, len(journeys))
	for i, j := range journeys {
		l.Journeys[i] = j.entry()
	}
	return l
}

func (j *Journey) entry() Entry {
	now := j.now()
	e := Entry{
		WorkflowExecutionID: j.WorkflowExecutionID, AccountID: j.AccountID, Kind: j.Kind, Status: now.Status,
		DefinitionKey: j.DefinitionKey, DataCenter: j.DataCenter, Document: string(j.Document.Kind), Faults: []string{}, Expected: j.expected(), Images: []ImageHits{},
	}
	for _, f := range j.Faults {
		e.Faults = append(e.Faults, f.String())
	}
	parts := j.parts
	if j.acquisition != nil { // it may have parts that the user did not give
		parts = slices.DeleteFunc(slices.Clone(parts), func(p *part) bool { return !slices.Contains(now.Parts, p.Part) })
	}
	for _, p := range parts {
		e.Images = append(e.Images, ImageHits{Image: p.describe()})
	}

	j.mu.Lock()
	defer j.mu.Unlock()
	r := &j.ledger
	e.Deleted = j.deleted
	if a := j.acquisition; a != nil {
		e.Created, e.WebErrorCode = true, a.webErrorCode
	}
	e.StatusRequests, e.DetailsRequests = r.hits[visit{EndpointStatus, j, nil}], r.hits[visit{EndpointDetails, j, nil}]
	e.UploadRequests, e.FinalizeRequests = r.hits[visit{EndpointUpload, j, nil}], r.hits[visit{EndpointFinalize, j, nil}]
	e.DeleteRequests = r.hits[visit{EndpointDelete, j, nil}]
	for i, p := range parts {
		e.Images[i].Hits = r.hits[visit{EndpointImage, j, p}]
	}
	e.Activity = r.Activity
	e.Callbacks = append([]Delivery{}, r.Callbacks...)
	return e
}
