package sandbox

import (
	"crypto/rand"
	"crypto/subtle"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

// token is an access token that was issued.
type token struct {
	client  Client
	expires time.Time
}

// issueToken returns the client's token and its remaining seconds: the same token
// while more than half of its lifetime is left, as Jumio may do.
func (s *Sandbox) issueToken(c Client) (value string, expiresIn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.TokenRequests++
	now := s.cfg.Now()
	maps.DeleteFunc(s.tokens, func(_ string, t token) bool { return !now.Before(t.expires) })
	for value, t := range s.tokens {
		if left := t.expires.Sub(now); t.client == c && left > s.cfg.TokenLifetime/2 {
			return value, int(left / time.Second)
		}
	}
	s.totals.TokensIssued++
	value = rand.Text() + rand.Text()
	s.tokens[value] = token{client: c, expires: now.Add(s.cfg.TokenLifetime)}
	return value, int(s.cfg.TokenLifetime / time.Second)
}

func (s *Sandbox) tokenClient(value string) (Client, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tokens[value]
	return t.client, ok && s.cfg.Now().Before(t.expires)
}

func (s *Sandbox) revokeToken(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, value)
}

// client finds a client by its credentials.
func (s *Sandbox) client(id, secret string) (Client, bool) {
	for _, c := range s.cfg.Clients {
		sameID := subtle.ConstantTimeCompare([]byte(c.ID), []byte(id))
		if sameID&subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) == 1 {
			return c, true
		}
	}
	return Client{}, false
}

// RevokeTokens revokes every access token.
func (s *Sandbox) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// serveToken is the guide's "Request Access Token".
func (s *Sandbox) serveToken(w http.ResponseWriter, r *http.Request) {
	answer := s.tokenAnswer(w, r)
	if answer.status == http.StatusOK {
		answer, _ = s.spoiled(r, s.commonFaults, EndpointToken, "", func() *response { return answer })
	}
	s.deliver(w, r, EndpointToken, answer)
}

func (s *Sandbox) tokenAnswer(w http.ResponseWriter, r *http.Request) *response {
	if rejected := checkHeaders(r, http.StatusBadRequest, "application/x-www-form-urlencoded"); rejected != nil {
		return rejected
	}
	id, secret, ok := r.BasicAuth()
	client, known := s.client(id, secret)
	if !ok || !known {
		return unauthorized("client id and secret are missing or wrong")
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" {
		return problem(http.StatusBadRequest, "grant_type must be client_credentials")
	}
	value, expiresIn := s.issueToken(client)
	return jsonResponse(map[string]any{"access_token": value, "expires_in": expiresIn, "token_type": "Bearer"})
}

// checkHeaders rejects what the guide calls missing or suspicious headers
// ("Request Headers" of each API), a wrong Content-Type with the status and
// anything else with 403; nil means that they are right. Without contentTypes any
// or no Content-Type is right.
func checkHeaders(r *http.Request, status int, contentTypes ...string) *response {
	sent, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch agent := r.Header.Get("User-Agent"); {
	case agent == "":
		return problem(http.StatusForbidden, "the header User-Agent is missing")
	case strings.HasPrefix(agent, "Go-http-client/"):
		return problem(http.StatusForbidden, "the header User-Agent is suspicious: it must name your company and application")
	case !acceptsJSON(r.Header.Values("Accept")):
		return problem(http.StatusForbidden, "the header Accept must name application/json")
	case len(contentTypes) > 0 && (err != nil || !slices.Contains(contentTypes, sent)):
		return problem(status, "the header Content-Type must be "+strings.Join(contentTypes, " or "))
	}
	return nil
}

// checkLength rejects a body without the header Content-Length, which the guide
// demands where data is sent.
func checkLength(r *http.Request) *response {
	if r.ContentLength < 0 {
		return problem(http.StatusForbidden, "the header Content-Length is missing")
	}
	return nil
}

// acceptsJSON demands application/json by name, as the guide does: clients that
// set no Accept send a wildcard.
func acceptsJSON(accept []string) bool {
	for entry := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		if mediaType, _, err := mime.ParseMediaType(entry); err == nil && mediaType == "application/json" {
			return true
		}
	}
	return false
}

// authenticate finds the client behind a bearer token or Basic credentials.
func (s *Sandbox) authenticate(r *http.Request) (_ Client, known bool) {
	if id, secret, basic := r.BasicAuth(); basic {
		return s.client(id, secret)
	}
	return s.tokenClient(bearer(r))
}

func bearer(r *http.Request) string {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return value
}

func unauthorized(detail string) *response {
	answer := problem(http.StatusUnauthorized, detail)
	answer.header.Set("WWW-Authenticate", `Basic realm="jumio"`)
	return answer
}
