package sandbox

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/workflow"
)

// Journey is one simulated workflow execution. Its exported fields do not
// change; of a journey that a client has created over the API they say how it ends
// once the user has finished.
type Journey struct {
	*journey.Journey
	Faults []Fault

	callbackURL   string
	userReference string // that was asked for
	dataCenter    string // that was asked for
	// tokens are those that the client was given; the sandbox's mutex guards them.
	tokens   []string
	parts    []*part
	faults   *faultQueue
	attempts int // that the other side makes

	mu       sync.Mutex // guards what follows
	lastSent time.Time  // newest callbackSentAt
	ledger   record
	// current is the journey as the API knows it at the moment.
	current *journey.Journey
	deleted bool
	// acquisition is nil unless a client created the journey over the API; what it
	// holds is guarded.
	acquisition *acquisition
}

// now returns the journey as the API knows it at the moment.
func (j *Journey) now() *journey.Journey {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.current
}

// Details is the answer of Get Workflow Details at the moment.
func (j *Journey) Details() *journey.Details { return j.now().Details() }

// Waits reports whether the workflow has not reached a final status at the moment.
func (j *Journey) Waits() bool { return j.now().Waits() }

func (j *Journey) isDeleted() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.deleted
}

// part is one image or facemap of a credential.
type part struct {
	*journey.Part
	journey *Journey

	// Guarded by the journey's mutex, known once the part has been drawn.
	drawn  bool
	sha256 [32]byte
	size   int
	// uploaded is what a client or the user gave instead, nil if nothing.
	uploaded []byte
	// uploadedType is its content type.
	uploadedType string
}

// contentType is that of what the API serves; the caller holds the journey's mutex.
func (p *part) contentType() string { return cmp.Or(p.uploadedType, p.ContentType) }

// partKey is how a part is addressed below an account.
type partKey struct {
	account, credential, classifier string
}

func (p *part) key() partKey { return partKey{p.journey.AccountID, p.Credential, p.Classifier} }

// Option changes a new journey.
type Option func(*Journey)

// WithFaults makes the journey misbehave, besides the configured faults.
func WithFaults(faults ...Fault) Option {
	return func(j *Journey) { j.Faults = append(j.Faults, faults...) }
}

// WithCallbackURL is where the journey's callbacks go; Config.CallbackURL when empty.
func WithCallbackURL(url string) Option {
	return func(j *Journey) { j.callbackURL = cmp.Or(url, j.callbackURL) }
}

// WithUserReference is the journey's userReference; Config.UserReference when empty.
func WithUserReference(reference string) Option {
	return func(j *Journey) { j.userReference = cmp.Or(reference, j.userReference) }
}

// withDataCenter is where a client creates the journey.
func withDataCenter(name string) Option {
	return func(j *Journey) { j.dataCenter = name }
}

// NewJourney makes a journey of the kind, or of the mix's next kind when kind
// is empty. The API knows it from then on; nothing is sent. The nth journey of a
// sandbox depends on the seed, n and the kind alone. An unknown kind or a wrong
// fault is an error.
func (s *Sandbox) NewJourney(kind string, opts ...Option) (*Journey, error) {
	k, err := journey.Find(kind)
	if kind != "" && err != nil {
		return nil, err
	}
	return s.add(func(settings journey.Settings, index uint64) *journey.Journey {
		if kind == "" {
			k = journey.Mixed(s.cfg.Seed, index)
		}
		return journey.New(settings, k, index)
	}, opts...)
}

// add makes a journey that the API knows from then on.
func (s *Sandbox) add(invent func(journey.Settings, uint64) *journey.Journey, opts ...Option) (*Journey, error) {
	j := &Journey{
		callbackURL: s.cfg.CallbackURL, userReference: s.cfg.UserReference, attempts: s.cfg.Attempts,
		ledger: record{hits: map[visit]Hits{}, inFlight: map[visit][]context.Context{}},
	}
	for _, opt := range opts {
		opt(j)
	}
	for _, f := range j.Faults {
		if err := f.validate(); err != nil {
			return nil, err
		}
		if slices.Contains(common, f.Endpoint) {
			return nil, fmt.Errorf("fault %s: %s requests belong to no journey; configure it for the whole sandbox", f, f.Endpoint)
		}
	}
	if err := checkCallbackURL(j.callbackURL); err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete(j, invent(s.settings(j), s.created))
	s.created++
	s.order = append(s.order, j)
	s.byID[j.WorkflowExecutionID] = j
	for _, p := range j.parts {
		s.byPart[p.key()] = p
	}
	s.account(j).journeys++
	s.totals.Journeys++
	s.forgetOldest()
	return j, nil
}

// forgetOldest keeps memory bounded; the caller holds the lock.
func (s *Sandbox) forgetOldest() {
	for len(s.order) > s.cfg.MaxJourneys {
		j := s.order[0]
		s.order[0] = nil
		s.order = s.order[1:]
		delete(s.byID, j.WorkflowExecutionID)
		for _, p := range j.parts {
			delete(s.byPart, p.key())
		}
		if a := s.account(j); a.journeys == 1 {
			delete(s.accounts, j.AccountID)
		} else {
			a.journeys--
		}
		s.stopWaiting(j)
	}
}

// NewJourneys makes n journeys of the kind, or of the mix when kind is empty.
func (s *Sandbox) NewJourneys(n int, kind string, opts ...Option) ([]*Journey, error) {
	journeys := make([]*Journey, 0, n)
	for range n {
		j, err := s.NewJourney(kind, opts...)
		if err != nil {
			return nil, err
		}
		journeys = append(journeys, j)
	}
	return journeys, nil
}

// Journeys returns the remembered journeys, oldest first.
func (s *Sandbox) Journeys() []*Journey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

func (s *Sandbox) journey(id string) (*Journey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, ok := s.byID[id]
	return j, ok
}

// settings are those of the journey; the caller holds the lock.
func (s *Sandbox) settings(j *Journey) journey.Settings {
	settings := journey.Settings{
		Seed: s.cfg.Seed, DataCenter: cmp.Or(j.dataCenter, s.cfg.DataCenter), UserReference: j.userReference, OverallDecision: s.cfg.OverallDecision,
		Intermediate: s.cfg.Intermediate, DetailsBytes: s.cfg.DetailsBytes, Now: s.cfg.Now(),
	}
	if s.cfg.OwnHrefs {
		settings.Base = s.url
	}
	return settings
}

// complete fills the journey in.
func (s *Sandbox) complete(j *Journey, invented *journey.Journey) {
	j.Journey, j.current = invented, invented
	if j.acquisition != nil {
		j.current = invented.At(workflow.StatusInitiated, time.Time{}, time.Time{})
	}
	for _, p := range j.Parts {
		j.parts = append(j.parts, &part{Part: p, journey: j})
	}
	j.Faults = slices.Concat(s.cfg.Faults, j.Faults, s.drawFaults(j))
	j.Faults = slices.DeleteFunc(j.Faults, func(f Fault) bool { return slices.Contains(common, f.Endpoint) })
	j.faults = newFaultQueue(j.Faults, perJourney...)
}

// drawFaults has a random stream of its own, so that faults do not change the
// people.
func (s *Sandbox) drawFaults(j *Journey) []Fault {
	rng := rand.New(rand.NewPCG(^s.cfg.Seed, j.Index))
	if rng.Float64() >= s.cfg.FaultRate || j.Journey.Waits() {
		return nil
	}
	return []Fault{s.cfg.FaultPool[rng.IntN(len(s.cfg.FaultPool))]}
}
