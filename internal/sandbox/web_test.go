package sandbox

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox/web"
	"callbackd/internal/workflow"
)

// byHref finds the journey of an answer's web.href as the page does.
func byHref(t *testing.T, s *Sandbox, a accountAnswer) (web.Journey, error) {
	t.Helper()
	u, err := url.Parse(a.Web.Href)
	if err != nil {
		t.Fatal(err)
	}
	return webJourneys{s}.ByToken(u.Query().Get("authorizationToken"))
}

func openWeb(t *testing.T, s *Sandbox, a accountAnswer) web.Journey {
	t.Helper()
	w, err := byHref(t, s, a)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWebJourneyIsWhatTheClientAskedFor(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	a, j := c.create(`{"customerInternalReference":"order-7","workflowDefinition":{"key":3,"credentials":[
		{"category":"ID","type":{"values":["PASSPORT","VISA"]},"country":{"values":["AUT","XKX"]}}]},
		"web":{"successUrl":"https://example.com/ok","errorUrl":"https://example.com/error","locale":"en-GB"}}`)
	w := openWeb(t, s, a)
	got := []any{
		w.AccountID(), w.WorkflowExecutionID(), w.CustomerInternalReference(), w.SuccessURL(), w.ErrorURL(), w.Locale(), w.DocumentTypes(), w.Countries(), w.NeedsFace(),
	}
	want := []any{
		j.AccountID, j.WorkflowExecutionID, "order-7", "https://example.com/ok", "https://example.com/error", "en-GB", []string{"PASSPORT", "VISA"}, []string{"AUT", "XKX"}, true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for body, want := range map[string]string{
		initiationOf("2"): "ID_CARD DRIVING_LICENSE PASSPORT VISA",
		initiationOf("9"): "",
		`{"customerInternalReference":"x","workflowDefinition":{"key":6,"credentials":[{"category":"DOCUMENT"}]}}`:                          "DOCUMENT",
		`{"customerInternalReference":"x","workflowDefinition":{"key":6,"credentials":[{"category":"DOCUMENT","type":{"values":["BS"]}}]}}`: "BS",
	} {
		a, _ := c.create(body)
		if got := strings.Join(openWeb(t, s, a).DocumentTypes(), " "); got != want {
			t.Errorf("%s: documents %q, want %q", body, got, want)
		}
	}
	if _, err := (webJourneys{s}).ByToken(a.SDK.Token); !errors.Is(err, web.ErrUnknown) {
		t.Errorf("the SDK's token: %v", err)
	}
	if _, err := (webJourneys{s}).ByToken("guess"); !errors.Is(err, web.ErrUnknown) {
		t.Errorf("a guessed token: %v", err)
	}
}

func TestWebJourneyIsFinished(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{CallbackURL: r.URL, FastImages: true})
	c := login(t, s)
	a, j := c.create(initiationOf("3", `"reportingCriteria":"kind=passed-passport"`))
	w := openWeb(t, s, a)
	c.wantStatus(j, "INITIATED")
	w.Start()
	c.wantStatus(j, "ACQUISITION_STARTED")
	if err := w.Finish("DRIVING_LICENSE", map[string][]byte{"FRONT": []byte("no picture")}); err == nil {
		t.Error("no picture was accepted")
	}
	pictures := map[string][]byte{"FRONT": pngOf(t, 4, 3), "BACK": pngOf(t, 4, 2), "FACE": jpegOf(t, 3, 4)}
	if err := w.Finish("DRIVING_LICENSE", pictures); err != nil {
		t.Fatal(err)
	}
	c.wantStatus(j, "PROCESSED")
	waitFor(t, "the callback", func() bool { return len(r.statuses()) == 1 })
	details := fetchDetails(t, c, j)
	if data := details.Capabilities["extraction"][0].Data; data["type"] != "DRIVING_LICENSE" || data["subType"] != "REGULAR_DRIVING_LICENSE" {
		t.Errorf("extraction %v", data)
	}
	for classifier, want := range pictures {
		if status, got := c.get(partPath(partOf(t, j, classifier))); status != 200 || string(got) != string(want) {
			t.Errorf("%s is not what was taken: %d", classifier, status)
		}
	}
	if err := w.Finish("DRIVING_LICENSE", pictures); !errors.Is(err, web.ErrExpired) {
		t.Errorf("finished again: %v", err)
	}
	if again, err := byHref(t, s, a); !errors.Is(err, web.ErrExpired) || again.WorkflowExecutionID() != j.WorkflowExecutionID {
		t.Errorf("opened again: %v", err)
	}
}

func TestWebJourneyFails(t *testing.T) {
	clock := newFakeClock()
	r := newReceiver(t)
	s := start(t, clock.config(r.URL))
	c := login(t, s)
	a, j := c.create(initiationOf("3"))
	b, expired := c.create(initiationOf("3"))
	openWeb(t, s, a).Fail(9835)
	if _, err := byHref(t, s, a); !errors.Is(err, web.ErrExpired) {
		t.Errorf("opened after its failure: %v", err)
	}
	c.wantStatus(j, "ACQUISITION_STARTED")
	openWeb(t, s, b).Fail(9210)
	c.wantStatus(expired, "SESSION_EXPIRED")
	if _, err := byHref(t, s, b); !errors.Is(err, web.ErrSessionExpired) {
		t.Errorf("opened after its session: %v", err)
	}
	clock.advance(sessionTimeout)
	c.wantStatus(j, "SESSION_EXPIRED")
	waitFor(t, "the callbacks", func() bool { return len(r.statuses()) == 2 })
	if e := j.entry(); e.WebErrorCode != 9835 || e.Expected.State != workflow.NotRequired {
		t.Errorf("ledger %+v", e)
	}
}

func TestWebJourneyExpires(t *testing.T) {
	clock := newFakeClock()
	s := start(t, clock.config(""))
	c := login(t, s)
	a, _ := c.create(initiationOf("3"))
	b, _ := c.create(initiationOf("3"))
	started := openWeb(t, s, b)
	started.Start()
	clock.advance(14 * time.Minute)
	started.Start()
	clock.advance(14 * time.Minute)
	openWeb(t, s, b)
	clock.advance(2 * time.Minute)
	if w, err := byHref(t, s, a); !errors.Is(err, web.ErrExpired) || w.AccountID() != a.Account.ID {
		t.Errorf("never started: %v", err)
	}
	if _, err := byHref(t, s, b); !errors.Is(err, web.ErrSessionExpired) {
		t.Errorf("started: %v", err)
	}
	if err := started.Finish("PASSPORT", nil); !errors.Is(err, web.ErrSessionExpired) {
		t.Errorf("finished after the session: %v", err)
	}
}

func TestThePagesAreServed(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	a, j := c.create(initiationOf("3"))
	href := strings.TrimPrefix(a.Web.Href, s.URL())
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		href:                        {200, j.WorkflowExecutionID},
		"/web/v4/app":               {403, "9200"},
		"/_sandbox/web":             {200, "<iframe"},
		"/web/v4/assets/app.js":     {200, "postMessage"},
		"/web/v4/assets/../../../x": {404, ""},
	} {
		if status, body := browse(t, s, path); status != want.status || !strings.Contains(string(body), want.text) {
			t.Errorf("%.40s: %d %s, want %d with %q", path, status, body, want.status, want.text)
		}
	}
}

// Secrets stand in answers to the client alone.
func TestTheLedgerHoldsNoTokens(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	a, j := c.create(initiationOf("3"))
	openWeb(t, s, a)
	_, ledger := browse(t, s, "/_sandbox/ledger")
	_, page := browse(t, s, "/_sandbox/")
	for _, token := range j.tokens {
		if strings.Contains(string(ledger), token) || strings.Contains(string(page), token) {
			t.Error("a token is there")
		}
	}
}
