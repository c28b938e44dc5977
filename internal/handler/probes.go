package handler

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// readyAge is how long the Store's answer to a probe is reused.
	readyAge = time.Second
	// readyTimeout is shorter than the usual time-out of a load balancer's probe.
	readyTimeout = time.Second
)

func healthz(w http.ResponseWriter, _ *http.Request) { plain(w, "ok\n") }

func (h *Handler) readyz(w http.ResponseWriter, _ *http.Request) {
	if _, why := h.notReady(); why != "" {
		exchangeOf(w).problem(http.StatusServiceUnavailable, "")
		return
	}
	plain(w, "ready\n")
}

// readyzDetailed also tells operators why, and what else they should know.
func (h *Handler) readyzDetailed(w http.ResponseWriter, _ *http.Request) {
	note, why := h.notReady()
	if why == "" {
		why = h.opt.NotReady()
	}
	said := "ready"
	if why != "" {
		said = why
	}
	for _, n := range []string{note, h.opt.Note()} {
		if n != "" {
			said += "; " + n
		}
	}
	if why != "" {
		exchangeOf(w).problem(http.StatusServiceUnavailable, said)
		return
	}
	plain(w, said+"\n")
}

func plain(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text) // if it fails, the probe is gone
}

// notReady returns why a callback sent now would not be stored. If it would, why is
// empty, and there may be a note.
func (h *Handler) notReady() (note, why string) {
	if h.shuttingDown.Load() {
		return "", "shutting down"
	}
	note, err := h.storeReady()
	if err != nil {
		return "", "the database does not take callbacks"
	}
	return note, ""
}

// readiness is the Store's last answer.
type readiness struct {
	// mu is held while the Store is asked, so that all probes wait for one answer.
	mu    sync.Mutex
	asked time.Time
	note  string
	err   error
}

func (h *Handler) storeReady() (note string, err error) {
	r := &h.readiness
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked.IsZero() && h.opt.Now().Sub(r.asked) < readyAge {
		return r.note, r.err
	}
	// Not the probe's context: if it is cancelled, other probes still need the answer.
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	note, err = h.opt.Store.Ready(ctx)
	switch {
	case err != nil && r.err == nil:
		h.opt.Logger.Warn("not ready: the database does not take callbacks", zap.Error(err))
	case err == nil && r.err != nil:
		h.opt.Logger.Info("ready again")
	}
	r.note, r.err, r.asked = note, err, h.opt.Now()
	return note, err
}
