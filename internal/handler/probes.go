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
	// readyAge is how long an answer of the database to a probe holds, so that
	// probes cost it at most one question in this time.
	readyAge = time.Second
	// readyTimeout is less than the usual time-out of a load balancer's probe.
	readyTimeout = time.Second
)

func healthz(w http.ResponseWriter, _ *http.Request) { plain(w, "ok\n") }

func (h *Handler) readyz(w http.ResponseWriter, _ *http.Request) {
	if h.notReady() != "" {
		exchangeOf(w).problem(http.StatusServiceUnavailable, "")
		return
	}
	plain(w, "ready\n")
}

// readyzDetailed also says why, for operators.
func (h *Handler) readyzDetailed(w http.ResponseWriter, _ *http.Request) {
	if why := h.notReady(); why != "" {
		exchangeOf(w).problem(http.StatusServiceUnavailable, why)
		return
	}
	plain(w, "ready\n")
}

func plain(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text) // a probe that is gone needs no answer
}

// notReady says why a callback sent now would not be stored; empty when it
// would.
func (h *Handler) notReady() string {
	if h.shuttingDown.Load() {
		return "shutting down"
	}
	if err := h.storeReady(); err != nil {
		return "the database does not take callbacks"
	}
	return ""
}

// readiness remembers what the Store said last.
type readiness struct {
	// mu is held while the Store is asked, so that all probes wait for one
	// answer.
	mu    sync.Mutex
	asked time.Time
	err   error
}

func (h *Handler) storeReady() error {
	r := &h.readiness
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked.IsZero() && h.opt.Now().Sub(r.asked) < readyAge {
		return r.err
	}
	// No probe's own context: its going away must not be the answer for others.
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	err := h.opt.Store.Ready(ctx)
	switch {
	case err != nil && r.err == nil:
		h.opt.Logger.Warn("not ready: the database does not take callbacks", zap.Error(err))
	case err == nil && r.err != nil:
		h.opt.Logger.Info("ready again")
	}
	r.err, r.asked = err, h.opt.Now()
	return err
}
