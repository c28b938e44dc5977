package webtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox/web"
	"callbackd/internal/sandbox/web/webtest"
)

// patience is for a browser on a busy machine.
const patience = 2 * time.Minute

// TestWebJourney makes journeys in a real browser: embedded to success and to an error,
// with events and redirects, and alone with the pages that there are instead.
func TestWebJourney(t *testing.T) {
	t.Parallel()
	arrivals := make(chan *url.URL, 10)
	shop := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrivals <- r.URL
	}))
	t.Cleanup(shop.Close)
	journeys := webtest.Journeys{
		"card":     {Success: shop.URL + "/ok?basket=7", Error: shop.URL + "/failed", Documents: []string{"PASSPORT", "ID_CARD"}, IssuedIn: []string{"AUT"}, Face: true},
		"fails":    {Success: shop.URL + "/ok", Error: shop.URL + "/failed?basket=7", Documents: []string{"PASSPORT"}},
		"alone":    {Face: true},
		"too late": {Documents: []string{"PASSPORT"}},
	}
	sandbox := httptest.NewServer(web.Handler(journeys))
	t.Cleanup(sandbox.Close)
	b := newBrowser(t)

	b.embed(sandbox.URL, "card")
	b.press("document.querySelector('input[value=ID_CARD]')")
	b.pressID("start")
	for range 3 {
		b.pressID("take")
		b.pressID("next")
	}
	b.wantArrival(arrivals, "/ok", url.Values{"basket": {"7"}, "acquisitionStatus": {"SUCCESS"}})
	b.wantEvents("card", map[string]any{"value": "loaded"}, map[string]any{"value": "success"})
	done := journeys["card"].Done()
	if !done.Finished || done.DocumentType != "ID_CARD" || len(done.Pictures) != 3 || done.Starts != 4 {
		t.Errorf("%d pictures of %q, %d starts", len(done.Pictures), done.DocumentType, done.Starts)
	}
	for classifier, file := range done.Pictures {
		if picture, err := png.DecodeConfig(bytes.NewReader(file)); err != nil || picture.Width < 400 {
			t.Errorf("%s: %d pixels wide, %v", classifier, picture.Width, err)
		}
	}

	b.embed(sandbox.URL, "fails")
	b.press("(() => { document.getElementById('code').value = '9835'; return document.getElementById('fail'); })()")
	b.wantArrival(arrivals, "/failed", url.Values{"basket": {"7"}, "acquisitionStatus": {"ERROR"}, "errorCode": {"9835"}})
	b.wantEvents("fails", map[string]any{"value": "loaded"}, map[string]any{"value": "error", "metainfo": map[string]any{"code": 9835.}})
	if done := journeys["fails"].Done(); done.FailedWith != 9835 || done.Finished {
		t.Errorf("failed with %d, finished %v", done.FailedWith, done.Finished)
	}
	b.wantQuiet()

	// By mouse and keyboard, as the page stands alone.
	b.run("by hand",
		chromedp.Navigate(sandbox.URL+web.AppPath+"?authorizationToken=alone"),
		chromedp.Click("#start:enabled", chromedp.ByQuery),
		chromedp.Click("#take:enabled", chromedp.ByQuery),
		chromedp.Focus("#next:enabled", chromedp.ByQuery), // SendKeys races with chromedp's own events
		chromedp.KeyEvent("\r"),
		chromedp.WaitVisible("#succeeded", chromedp.ByQuery),
	)
	if done := journeys["alone"].Done(); len(done.Pictures["FACE"]) == 0 {
		t.Error("no picture of the face has arrived")
	}
	b.wantQuiet()

	b.run("open the page", chromedp.Navigate(sandbox.URL+web.AppPath+"?authorizationToken="+url.QueryEscape("too late")))
	journeys["too late"].End(web.ErrSessionExpired)
	var why string
	b.run("start too late",
		chromedp.Click("#start:enabled", chromedp.ByQuery),
		chromedp.WaitVisible("#failed", chromedp.ByQuery),
		chromedp.Text("#why", &why, chromedp.ByQuery),
	)
	if want := "9210: Session expired after the user journey started."; why != want {
		t.Errorf("the error page says %q, want %q", why, want)
	}
	b.wantNoEvents()
}

type browser struct {
	t   *testing.T
	ctx context.Context

	mu sync.Mutex
	// complaints are the browser's own: scripts that threw, what the policy blocked.
	complaints []string
}

