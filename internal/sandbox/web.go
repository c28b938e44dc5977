package sandbox

import (
	"errors"
	"slices"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/sandbox/web"
)

// webJourneys are the journeys that can be made on the web.
type webJourneys struct{ s *Sandbox }

// ByToken finds the journey of the token in a web.href.
func (w webJourneys) ByToken(token string) (web.Journey, error) {
	g, ok := w.s.granted(token)
	if !ok || g.use != useWeb {
		return nil, web.ErrUnknown
	}
	j := g.journey
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.open()
	if err == nil && j.acquisition.webErrorCode != 0 {
		err = errNotAvailable
	}
	return webJourney{w.s, j}, webError(err)
}

func webError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errSessionExpired):
		return web.ErrSessionExpired
	}
	return web.ErrExpired
}

// webJourney is a journey as the pages of package web see it.
type webJourney struct {
	s *Sandbox
	j *Journey
}

func (w webJourney) AccountID() string                 { return w.j.AccountID }
func (w webJourney) WorkflowExecutionID() string       { return w.j.WorkflowExecutionID }
func (w webJourney) CustomerInternalReference() string { return w.j.CustomerInternalReference }
func (w webJourney) SuccessURL() string                { return w.j.acquisition.request.Web.SuccessURL }

func (w webJourney) ErrorURL() string { return w.j.acquisition.request.Web.ErrorURL }
func (w webJourney) Locale() string   { return w.j.acquisition.request.Web.Locale }

// DocumentTypes are those of the ID, or else of a DOCUMENT.
func (w webJourney) DocumentTypes() []string {
	for _, category := range []string{"ID", "DOCUMENT"} {
		if !w.needs(category) {
			continue
		}
		if types := w.j.acquisition.request.settings(category).Type.values(); len(types) > 0 {
			return types
		}
		if category == "DOCUMENT" {
			return []string{category}
		}
		return journey.IDTypes
	}
	return nil
}

func (w webJourney) Countries() []string {
	return w.j.acquisition.request.settings("ID").Country.values()
}

func (w webJourney) NeedsFace() bool { return w.needs("SELFIE") }

func (w webJourney) needs(category string) bool {
	return slices.ContainsFunc(w.j.parts, func(p *part) bool { return p.Category == category })
}

// Start is an action of the user.
func (w webJourney) Start() {
	_ = w.s.act(w.j, nil) // if nothing more can be given, Finish says so
}

// Finish keeps the pictures and finalizes.
func (w webJourney) Finish(documentType string, pictures map[string][]byte) error {
	types := map[string]string{}
	for classifier, picture := range pictures {
		var err error
		if types[classifier], err = checkPicture(picture); err != nil {
			return err
		}
	}
	err := w.s.act(w.j, func(a *acquisition) {
		if slices.Contains(journey.IDTypes, documentType) {
			a.chosen = journey.DocumentType(documentType)
		}
		for classifier, picture := range pictures {
			if i := slices.IndexFunc(w.j.parts, func(p *part) bool { return p.Classifier == classifier }); i >= 0 {
				w.j.parts[i].take(picture, types[classifier])
			}
		}
	})
	if err == nil {
		err = w.s.finalize(w.j)
	}
	return webError(err)
}

// sessionExpired is the guide's errorCode of an expired session.
const sessionExpired = 9210

// Fail ends the web journey. The workflow execution waits on for another channel
// until its session expires, with that error code at once.
func (w webJourney) Fail(code int) {
	_ = w.s.act(w.j, func(a *acquisition) { a.webErrorCode = code }) // else it has ended already
	if code != sessionExpired {
		return
	}
	w.j.mu.Lock()
	open := w.j.open() == nil
	if open {
		w.j.acquisition.cancel()
		w.s.expire(w.j)
	}
	w.j.mu.Unlock()
	if open {
		w.s.report(w.j)
	}
}
