// Package handler is callbackd's HTTP edge: the callback listener, the admin
// listener, and what a callback's body means.
//
// For a callback it does one thing: it asks the Store to make it durable, and
// answers 200 once it is. It refuses to know who may call (the Check it is given
// does), to speak SQL, to call Jumio, to interpret statuses, and to tell an
// outsider or a log anything of a body or of the callback path.
package handler

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
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

// Store is where callbacks are kept.
type Store interface {
	// InsertCallback returns nil once, and only once, the callback is durable,
	// and whether it is in the spool rather than in the database. Like
	// InsertRejected, it bounds its time by itself.
	InsertCallback(ctx context.Context, c *callback.Callback) (spooled bool, err error)
	InsertRejected(ctx context.Context, r *callback.Rejected) error
	// Ready returns nil when an InsertCallback now would succeed, and what an
	// operator should know then, if anything.
	Ready(ctx context.Context) (note string, err error)
}

// Options are what New needs. Everything is required but UserReferenceKey, Note,
// NotReady, Tracer and Now.
type Options struct {
	// CallbackPath is matched exactly, in its escaped form. It is a secret.
	CallbackPath string
	// MaxBodyBytes: a larger callback gets 413.
	MaxBodyBytes int64
	// RejectedPerHour is how many refused requests are kept in any hour; 0 keeps
	// none. Half of them, rounded down, are those of addresses that Check refuses.
	RejectedPerHour int
	// UserReferenceKey: when not empty, a userReference must be signed with it.
	UserReferenceKey string
	// Check returns the client's address (zero when there is none to be had) and
	// why it is refused: a short code, optionally ": " and a detail, in which
	// nothing is a stranger's text, for it is logged; empty when it is allowed.
	Check func(*http.Request) (addr netip.Addr, reason string)
	Store Store
	// Logger gets one line for each request on the callback path.
	Logger  *zap.Logger
	Metrics *Metrics
	// Note returns what an operator should know besides the Store's note, for
	// the admin listener's /readyz; empty when there is nothing.
	Note func() string
	// NotReady returns why this instance is not ready although the Store is, for
	// the admin listener's /readyz; empty when it is.
	NotReady func() string
	// Gatherer is what the admin listener's /metrics shows.
	Gatherer prometheus.Gatherer
	// Tracer gets a span for each callback that names a workflow execution; nil
	// for none.
	Tracer *tracing.Tracer
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Limits that the contract fixes; fields of Handler so that tests need not wait.
const (
	bodyTimeout   = 15 * time.Second
	answerTimeout = 10 * time.Second
	// lateAnswer is when an answer that has not begun gets a time of its own.
	lateAnswer = time.Second
	// refusalLines a second are logged of what anybody can provoke.
	refusalLines = 5
)

// Handler answers on both listeners.
type Handler struct {
	opt         Options
	bodyTimeout time.Duration
	lateAnswer  time.Duration
	// What may be kept of refused requests, by who sent them.
	ofAllowed, ofOthers *quota

	readiness    readiness
	shuttingDown atomic.Bool
	logLimit     *rate.Limiter
	suppressed   atomic.Int64
}

// New checks the options. Its error names every one that is wrong, never a
// value.
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
	require(validCallbackPath(o.CallbackPath), `CallbackPath must be an absolute URL path without query, "*" and "{", other than /healthz and /readyz`)
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
		logLimit:    rate.NewLimiter(refusalLines, 2*refusalLines),
	}, nil
}

// validCallbackPath accepts what equals its own escaped form, so that an exact
// comparison with a request's escaped path is possible, and what chi takes
// literally.
func validCallbackPath(path string) bool {
	u, err := url.ParseRequestURI(path)
	return err == nil && strings.HasPrefix(path, "/") && u.EscapedPath() == path &&
		!strings.ContainsAny(path, "*{}") && path != "/healthz" && path != "/readyz"
}

// Callback is the handler of the listener that faces the internet.
func (h *Handler) Callback() http.Handler {
	r := h.router(h.readyz)
	r.MethodNotAllowed(h.methodNotAllowed)
	r.Post(h.opt.CallbackPath, h.callback)
	return r
}

// Admin is the handler of the operators' listener.
func (h *Handler) Admin() http.Handler {
	r := h.router(h.readyzDetailed)
	r.Method(http.MethodGet, "/metrics", promhttp.HandlerFor(h.opt.Gatherer, promhttp.HandlerOpts{}))
	return r
}

// SetShuttingDown turns readiness off for good; everything else is served as
// before.
func (h *Handler) SetShuttingDown() { h.shuttingDown.Store(true) }

func (h *Handler) router(readyz http.HandlerFunc) chi.Router {
	r := chi.NewRouter()
	r.Use(h.observe, matchEscapedPath)
	r.NotFound(h.notFound)
	// Another method on a probe is "anything else".
	r.MethodNotAllowed(h.notFound)
	r.Get("/healthz", healthz)
	r.Head("/healthz", healthz)
	r.Get("/readyz", readyz)
	r.Head("/readyz", readyz)
	return r
}

// matchEscapedPath makes chi compare the path as the client wrote it, so that an
// encoded variant of a route is another path.
func matchEscapedPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chi.RouteContext(r.Context()).RoutePath = r.URL.EscapedPath()
		next.ServeHTTP(w, r)
	})
}

func (h *Handler) notFound(w http.ResponseWriter, _ *http.Request) {
	exchangeOf(w).problem(http.StatusNotFound, "")
}

// methodNotAllowed is also where chi leads methods that it does not know, on
// whatever path.
func (h *Handler) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	if r.URL.EscapedPath() != h.opt.CallbackPath {
		h.notFound(w, r)
		return
	}
	w.Header().Set("Allow", http.MethodPost)
	exchangeOf(w).problem(http.StatusMethodNotAllowed, "")
}