// record keeps what the page is told.
const record = `window.told = []; window.addEventListener("message", (event) => window.told.push(event.data));`

func newBrowser(t *testing.T) *browser {
	t.Helper()
	// No sandbox: it works neither for root nor in most containers, and the pages are ours.
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.WSURLReadTimeout(patience), chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*patience)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	// chromedp's complaints are of events that are newer than it.
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.listen)
	b.run("start the browser", chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := page.AddScriptToEvaluateOnNewDocument(record).Do(ctx)
		return err
	}))
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close the browser: %v", err)
		}
	})
	return b
}

// chromium finds the browser as .ci/need.sh does.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("the web journey's test needs Chromium or Chrome: apt-get install chromium, or install Google Chrome")
	return ""
}

func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError {
			b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

func (b *browser) run(what string, actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// poll waits until an expression in the page is true.
func (b *browser) poll(what, expression string) {
	b.t.Helper()
	b.run(what, chromedp.Poll(expression, nil, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(patience)))
}

// embed opens the host page and gives it the address of a journey, as a person does.
func (b *browser) embed(sandbox, token string) {
	b.t.Helper()
	b.run("embed "+token,
		chromedp.Navigate(sandbox+web.HostPath),
		chromedp.Focus("#href", chromedp.ByQuery),
		chromedp.KeyEvent(sandbox+web.AppPath+"?locale=en&authorizationToken="+token+"\r"),
	)
}

// press clicks what an expression finds in the iframe, once it can be.
func (b *browser) press(expression string) {
	b.t.Helper()
	b.poll("press "+expression, fmt.Sprintf(`((document) => {
		const found = document && document.readyState === "complete" && document.getElementById("app") ? %s : null;
		if (!found || found.disabled || found.closest("[hidden]")) {
			return false;
		}
		found.click();
		return true;
	})(document.getElementById("client").contentDocument)`, expression))
}

func (b *browser) pressID(id string) {
	b.t.Helper()
	b.press(fmt.Sprintf("document.getElementById(%q)", id))
}

// wantArrival demands a redirect to the path, with the guide's parameters and some more.
func (b *browser) wantArrival(arrivals <-chan *url.URL, path string, more url.Values) {
	b.t.Helper()
	want := url.Values{
		"accountId": {webtest.AccountID}, "workflowExecutionId": {webtest.WorkflowExecutionID}, "customerInternalReference": {webtest.CustomerInternalReference},
	}
	for name, values := range more {
		want[name] = values
	}
	select {
	case got := <-arrivals:
		if diff := cmp.Diff(want, got.Query()); diff != "" || got.Path != path {
			b.t.Errorf("redirected to %s, want %s with (-want +got)\n%s", got, path, diff)
		}
	case <-b.ctx.Done():
		b.t.Fatal("the browser was not redirected")
	}
}

// wantEvents demands the events of the iframe, told and shown, with these payloads.
func (b *browser) wantEvents(token string, payloads ...map[string]any) {
	b.t.Helper()
	b.poll("events are shown", fmt.Sprintf(`document.querySelectorAll("#events tr").length >= %d`, len(payloads)))
	var told []string // not objects
	b.run("read the events", chromedp.Evaluate("window.told", &told))
	var got, want []map[string]any
	for _, data := range told {
		var event map[string]any
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			b.t.Fatalf("%s: %v", data, err)
		}
		if at, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(event["dateTime"])); err != nil || time.Since(at).Abs() > time.Hour {
			b.t.Errorf("dateTime %v", event["dateTime"])
		}
		delete(event, "dateTime")
		got = append(got, event)
	}
	for _, payload := range payloads {
		want = append(want, map[string]any{
			"accountId": webtest.AccountID, "authorizationToken": token, "workflowExecutionId": webtest.WorkflowExecutionID,
			"customerInternalReference": webtest.CustomerInternalReference, "eventType": 510., "payload": payload,
		})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("events (-want +got):\n%s", diff)
	}
}

// wantNoEvents: a page that stands alone tells nobody.
func (b *browser) wantNoEvents() {
	b.t.Helper()
	var told []any
	b.run("read the events", chromedp.Evaluate("window.told", &told))
	if len(told) > 0 {
		b.t.Errorf("told %v", told)
	}
}

// wantQuiet demands that no script threw and no policy was broken.
func (b *browser) wantQuiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, complaint := range b.complaints {
		b.t.Errorf("the browser complains: %s", complaint)
	}
}
