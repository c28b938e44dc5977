package sandbox

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Journey is one simulated workflow execution. Its exported fields do not
// change after NewJourney.
type Journey struct {
	Kind string
	// Index counts the sandbox's journeys from 0.
	Index                     uint64
	WorkflowExecutionID       string
	AccountID                 string
	DataCenter                string
	DefinitionKey             string
	Status                    string // what Get Status and Get Workflow Details say
	UserReference             string
	CustomerInternalReference string
	Faults                    []Fault

	kind         Kind
	base         string // of hrefs: scheme and host
	callbackURL  string
	header       http.Header
	holder       person
	paper        paper
	parts        []*part
	modern       bool // answers carry what came after the guide
	riskScore    float64
	intermediate bool
	created      time.Time
	faults       *faultQueue
	attempts     int // that the other side makes
	detailsBytes int // Config.DetailsBytes

	mu       sync.Mutex // guards what follows
	lastSent time.Time  // newest callbackSentAt
	ledger   record
}

// part is one image or facemap of a credential.
type part struct {
	key      partKey
	category string // of its credential: ID, SELFIE or FACEMAP
	format   format
	journey  *Journey

	// Guarded by the journey's mutex, known once the part has been drawn.
	drawn  bool
	sha256 [32]byte
	size   int
}

// partKey is how a part is addressed below an account.
type partKey struct {
	account, credential, classifier string
}

// Option changes one journey.
type Option func(*journeyOptions)

type journeyOptions struct {
	faults        []Fault
	callbackURL   string
	header        http.Header
	userReference string
}

// WithFaults makes the journey misbehave, besides the configured faults.
func WithFaults(faults ...Fault) Option {
	return func(o *journeyOptions) { o.faults = append(o.faults, faults...) }
}

// WithCallbackURL posts the journey's callbacks elsewhere than configured.
func WithCallbackURL(url string) Option {
	return func(o *journeyOptions) { o.callbackURL = url }
}

// WithHeader adds a header to the journey's callbacks, such as X-Forwarded-For.
func WithHeader(name, value string) Option {
	return func(o *journeyOptions) { o.header.Add(name, value) }
}

// WithUserReference sets the journey's userReference.
func WithUserReference(reference string) Option {
	return func(o *journeyOptions) { o.userReference = reference }
}

// NewJourney makes a journey of the kind, or of the mix's next kind when kind
// is empty, and lets the API know it. Nothing is sent. The nth journey of a
// sandbox depends on the seed, n and the kind alone. An unknown kind or a wrong
// fault is an error.
func (s *Sandbox) NewJourney(kind string, opts ...Option) (*Journey, error) {
	options := journeyOptions{callbackURL: s.cfg.CallbackURL, header: s.cfg.CallbackHeader.Clone(), userReference: s.cfg.UserReference}
	if options.header == nil {
		options.header = http.Header{}
	}
	for _, opt := range opts {
		opt(&options)
	}
	for _, f := range options.faults {
		if err := f.validate(); err != nil {
			return nil, err
		}
		if f.Endpoint == EndpointToken {
			return nil, fmt.Errorf("fault %s: tokens belong to no journey; configure it for the whole sandbox", f)
		}
	}
	if options.callbackURL != "" {
		if err := checkCallbackURL(options.callbackURL); err != nil {
			return nil, err
		}
	}
	k, err := findKind(kind)
	if kind != "" && err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if kind == "" {
		k = mixedKind(s.cfg.Seed, s.created)
	}
	j := s.generate(k, s.created, options)
	s.created++
	s.order = append(s.order, j)
	s.byID[j.WorkflowExecutionID] = j
	for _, p := range j.parts {
		s.byPart[p.key] = p
	}
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
			delete(s.byPart, p.key)
		}
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

// mixedKind deals the kinds like cards: every kind has come after one round.
func mixedKind(seed, index uint64) Kind {
	deck := mixDeck()
	round, place := index/uint64(len(deck)), index%uint64(len(deck))
	rng := rand.New(rand.NewPCG(seed, ^round))
	rng.Shuffle(len(deck), func(a, b int) { deck[a], deck[b] = deck[b], deck[a] })
	return deck[place]
}

// mixDeck holds each kind as often as its weight.
func mixDeck() []Kind {
	var deck []Kind
	for _, k := range catalogue {
		deck = append(deck, slices.Repeat([]Kind{k}, k.weight)...)
	}
	return deck
}

