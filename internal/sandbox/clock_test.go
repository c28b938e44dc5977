package sandbox

import (
	"bytes"
	"encoding/json"
	"image"
	"image/jpeg"
	"image/png"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeClock passes when a test says so.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*fakeTimer
}

type fakeTimer struct {
	at time.Time
	f  func()
}

func newFakeClock() *fakeClock {
	return &fakeClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := &fakeTimer{c.now.Add(d), f}
	c.timers = append(c.timers, timer)
	return func() bool { return c.drop(timer) }
}

func (c *fakeClock) drop(timer *fakeTimer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.timers)
	c.timers = slices.DeleteFunc(c.timers, func(t *fakeTimer) bool { return t == timer })
	return len(c.timers) < n
}

// advance lets d pass and calls what is due.
func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	var due []*fakeTimer
	for _, timer := range c.timers {
		if !timer.at.After(c.now) {
			due = append(due, timer)
		}
	}
	c.mu.Unlock()
	for _, timer := range due {
		if c.drop(timer) {
			timer.f()
		}
	}
}

// config is one whose clock is the fake one; its access tokens do not expire.
func (c *fakeClock) config(callbackURL string) Config {
	return Config{Now: c.Now, AfterFunc: c.AfterFunc, TokenLifetime: 1000 * time.Hour, CallbackURL: callbackURL, FastImages: true}
}

// form is a multipart form with one file.
func form(t *testing.T, field string, content []byte) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	file, err := w.CreateFormFile(field, "picture")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

func pngOf(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegOf(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, width, height)), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// uploader is the client with a credential's token.
func (c *apiClient) uploader(credential credentialAnswer) *apiClient {
	other := *c
	other.token = credential.API.Token
	return &other
}

// pathOf is the path of an href of Jumio's.
func pathOf(href string) string {
	_, path, _ := strings.Cut(href, "/api/")
	return "/api/" + path
}

func (c *apiClient) upload(credential credentialAnswer, part string, content []byte) (int, []byte) {
	c.t.Helper()
	contentType, body := form(c.t, "file", content)
	return c.uploader(credential).send(http.MethodPost, pathOf(credential.API.Parts[part]), contentType, body)
}

func (c *apiClient) finalize(credential credentialAnswer) (int, []byte) {
	c.t.Helper()
	return c.uploader(credential).send(http.MethodPut, pathOf(credential.API.WorkflowExecution), "application/json", "")
}

// status is what Get Status says.
func (c *apiClient) status(j *Journey) string {
	c.t.Helper()
	status, body := c.get(detailsPath(j) + "/status")
	var answer struct {
		WorkflowExecution struct{ Status string }
	}
	if err := json.Unmarshal(body, &answer); err != nil || status != 200 {
		c.t.Fatalf("status: %d %s %v", status, body, err)
	}
	return answer.WorkflowExecution.Status
}

func (c *apiClient) wantStatus(j *Journey, want string) {
	c.t.Helper()
	if got := c.status(j); got != want {
		c.t.Errorf("status %s, want %s", got, want)
	}
}
