package sandbox

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"

	"callbackd/internal/sandbox/journey"
)

const (
	// trapPath is where the redirect fault leads; no client should follow it.
	trapPath = "/_sandbox/trap"
	// pageJourneys is how many journeys the page shows.
	pageJourneys = 200
	// maxRequested bounds the journeys that one request can start.
	maxRequested = 10_000
	maxBody      = 1 << 20
)

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

// routeControl serves the sandbox's own pages, which need no credentials. pages has
// the one that embeds a web journey.
func (s *Sandbox) routeControl(r chi.Router, pages http.Handler) {
	r.HandleFunc(trapPath, s.serveTrap)
	r.Route("/_sandbox", func(r chi.Router) {
		r.Use(s.rejectForeign, http.NewCrossOriginProtection().Handler)
		r.Get("/", s.servePage)
		r.Handle("/web", pages)
		r.Get("/ledger", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.Ledger()) })
		r.Get("/kinds", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, journey.Kinds()) })
		r.Get("/journeys/{workflow}", s.show(func(j *Journey) any { return j.entry() }))
		r.Get("/journeys/{workflow}/details", s.show(func(j *Journey) any { return j.Details() }))
		r.Get("/journeys/{workflow}/images/{classifier}", s.showImage)
		r.Post("/journeys", s.startJourneys)
		r.Post("/journeys/{workflow}/callbacks", s.sendCallback)
		r.Post("/faults", s.setFaults)
		r.Post("/health", s.setHealth)
		r.Post("/tokens/revoke", func(w http.ResponseWriter, _ *http.Request) {
			s.RevokeTokens()
			w.WriteHeader(http.StatusNoContent)
		})
	})
}

