package sandbox

import (
	"encoding/hex"
	"slices"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/workflow"
)

// Expected is what a client should have of a journey in the end.
type Expected struct {
	State  workflow.RetrievalState `json:"state"`
	Images []Image                 `json:"images"`
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
// Config.Attempts attempts. A fault without an end, or with more times than the
// attempts make requests, lasts; one that ends after a time passes. All that pass
// must do so within the attempts together. A client whose callback is lost should
// have the same, because it expects the workflow execution and asks Get Status.
func (s *Sandbox) Expected(j *Journey) Expected {
	for _, p := range j.parts {
		s.image(p)
	}
	return j.expected()
}

// expected is Expected without drawing.
func (j *Journey) expected() Expected {
	e := Expected{State: workflow.Retrieved, Images: []Image{}}
	now := j.now()
	lost := j.callbackFault(FaultLost) != nil
	switch {
	case lost && j.lastingFault(EndpointStatus, nil):
		e.State = workflow.Awaiting
	case j.needsStatus() && j.lastingFault(EndpointStatus, nil):
		e.State = workflow.Failed
	case now.Waits():
		e.State = workflow.Awaiting
	case now.Status == workflow.StatusSessionExpired || now.Status == workflow.StatusTokenExpired:
		e.State = workflow.NotRequired
	case j.lastingFault(EndpointDetails, nil):
		e.State = workflow.Failed
	}
	if e.State != workflow.Retrieved {
		return e
	}
	d := now.Details()
	for _, p := range j.parts {
		if !d.Names(p.Part) {
			continue
		}
		if !p.Reachable() || j.lastingFault(EndpointImage, p) {
			e.State = workflow.Partial
			continue
		}
		e.Images = append(e.Images, p.describe())
	}
	return e
}

func (p *part) describe() Image {
	p.journey.mu.Lock()
	defer p.journey.mu.Unlock()
	i := Image{
		AccountID: p.journey.AccountID, CredentialID: p.Credential, Category: p.Category,
		Classifier: p.Classifier, ContentType: p.contentType(),
	}
	if p.drawn {
		i.SHA256, i.Size = hex.EncodeToString(p.sha256[:]), p.size
	}
	return i
}

// needsStatus reports whether only Get Status tells what the callback means.
func (j *Journey) needsStatus() bool {
	return j.now().Unclear() || j.callbackFault(FaultIDOnly) != nil
}

// lastingFault reports whether a fault of the endpoint outlasts the attempts; for
// an image, a fault of the part.
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
		case f.Kind == "401" || f.Kind == FaultRevoked:
			perAttempt = 2 // once more with a new token
		case f.Kind == "404" && endpoint != EndpointImage:
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