func (s *Sandbox) generate(k Kind, index uint64, options journeyOptions) *Journey {
	rng := rand.New(rand.NewPCG(s.cfg.Seed, index))
	j := &Journey{
		Kind: k.Name, kind: k, Index: index,
		WorkflowExecutionID: newUUID(rng), AccountID: newUUID(rng),
		DefinitionKey: k.key, Status: k.status, DataCenter: pick(rng, DataCenters),
		callbackURL: options.callbackURL, header: options.header,
		holder: newPerson(rng), paper: newPaper(k.document, rng),
		created: s.cfg.Now().UTC().Add(-time.Duration(60+rng.IntN(600)) * time.Second),
	}
	if j.Status == "" {
		j.Status = StatusProcessed
	}
	if s.cfg.DataCenter != "" {
		j.DataCenter = s.cfg.DataCenter
	}
	j.base = "https://retrieval." + j.DataCenter + ".jumio.ai"
	if s.cfg.OwnHrefs {
		j.base = s.url
	}
	j.CustomerInternalReference = "order-" + strconv.FormatUint(100_000+index, 10)
	j.UserReference = options.userReference
	if j.UserReference == "" && rng.IntN(2) == 0 {
		j.UserReference = "user-" + strconv.FormatUint(100_000+index, 10)
	}
	j.riskScore = float64(rng.IntN(1010))/10 - 1
	j.modern = rng.IntN(4) == 0 || k.later || s.cfg.OverallDecision
	j.intermediate = rng.Float64() < s.cfg.Intermediate
	if j.Status == StatusProcessed || k.full {
		j.addParts(rng)
	}
	j.Faults = slices.Concat(s.cfg.Faults, options.faults, s.drawFaults(j))
	j.Faults = slices.DeleteFunc(j.Faults, func(f Fault) bool { return f.Endpoint == EndpointToken })
	j.faults = newFaultQueue(j.Faults, EndpointStatus, EndpointDetails, EndpointImage)
	j.attempts, j.detailsBytes = s.cfg.Attempts, s.cfg.DetailsBytes
	return j
}

// drawFaults has a random stream of its own: the same people come with and
// without faults.
func (s *Sandbox) drawFaults(j *Journey) []Fault {
	rng := rand.New(rand.NewPCG(^s.cfg.Seed, j.Index))
	if rng.Float64() >= s.cfg.FaultRate || j.waits() {
		return nil
	}
	return []Fault{pick(rng, s.cfg.FaultPool)}
}

// waits says whether the workflow never reaches a final status.
func (j *Journey) waits() bool {
	return j.Status == StatusInitiated || j.Status == StatusAcquired
}

// addParts gives the journey its credentials' images.
func (j *Journey) addParts(rng *rand.Rand) {
	for _, category := range flows[j.DefinitionKey].categories {
		credential := newUUID(rng)
		for _, classifier := range j.classifiers(category) {
			p := &part{key: partKey{j.AccountID, credential, classifier}, category: category, journey: j, format: formatJPEG}
			switch {
			case category == "FACEMAP":
				p.format = formatBinary
			case j.paper.kind == drivingLicense || classifier == "BACK" && j.paper.kind == idCard:
				p.format = formatPNG
			}
			j.parts = append(j.parts, p)
		}
	}
}

func (j *Journey) classifiers(category string) []string {
	switch {
	case category == "FACEMAP":
		return []string{"FACEMAP"}
	case category == "SELFIE" && j.kind.later:
		return []string{"FACE", "LIVENESS_1", "LIVENESS_2", "LIVENESS_3"}
	case category == "SELFIE":
		return []string{"FACE"}
	case j.kind.later:
		return []string{"FRONT", "FRONT_WITH_FLASH"}
	case j.paper.kind == idCard || j.paper.kind == drivingLicense:
		return []string{"FRONT", "BACK"}
	default:
		return []string{"FRONT"}
	}
}

// newUUID draws a version 4 UUID.
func newUUID(rng *rand.Rand) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], rng.Uint64())
	binary.BigEndian.PutUint64(id[8:], rng.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// derivedID is a UUID that depends on the journey and the name alone.
func (j *Journey) derivedID(name string, n int) string {
	return uuid.NewSHA1(uuid.MustParse(j.WorkflowExecutionID), []byte(name+strconv.Itoa(n))).String()
}

func (j *Journey) accountHref() string { return j.base + "/api/v1/accounts/" + j.AccountID }

func (j *Journey) workflowHref() string {
	return j.accountHref() + "/workflow-executions/" + j.WorkflowExecutionID
}

func (p *part) href() string {
	return p.journey.accountHref() + "/credentials/" + p.key.credential + "/parts/" + p.key.classifier
}