// rejectForeign rejects what another site's page makes a browser send. With DNS
// rebinding, Host is that site's name; otherwise Origin or Sec-Fetch-Site shows
// it. Links may be followed.
func (s *Sandbox) rejectForeign(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin, err := url.Parse(r.Header.Get("Origin"))
		sameOrigin := r.Header.Get("Origin") == "" || err == nil && strings.EqualFold(origin.Host, r.Host)
		link := r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
		switch {
		case !s.ownHost(r.Host):
			writeError(w, http.StatusForbidden, errors.New("the sandbox's own pages are served under an IP address, localhost, a name without a dot, or the name it listens on"))
		case !sameOrigin || r.Header.Get("Sec-Fetch-Site") == "cross-site" && !link:
			writeError(w, http.StatusForbidden, errors.New("the request comes from a page of another origin"))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ownHost reports whether the name in a Host header is one that no stranger can
// point here. Names without a dot, such as a Compose service's, are not public.
func (s *Sandbox) ownHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name != "" && (!strings.Contains(name, ".") || name == s.listenName)
}

func (s *Sandbox) serveTrap(w http.ResponseWriter, _ *http.Request) {
	s.total(func(t *Totals) { t.RedirectsFollowed++ })
	writeJSON(w, http.StatusOK, map[string]string{"detail": "a client must not follow redirects"})
}

// startRequest is the body of POST /_sandbox/journeys.
type startRequest struct {
	// Kind is drawn from the mix when empty.
	Kind string `json:"kind"`
	// Count is 1 when zero.
	Count int `json:"count"`
	// Rate is journeys a second; 0 sends as fast as they are answered.
	Rate          float64 `json:"rate"`
	Faults        []Fault `json:"faults"`
	CallbackURL   string  `json:"callback_url"`
	UserReference string  `json:"user_reference"`
	// Hold only makes the journeys known to the API; no callback is sent.
	Hold bool `json:"hold"`
}

func (s *Sandbox) startJourneys(w http.ResponseWriter, r *http.Request) {
	var start startRequest
	var journeys []*Journey
	err := readJSON(w, r, &start)
	if err == nil {
		journeys, err = s.requestedJourneys(start)
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	entries := make([]Entry, len(journeys))
	for i, j := range journeys {
		entries[i] = j.entry()
	}
	send := func() {
		if err := s.SendAll(s.ctx, journeys, start.Rate); err != nil {
			s.log.Warn("sending journeys", zap.Error(err))
		}
	}
	if !start.Hold && !s.inBackground(send) {
		writeError(w, http.StatusServiceUnavailable, errors.New("the sandbox is closing"))
		return
	}
	writeJSON(w, http.StatusAccepted, entries)
}

func (s *Sandbox) requestedJourneys(start startRequest) ([]*Journey, error) {
	start.Count = cmp.Or(start.Count, 1)
	switch {
	case start.Count < 0 || start.Count > maxRequested:
		return nil, fmt.Errorf("count must be between 1 and %d", maxRequested)
	case start.Rate < 0:
		return nil, errors.New("rate must not be negative")
	case start.CallbackURL == "" && s.cfg.CallbackURL == "" && !start.Hold:
		return nil, errors.New("there is no callback URL: give callback_url here or --callback-url at the start, or set hold")
	}
	return s.NewJourneys(start.Count, start.Kind,
		WithFaults(start.Faults...), WithCallbackURL(start.CallbackURL), WithUserReference(start.UserReference))
}

// setFaults is SetFaults over HTTP.
func (s *Sandbox) setFaults(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Faults []Fault `json:"faults"`
	}
	err := readJSON(w, r, &wanted)
	if err == nil {
		err = s.SetFaults(wanted.Faults...)
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// sendCallback sends one more callback of a journey with the body's status, or
// all of them again without one.
func (s *Sandbox) sendCallback(w http.ResponseWriter, r *http.Request) {
	j, ok := s.journeyOf(w, r)
	if !ok {
		return
	}
	var wanted struct {
		Status string `json:"status"`
	}
	if err := readJSON(w, r, &wanted); err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	send := s.Send
	if wanted.Status != "" {
		send = func(ctx context.Context, j *Journey) error { return s.SendStatus(ctx, j, wanted.Status) }
	}
	if err := send(r.Context(), j); err != nil {
		writeError(w, http.StatusBadGateway, err)
		return
	}
	writeJSON(w, http.StatusOK, j.entry())
}

func (s *Sandbox) journeyOf(w http.ResponseWriter, r *http.Request) (*Journey, bool) {
	j, ok := s.journey(chi.URLParam(r, "workflow"))
	if !ok {
		writeError(w, http.StatusNotFound, errors.New("unknown workflow execution"))
	}
	return j, ok
}

// show serves something of a journey as JSON.
func (s *Sandbox) show(part func(*Journey) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if j, ok := s.journeyOf(w, r); ok {
			writeJSON(w, http.StatusOK, part(j))
		}
	}
}

func (s *Sandbox) showImage(w http.ResponseWriter, r *http.Request) {
	j, ok := s.journeyOf(w, r)
	if !ok {
		return
	}
	i := slices.IndexFunc(j.parts, func(p *part) bool { return p.Classifier == chi.URLParam(r, "classifier") })
	if i < 0 {
		writeError(w, http.StatusNotFound, errors.New("the journey has no such image"))
		return
	}
	w.Header().Set("Content-Type", j.parts[i].ContentType)
	_, _ = w.Write(s.image(j.parts[i])) // the reader may have gone
}

func (s *Sandbox) servePage(w http.ResponseWriter, _ *http.Request) {
	journeys := s.Journeys()
	journeys = journeys[max(0, len(journeys)-pageJourneys):]
	slices.Reverse(journeys)
	l := s.ledgerOf(journeys)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := page.Execute(w, l); err != nil {
		s.log.Debug("writing the page", zap.Error(err))
	}
}

// readJSON takes an empty body for an empty object.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("wrong JSON body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value) // the reader may have gone
}

func writeError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, problemBody(status, err.Error()))
}
