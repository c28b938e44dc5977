// Package handler is callbackd's HTTP edge: the callback listener and the admin
// listener.
//
// It has the Store make a callback durable and answers 200 once it is. It does not
// know who may call (its Check does), speaks no SQL, never calls Jumio, interprets
// no status, and reveals nothing of a body or of the callback path to an outsider
// or a log.
package handler

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"callbackd/internal/callback"
	"callbackd/internal/tracing"
)

// Store keeps callbacks.
type Store interface {
	// InsertCallback returns nil once, and only once, the callback is durable, and
	// whether it is in the spool rather than in the database. Like InsertRejected,
	// it limits its own time.
	InsertCallback(ctx context.Context, c *callback.Callback) (spooled bool, err error)
	InsertRejected(ctx context.Context, r *callback.Rejected) error
	// Ready returns nil if InsertCallback would succeed now, and what an operator
	// should know even so, if anything.
	Ready(ctx context.Context) (note string, err error)
}

// Options are the arguments of New. All are required except UserReferenceKey, Note,
// NotReady, Tracer and Now.
type Options struct {
	// CallbackPath is matched exactly, in its escaped form; the settings have
	// checked that it can be. It is a secret.
	CallbackPath string
	// MaxBodyBytes: a larger callback gets 413.
	MaxBodyBytes int64
	// RejectedPerHour is how many rejected requests are kept in any hour; 0 keeps
	// none. Half of them, rounded down, are for addresses that Check rejects.
	RejectedPerHour int
	// UserReferenceKey: if not empty, a userReference must be signed with it.
	UserReferenceKey string
	// Check returns the client's address (zero if it is unknown) and why it is
	// rejected, empty if it is allowed. The reason is a short code, optionally ": "
	// and a detail; it is logged, so it must not contain a stranger's text.
	Check func(*http.Request) (addr netip.Addr, reason string)
	Store Store
	// Logger gets one line for each request on the callback path.
	Logger  *zap.Logger
	Metrics *Metrics
	// Note returns what an operator should know besides the Store's note, for the
	// admin listener's /readyz; empty if there is nothing.
	Note func() string
	// NotReady returns why this instance is not ready although the Store is, for
	// the admin listener's /readyz; empty if it is ready.
	NotReady func() string
	// Gatherer provides the admin listener's /metrics.
	Gatherer prometheus.Gatherer
	// Tracer, if not nil, gets a span for each callback that names a workflow
	// execution.
	Tracer *tracing.Tracer
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Limits; bodyTimeout and lateAnswer are also fields of Handler, so that tests need
// not wait.
const (
	bodyTimeout   = 15 * time.Second
	answerTimeout = 10 * time.Second
	// lateAnswer is after how long an answer gets an answerTimeout of its own.
	lateAnswer = time.Second
	// rejectedLines is how many lines a second anybody can provoke in the log.
	rejectedLines = 5
)

// Handler serves both listeners.
type Handler struct {
	opt         Options
	bodyTimeout time.Duration
	lateAnswer  time.Duration
	// How many rejected requests are kept, by sender.
	ofAllowed, ofOthers *quota

	readiness    readiness
	shuttingDown atomic.Bool
	logLimit     *rate.Limiter
	suppressed   atomic.Int64
}

// New checks the options. Its error names every wrong one, but never a value.
func New(o Options) (*Handler, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Note == nil {
		o.Note = func() string { return "" }
	}
	if o.NotReady == nil {
		o.NotReady = func() string { return "" }
	}
	var errs []error
	require := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New("handler: "+text))
		}
	}
	require(strings.HasPrefix(o.CallbackPath, "/"), "CallbackPath must begin with a slash")
	require(o.MaxBodyBytes > 0, "MaxBodyBytes must be positive")
	require(o.RejectedPerHour >= 0, "RejectedPerHour must not be negative")
	require(o.Check != nil, "Check is missing")
	require(o.Store != nil, "Store is missing")
	require(o.Logger != nil, "Logger is missing")
	require(o.Metrics != nil, "Metrics are missing")
	require(o.Gatherer != nil, "Gatherer is missing")
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	others := o.RejectedPerHour / 2
	return &Handler{
		opt:         o,
		bodyTimeout: bodyTimeout,
		lateAnswer:  lateAnswer,
		ofAllowed:   newQuota("allowed addresses", o.RejectedPerHour-others, o.Logger),
		ofOthers:    newQuota("addresses that are not allowed", others, o.Logger),
		logLimit:    rate.NewLimiter(rejectedLines, 2*rejectedLines),
	}, nil
}

// Callback returns the handler of the listener that faces the internet.
func (h *Handler) Callback() http.Handler {
	r := h.router(h.readyz)
	r.MethodNotAllowed(h.methodNotAllowed)
	r.Post(h.opt.CallbackPath, h.callback)
	return r
}

// Admin returns the handler of the operators' listener.
func (h *Handler) Admin() http.Handler {
	r := h.router(h.readyzDetailed)
	r.Method(http.MethodGet, "/metrics", promhttp.HandlerFor(h.opt.Gatherer, promhttp.HandlerOpts{}))
	return r
}

// SetShuttingDown makes /readyz answer 503 from now on; everything else is served
// as before.
func (h *Handler) SetShuttingDown() { h.shuttingDown.Store(true) }

func (h *Handler) router(readyz http.HandlerFunc) chi.Router {
	r := chi.NewRouter()
	r.Use(h.observe, matchEscapedPath)
	r.NotFound(h.notFound)
	// To the contract, another method on a probe is "anything else".
	r.MethodNotAllowed(h.notFound)
	r.Get("/healthz", healthz)
	r.Head("/healthz", healthz)
	r.Get("/readyz", readyz)
	r.Head("/readyz", readyz)
	return r
}

// matchEscapedPath makes chi compare the path as the client wrote it, so an encoded
// variant of a route is a different path.
func matchEscapedPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chi.RouteContext(r.Context()).RoutePath = r.URL.EscapedPath()
		next.ServeHTTP(w, r)
	})
}

func (h *Handler) notFound(w http.ResponseWriter, _ *http.Request) {
	exchangeOf(w).problem(http.StatusNotFound, "")
}

// methodNotAllowed also gets methods that chi does not know, on any path.
func (h *Handler) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	if r.URL.EscapedPath() != h.opt.CallbackPath {
		h.notFound(w, r)
		return
	}
	w.Header().Set("Allow", http.MethodPost)
	exchangeOf(w).problem(http.StatusMethodNotAllowed, "")
}
