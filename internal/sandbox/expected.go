package sandbox

import (
	"encoding/hex"
	"slices"

	"callbackd/internal/sandbox/journey"
)

// State is a journey's end state at the client.
type State string

// End states of a journey.
const (
	// StateAwaiting: no final callback has come, nothing was retrieved.
	StateAwaiting State = "awaiting"
	// StateNotRequired: the workflow expired, nothing was retrieved.
	StateNotRequired State = "not_required"
	// StateRetrieved: details and every image are there.
	StateRetrieved State = "retrieved"
	// StatePartial: details are there, some image is unavailable.
	StatePartial State = "partial"
	// StateFailed: the details are unavailable.
	StateFailed State = "failed"
)

// Expected is what a client should have of a journey in the end.
type Expected struct {
	State  State   `json:"state"`
	Images []Image `json:"images"`
}

// Image is one image or facemap that a client should have.
type Image struct {
	AccountID    string `json:"account_id"`
	CredentialID string `json:"credential_id"`
	Category     string `json:"category"`
	Classifier   string `json:"classifier"`
	ContentType  string `json:"content_type"`
	// SHA256 in hex and Size in bytes are empty in the ledger until the image is
	// asked for.
	SHA256 string `json:"sha256,omitempty"`
	Size   int    `json:"size,omitempty"`
}

// Expected draws the journey's images and returns what a client should have after
// Config.Attempts attempts. Faults last if their times are unlimited or outlast
// the attempts; a duration always passes. The other faults of a journey must pass
// within the attempts together.
func (s *Sandbox) Expected(j *Journey) (Expected, error) {
	for _, p := range j.parts {
		if _, err := s.image(p); err != nil {
			return Expected{}, err
		}
	}
	return j.expected(), nil
}

// expected is Expected without drawing.
func (j *Journey) expected() Expected {
	e := Expected{State: StateRetrieved, Images: []Image{}}
	switch {
	case j.needsStatus() && j.lastingFault(EndpointStatus, nil):
		e.State = StateFailed
	case j.Waits():
		e.State = StateAwaiting
	case j.Status == journey.StatusSessionExpired || j.Status == journey.StatusTokenExpired:
		e.State = StateNotRequired
	case j.lastingFault(EndpointDetails, nil):
		e.State = StateFailed
	}
	if e.State != StateRetrieved {
		return e
	}
	d := j.Details()
	for _, p := range j.parts {
		if !d.Names(p.Part) {
			continue
		}
		if !p.Reachable() || j.lastingFault(EndpointImage, p) {
			e.State = StatePartial
			continue
		}
		e.Images = append(e.Images, p.describe())
	}
	return e
}

func (p *part) describe() Image {
	i := Image{
		AccountID: p.journey.AccountID, CredentialID: p.Credential, Category: p.Category,
		Classifier: p.Classifier, ContentType: p.ContentType,
	}
	p.journey.mu.Lock()
	defer p.journey.mu.Unlock()
	if p.drawn {
		i.SHA256, i.Size = hex.EncodeToString(p.sha256[:]), p.size
	}
	return i
}

// needsStatus says whether the callback leaves no choice but Get Status.
func (j *Journey) needsStatus() bool {
	return j.Unclear() || j.callbackFault(FaultIDOnly) != nil
}

// lastingFault says whether a fault of the endpoint, and of the part if it is
// an image's, outlasts the attempts.
func (j *Journey) lastingFault(endpoint Endpoint, p *part) bool {
	return slices.ContainsFunc(j.Faults, func(f Fault) bool {
		perAttempt := 1 // requests that one attempt makes at most
		switch {
		case f.Endpoint != endpoint || f.For > 0 || f.Kind == FaultSlow || f.Kind == FaultDrip:
			return false
		case f.Part != "" && f.Part != p.Classifier:
			return false
		case f.Kind == FaultWrongType && p.ContentType == journey.Binary:
			return false
		case f.Kind == Fault401 || f.Kind == FaultRevoked:
			perAttempt = 2 // once more with a new token
		case f.Kind == Fault404 && endpoint != EndpointImage:
			perAttempt = 2 // once more at the short form of the address
		}
		if endpoint == EndpointImage && f.Part == "" {
			perAttempt *= len(j.parts)
		}
		return f.Times == 0 || f.Times >= perAttempt*j.attempts
	})
}

// callbackFault returns the journey's callback fault of the kind, if any.
func (j *Journey) callbackFault(kind FaultKind) *Fault {
	i := slices.IndexFunc(j.Faults, func(f Fault) bool { return f.Endpoint == EndpointCallback && f.Kind == kind })
	if i < 0 {
		return nil
	}
	return &j.Faults[i]
}
