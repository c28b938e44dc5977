package sandbox

import (
	"crypto/rand"
	"crypto/subtle"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"
)

// tokens issues and checks access tokens.
type tokens struct {
	clients  []Client
	lifetime time.Duration
	now      func() time.Time

	mu      sync.Mutex
	issued  map[string]token
	current map[string]string // client id to its newest token
}

type token struct {
	client  Client
	expires time.Time
}

func newTokens(cfg Config) *tokens {
	return &tokens{
		clients: cfg.Clients, lifetime: cfg.TokenLifetime, now: cfg.Now,
		issued: map[string]token{}, current: map[string]string{},
	}
}

// issue returns the client's token and its remaining seconds: the same token
// while more than half of its lifetime is left, as Jumio may do.
func (t *tokens) issue(c Client) (value string, expiresIn int, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for v, issued := range t.issued {
		if !now.Before(issued.expires) {
			delete(t.issued, v)
		}
	}
	value = t.current[c.ID]
	if left := t.issued[value].expires.Sub(now); left > t.lifetime/2 {
		return value, int(left / time.Second), false
	}
	value = rand.Text() + rand.Text()
	t.current[c.ID] = value
	t.issued[value] = token{client: c, expires: now.Add(t.lifetime)}
	return value, int(t.lifetime / time.Second), true
}

func (t *tokens) lookup(value string) (Client, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	issued, ok := t.issued[value]
	return issued.client, ok && t.now().Before(issued.expires)
}

func (t *tokens) revoke(value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.issued, value)
}

func (t *tokens) revokeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.issued)
}

func (t *tokens) client(id, secret string) (Client, bool) {
	for _, c := range t.clients {
		sameID := subtle.ConstantTimeCompare([]byte(c.ID), []byte(id))
		if sameID&subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) == 1 {
			return c, true
		}
	}
	return Client{}, false
}

// RevokeTokens revokes every access token.
func (s *Sandbox) RevokeTokens() { s.tokens.revokeAll() }

// serveToken is the guide's "Request Access Token".
func (s *Sandbox) serveToken(w http.ResponseWriter, r *http.Request) {
	answer := s.tokenAnswer(w, r)
	if answer.status == http.StatusOK {
		if fault, faulty := s.nextFault(s.tokenFaults, EndpointToken, ""); faulty {
			answer, _ = s.spoil(r, fault, answer)
		}
	}
	s.deliver(w, r, EndpointToken, answer)
}

func (s *Sandbox) tokenAnswer(w http.ResponseWriter, r *http.Request) response {
	if rejected := checkHeaders(r, http.StatusBadRequest, "application/x-www-form-urlencoded"); rejected != nil {
		return *rejected
	}
	id, secret, ok := r.BasicAuth()
	client, known := s.tokens.client(id, secret)
	if !ok || !known {
		return unauthorized("client id and secret are missing or wrong")
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" {
		return problem(http.StatusBadRequest, "grant_type must be client_credentials")
	}
	value, expiresIn, fresh := s.tokens.issue(client)
	s.total(func(t *Totals) {
		t.TokenRequests++
		if fresh {
			t.TokensIssued++
		}
	})
	return jsonResponse(map[string]any{"access_token": value, "expires_in": expiresIn, "token_type": "Bearer"})
}

// checkHeaders rejects what the guide calls missing or suspicious headers
// ("Request Headers" of each API); nil means that they are right. The status
// answers a wrong Content-Type, 403 anything else.
func checkHeaders(r *http.Request, status int, contentType string) *response {
	sent, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch agent := r.Header.Get("User-Agent"); {
	case agent == "":
		return reject(http.StatusForbidden, "the header User-Agent is missing")
	case strings.HasPrefix(agent, "Go-http-client/"):
		return reject(http.StatusForbidden, "the header User-Agent is suspicious: it must name your company and application")
	case !acceptsJSON(r.Header.Values("Accept")):
		return reject(http.StatusForbidden, "the header Accept must name application/json")
	case err != nil || sent != contentType:
		return reject(status, "the header Content-Type must be "+contentType)
	}
	return nil
}

// acceptsJSON demands application/json by name, as the guide does: a wildcard
// is what clients send that set no Accept.
func acceptsJSON(accept []string) bool {
	for entry := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		if mediaType, _, err := mime.ParseMediaType(entry); err == nil && mediaType == "application/json" {
			return true
		}
	}
	return false
}

// authenticate finds the client behind a bearer token or Basic credentials.
func (s *Sandbox) authenticate(r *http.Request) (Client, *response) {
	id, secret, basic := r.BasicAuth()
	c, known := s.tokens.client(id, secret)
	if !basic {
		c, known = s.tokens.lookup(bearer(r))
	}
	if !known {
		rejected := unauthorized("the credentials or the access token are missing, wrong, expired or revoked")
		return Client{}, &rejected
	}
	return c, nil
}

func bearer(r *http.Request) string {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return value
}

func unauthorized(detail string) response {
	answer := problem(http.StatusUnauthorized, detail)
	answer.header.Set("WWW-Authenticate", `Basic realm="jumio"`)
	return answer
}
