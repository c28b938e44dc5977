package handler

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/store"
)

func TestReadyzFollowsTheStore(t *testing.T) {
	c := newClock(time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC))
	r := start(t, func(s *setup) { s.options.Now = c.now })
	setReady := func(err error) {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		r.store.readyErr = err
	}

	if a := r.get("http://" + r.addr + "/readyz"); a.StatusCode != http.StatusOK {
		t.Fatalf("at first: %d", a.StatusCode)
	}
	setReady(errors.Join(store.ErrUnavailable, errors.New("host db.internal")))
	c.add(readyAge)
	for range 3 {
		r.get("http://"+r.addr+"/readyz").checkProblem(t, http.StatusServiceUnavailable, "")
		r.get("http://"+r.admin+"/readyz").checkProblem(t, http.StatusServiceUnavailable, "the database does not take callbacks")
		c.add(readyAge)
	}
	if a := r.get("http://" + r.addr + "/healthz"); a.StatusCode != http.StatusOK {
		t.Errorf("/healthz while the database is away: %d", a.StatusCode)
	}
	if n := r.logs.FilterMessage("not ready: the database does not take callbacks").Len(); n != 1 {
		t.Errorf("not being ready is logged %d times, want once", n)
	}
	setReady(nil)
	if a := r.get("http://" + r.addr + "/readyz"); a.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", a.StatusCode)
	}
	if n := r.logs.FilterMessage("ready again").Len(); n != 1 {
		t.Errorf("being ready again is logged %d times, want once", n)
	}
}

// Only operators learn more than whether the instance is ready.
func TestReadyzNote(t *testing.T) {
	const missing = "a proxy is missing"
	for name, test := range map[string]struct {
		store, other string
		err          error
		public       int
		admin        string
	}{
		"of the store": {"the spool is in use", "", nil, http.StatusOK, "ready; the spool is in use\n"},
		"other":        {"", missing, nil, http.StatusOK, "ready; a proxy is missing\n"},
		"both":         {"the spool is in use", missing, nil, http.StatusOK, "ready; the spool is in use; a proxy is missing\n"},
		"not ready":    {"", missing, store.ErrUnavailable, http.StatusServiceUnavailable, "the database does not take callbacks; a proxy is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(s *setup) { s.options.Note = func() string { return test.other } })
			r.store.note, r.store.readyErr = test.store, test.err
			a := r.get("http://" + r.admin + "/readyz")
			if a.StatusCode != test.public || !strings.Contains(a.body, test.admin) {
				t.Errorf("admin: %d %q, want %d %q", a.StatusCode, a.body, test.public, test.admin)
			}
			a = r.get("http://" + r.addr + "/readyz")
			if a.StatusCode != test.public || strings.Contains(a.body, "spool") || strings.Contains(a.body, missing) {
				t.Errorf("public: %d %q", a.StatusCode, a.body)
			}
		})
	}
}

func TestProbesDoNotHammerTheStore(t *testing.T) {
	c := newClock(time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC))
	r := start(t, func(s *setup) { s.options.Now = c.now })
	var probes sync.WaitGroup
	for range 50 {
		probes.Go(func() {
			if _, why := r.handler.notReady(); why != "" {
				t.Errorf("not ready: %s", why)
			}
		})
	}
	probes.Wait()
	if r.store.readyCalls != 1 {
		t.Errorf("the store was asked %d times, want once a second", r.store.readyCalls)
	}
	c.add(readyAge)
	r.handler.notReady()
	if r.store.readyCalls != 2 {
		t.Errorf("the store was asked %d times after a second, want once more", r.store.readyCalls)
	}
}

// From the start of a shutdown /readyz is 503, but callbacks in flight still get
// their 200.
func TestShutdown(t *testing.T) {
	r := start(t, nil)
	r.store.entered, r.store.release = make(chan struct{}, 1), make(chan struct{})
	answered := make(chan answer, 1)
	go func() { answered <- r.post(guideExample) }()
	<-r.store.entered

	r.handler.SetShuttingDown()
	r.get("http://"+r.addr+"/readyz").checkProblem(t, http.StatusServiceUnavailable, "")
	r.get("http://"+r.admin+"/readyz").checkProblem(t, http.StatusServiceUnavailable, "shutting down")
	if a := r.get("http://" + r.addr + "/healthz"); a.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %d", a.StatusCode)
	}

	closing, down := make(chan struct{}), make(chan error, 1)
	r.server.RegisterOnShutdown(func() { close(closing) })
	go func() { down <- r.server.Shutdown(t.Context()) }()
	<-closing
	close(r.store.release)
	if a := <-answered; a.StatusCode != http.StatusOK {
		t.Errorf("the callback in flight: %d", a.StatusCode)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if callbacks, _ := r.store.kept(); len(callbacks) != 1 {
		t.Errorf("%d stored", len(callbacks))
	}
}
