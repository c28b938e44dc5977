package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseFault(t *testing.T) {
	for text, want := range map[string]Fault{
		"image:truncated":                     {Endpoint: EndpointImage, Kind: FaultTruncated},
		"image:truncated:2":                   {Endpoint: EndpointImage, Kind: FaultTruncated, Times: 2},
		"details:404:for=10s":                 {Endpoint: EndpointDetails, Kind: "404", For: 10 * time.Second},
		"details:429:1:retry-after=2s":        {Endpoint: EndpointDetails, Kind: "429", Times: 1, RetryAfter: 2 * time.Second},
		"details:503:1:retry-after=date:2s":   {Endpoint: EndpointDetails, Kind: "503", Times: 1, RetryAfter: 2 * time.Second, RetryAfterDate: true},
		"image:slow:3:part=BACK:delay=1500ms": {Endpoint: EndpointImage, Kind: FaultSlow, Times: 3, Part: "BACK", Delay: 1500 * time.Millisecond},
		"token:500:1":                         {Endpoint: EndpointToken, Kind: "500", Times: 1},
		"callback:duplicate:4":                {Endpoint: EndpointCallback, Kind: FaultDuplicate, Times: 4},
	} {
		got, err := ParseFault(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		again, err := ParseFault(got.String())
		if err != nil || again != got {
			t.Errorf("%s: its own text %s reads as %+v, %v", text, got, again, err)
		}
	}
	for text, reason := range map[string]string{
		"image":                     "want endpoint:kind",
		"image:melted":              "unknown kind",
		"moon:500":                  "happens at",
		"details:truncated:x":       "number of times",
		"details:500:1:2":           "third place",
		"details:500:-1":            "negative",
		"details:500:1:colour=blue": "unknown option",
		"details:slow:1:delay=2":    "no duration",
		"details:slow:1:delay=-2s":  "no duration",
		"image:not_final":           "happens at",
		"token:revoked":             "happens at",
		"callback:500":              "happens at",
		"details:500:1:part=FRONT":  "only an image fault",
	} {
		if f, err := ParseFault(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %+v, %v; want an error with %q", text, f, err, reason)
		}
	}
	if got := len(DefaultFaultPool()); got < 30 {
		t.Errorf("the default pool has %d faults", got)
	}
}

// seen is what a client makes of an answer.
type seen struct {
	method     string // of the request
	status     int
	retryAfter string
	header     http.Header
	body       []byte
	err        error
	took       time.Duration
}

func see(c *apiClient, r *http.Request) seen {
	began := time.Now()
	answer, err := c.http.Do(r)
	if err != nil {
		return seen{err: err, took: time.Since(began)}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return seen{r.Method, answer.StatusCode, answer.Header.Get("Retry-After"), answer.Header, body, err, time.Since(began)}
}

func TestFaultsAreSeenByAClient(t *testing.T) {
	good := func(g seen) bool {
		return g.err == nil && g.status == 200 && (len(g.body) > 0 || g.method == http.MethodDelete)
	}
	status := func(code int) func(seen) bool {
		return func(g seen) bool { return g.err == nil && g.status == code && json.Valid(g.body) }
	}
	for _, tt := range []struct {
		fault string
		check func(seen) bool
	}{
		{"400", status(400)},
		{"401", status(401)},
		{"403", status(403)},
		{"404", status(404)},
		{"500", status(500)},
		{"502", status(502)},
		{"503", status(503)},
		{"429", func(g seen) bool { return g.status == 429 && g.retryAfter == "" }},
		{"429:1:retry-after=1500ms", func(g seen) bool { return g.status == 429 && g.retryAfter == "2" }},
		{"429:1:retry-after=date:2s", func(g seen) bool {
			at, err := http.ParseTime(g.retryAfter)
			return g.status == 429 && err == nil && time.Until(at) > -time.Minute && time.Until(at) < 4*time.Second
		}},
		{"503:1:retry-after=7s", func(g seen) bool { return g.status == 503 && g.retryAfter == "7" }},
		{"slow:1:delay=60ms", func(g seen) bool { return good(g) && g.took >= 60*time.Millisecond }},
		{"drip:1:delay=160ms", func(g seen) bool { return good(g) && g.took >= 150*time.Millisecond }},
		{"reset", func(g seen) bool {
			return errors.Is(g.err, syscall.ECONNRESET) || errors.Is(g.err, io.ErrUnexpectedEOF)
		}},
		{"redirect", func(g seen) bool { return g.status == 302 && strings.HasSuffix(g.header.Get("Location"), trapPath) }},
		{"truncated", func(g seen) bool { return g.status == 200 && errors.Is(g.err, io.ErrUnexpectedEOF) && len(g.body) > 0 }},
		{"html", func(g seen) bool {
			return good(g) && strings.HasPrefix(g.header.Get("Content-Type"), "text/html") && bytes.Contains(g.body, []byte("<html>"))
		}},
		{"empty", func(g seen) bool { return g.err == nil && g.status == 200 && len(g.body) == 0 }},
		{"broken_json", func(g seen) bool { return good(g) && !json.Valid(g.body) }},
		{"not_final", func(g seen) bool { return good(g) && bytes.Contains(g.body, []byte(`"status":"ACQUIRED"`)) }},
		{"wrong_type", func(g seen) bool { return good(g) && g.header.Get("Content-Type") == "image/png" && g.body[0] == 0xff }},
	} {
		t.Run(tt.fault, func(t *testing.T) { checkFault(t, tt.fault, tt.check) })
	}
}

// checkFault sees the fault once at every endpoint where it can happen, and the right
// answer after it.
func checkFault(t *testing.T, fault string, check func(seen) bool) {
	if !strings.Contains(fault, ":") {
		fault += ":1"
	}
	happened := 0
	for _, endpoint := range requests {
		f, err := ParseFault(string(endpoint) + ":" + fault)
		if err != nil {
			continue
		}
		happened++
		cfg := Config{FastImages: true}
		if slices.Contains(common, endpoint) {
			cfg.Faults = []Fault{f}
		}
		c, request := faultyRequest(t, start(t, cfg), f)
		if g := see(c, request()); !check(g) {
			t.Errorf("%s: %d %v %.80q, %v", f, g.status, g.header, g.body, g.err)
		}
		want := http.StatusOK
		if (endpoint == EndpointFinalize || endpoint == EndpointDelete) && !f.refuses() {
			want = http.StatusNotFound // it was carried out
		}
		g := see(c, request())
		if g.err != nil || g.status != want || len(g.body) == 0 && endpoint != EndpointDelete || g.header.Get("Content-Type") == "text/html; charset=utf-8" {
			t.Errorf("%s: the next request gets %d, want %d, %v", f, g.status, want, g.err)
		}
	}
	if happened == 0 {
		t.Errorf("%s happens nowhere", fault)
	}
}

// faultyRequest returns a request to the fault's endpoint, of a journey that has the
// fault, and who makes it.
func faultyRequest(t *testing.T, s *Sandbox, f Fault) (*apiClient, func() *http.Request) {
	t.Helper()
	if f.Endpoint == EndpointToken {
		return newClient(t, s), func() *http.Request { return tokenRequest(t, s) }
	}
	c := login(t, s)
	switch f.Endpoint {
	case EndpointHealth:
		return c, func() *http.Request { return c.request("/") }
	case EndpointAccount:
		return c, func() *http.Request {
			return c.sending(http.MethodPost, accounts, "application/json", initiationOf("3"))
		}
	case EndpointUpload, EndpointFinalize:
		a, _ := c.create(initiationOf("3", `"reportingCriteria":"fault=`+f.String()+`"`))
		id := credentialOf(t, a, "ID")
		c = c.uploader(id)
		if f.Endpoint == EndpointFinalize {
			return c, func() *http.Request {
				return c.sending(http.MethodPut, pathOf(id.API.WorkflowExecution), "application/json", "")
			}
		}
		contentType, body := form(t, "file", pngOf(t, 4, 3))
		return c, func() *http.Request {
			return c.sending(http.MethodPost, pathOf(id.API.Parts["front"]), contentType, body)
		}
	}
	j := newJourney(t, s, "passed-passport", WithFaults(f))
	if f.Endpoint == EndpointDelete {
		return c, func() *http.Request { return c.sending(http.MethodDelete, detailsPath(j), "application/json", "") }
	}
	path := map[Endpoint]string{EndpointStatus: detailsPath(j) + "/status", EndpointDetails: detailsPath(j), EndpointImage: partPath(j.parts[0])}[f.Endpoint]
	return c, func() *http.Request { return c.request(path) }
}

func TestHangingRequestLastsUntilTheClientGivesUp(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	j := newJourney(t, s, "passed-passport", WithFaults(faults(t, "details:hang:1")...))
	c.http.Timeout = 100 * time.Millisecond
	if g := see(c, c.request(detailsPath(j))); g.err == nil {
		t.Errorf("an answer came: %d", g.status)
	}
	c.http.Timeout = 10 * time.Second
	if status, _ := c.get(detailsPath(j)); status != 200 {
		t.Errorf("the next request gets %d", status)
	}
}

func TestRevokedTokenStaysWorthlessUntilRenewed(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	revoked := newJourney(t, s, "passed-passport", WithFaults(faults(t, "details:revoked:1")...))
	other := newJourney(t, s, "passed-passport")
	var got []int
	for _, j := range []*Journey{other, revoked, revoked, other} {
		status, _ := c.get(detailsPath(j))
		got = append(got, status)
	}
	c.renew()
	for _, j := range []*Journey{revoked, other} {
		status, _ := c.get(detailsPath(j))
		got = append(got, status)
	}
	if diff := cmp.Diff([]int{200, 401, 401, 401, 200, 200}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsHitAsOftenAndAsLongAsTheySay(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	q := newFaultQueue(faults(t, "image:404:2 image:500:part=BACK details:503:for=10s"), EndpointStatus, EndpointDetails, EndpointImage)
	var got []string
	next := func(endpoint Endpoint, classifier string, after time.Duration) {
		f, ok := q.next(endpoint, classifier, at.Add(after))
		if !ok {
			f.Kind = "good"
		}
		got = append(got, string(f.Kind))
	}
	next(EndpointImage, "FRONT", 0)
	next(EndpointImage, "BACK", 0)
	next(EndpointImage, "FRONT", 0)
	next(EndpointImage, "BACK", 0)
	next(EndpointImage, "BACK", time.Hour)
	next(EndpointDetails, "", time.Minute)
	next(EndpointDetails, "", time.Minute+9*time.Second)
	next(EndpointDetails, "", time.Minute+10*time.Second)
	if diff := cmp.Diff([]string{"404", "404", "good", "500", "500", "503", "503", "good"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsOfTheWholeSandboxHitEveryJourneyAndBasicAuthenticationToo(t *testing.T) {
	s := start(t, Config{Faults: faults(t, "details:500:1")})
	c := login(t, s)
	for range 2 {
		j := newJourney(t, s, "passed-passport")
		r := c.request(detailsPath(j))
		r.SetBasicAuth("sandbox", "sandbox")
		if g := see(c, r); g.status != 500 {
			t.Errorf("first request: %d", g.status)
		}
		if status, _ := c.get(detailsPath(j)); status != 200 {
			t.Errorf("second request: %d", status)
		}
	}
}

func TestFaultsThatHoldForAllRequestsPass(t *testing.T) {
	s := start(t, Config{Faults: faults(t, "details:404:1")})
	c := login(t, s)
	first, second := newJourney(t, s, "passed-passport"), newJourney(t, s, "passed-passport")
	var got []int
	see := func() {
		for _, j := range []*Journey{first, second} {
			status, _ := c.get(detailsPath(j))
			got = append(got, status)
		}
	}
	tell := func(body string, want int) {
		t.Helper()
		if status, answer := post(t, s, "/_sandbox/faults", body); status != want {
			t.Errorf("%s: %d %s, want %d", body, status, answer, want)
		}
	}
	tell(`{"faults":["details:503","image:500"]}`, http.StatusNoContent)
	see()
	tell(`{"faults":["details:500:1"]}`, http.StatusNoContent)
	see()
	tell(`{"faults":["details:503"]}`, http.StatusNoContent)
	tell(`{"faults":["callback:duplicate"]}`, http.StatusBadRequest)
	tell(`{"faults":["details:melted"]}`, http.StatusBadRequest)
	tell(`{}`, http.StatusNoContent)
	see()
	if diff := cmp.Diff([]int{503, 503, 500, 404, 404, 200}, got); diff != "" {
		t.Error(diff)
	}
	tell(`{"faults":["token:500:1"]}`, http.StatusNoContent)
	if answer, err := http.DefaultClient.Do(tokenRequest(t, s)); err != nil || answer.StatusCode != http.StatusInternalServerError {
		t.Errorf("a token: %v %v", answer, err)
	} else {
		readAnswer(t, answer)
	}
}
