// Package sandbox is a stand-in for Jumio, to develop and test against: one
// real HTTP server with every API of the guide and the web journey, a sender of
// callbacks, and journeys of invented people whose documents are drawn. It checks headers and credentials as strictly as the guide, and
// misbehaves on request (see Fault). Its ledger says what it served and sent, to
// be compared with a client's database.
//
// It knows nothing of callbackd, its database or its settings.
package sandbox

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"callbackd/internal/sandbox/web"
)

// Sandbox is one simulated Jumio tenant. Its methods are safe for concurrent use.
type Sandbox struct {
	cfg     Config
	log     *zap.Logger
	poster  *http.Client // of callbacks
	images  *imageCache
	limiter *rate.Limiter // of the Retrieval API
	// accountLimiter is that of account creations and updates.
	accountLimiter *rate.Limiter
	peaks          *peaks
	// commonFaults are the configured faults of requests that belong to no journey.
	commonFaults *faultQueue
	// passing are the faults of all requests at the moment, see SetFaults.
	passing atomic.Pointer[faultQueue]

	// ctx ends with Close, which stops hanging answers and senders. Requests inherit it.
	ctx    context.Context
	cancel context.CancelFunc
	// background counts the senders started over HTTP.
	background sync.WaitGroup

	// listenName is the host that Start was given, in lower case.
	listenName string
	server     *http.Server
	served     chan struct{}

	mu       sync.Mutex
	url      string
	created  uint64
	order    []*Journey // oldest first
	byID     map[string]*Journey
	byPart   map[partKey]*part
	accounts map[string]*account
	tokens   map[string]token
	grants   map[string]grant  // by the tokens that accounts' answers hold
	health   map[string]Health // by data center
	totals   Totals
	shutDown bool
}

// New returns a sandbox without journeys that does not listen yet. Its error
// names every wrong field.
func New(cfg Config) (*Sandbox, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("sandbox configuration: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	// Its own transport, so that Close can end its idle connections.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = maxSenders
	if cfg.CallbackCAs != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: cfg.CallbackCAs, MinVersion: tls.VersionTLS12}
	}
	s := &Sandbox{
		cfg:    cfg,
		log:    cfg.Logger,
		ctx:    ctx,
		cancel: cancel,
		images: &imageCache{limit: cfg.ImageCacheBytes, files: map[string][]byte{}},
		poster: &http.Client{
			Transport: transport,
			Timeout:   cfg.CallbackTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
		byID:     map[string]*Journey{},
		byPart:   map[partKey]*part{},
		accounts: map[string]*account{},
		tokens:   map[string]token{},
		grants:   map[string]grant{},
		health:   map[string]Health{},
		totals:   Totals{Responses: map[string]int{}},
		peaks:    newPeaks(time.Now),

		limiter:        newLimiter(cfg.RequestsPerSecond),
		accountLimiter: newLimiter(cfg.AccountsPerSecond),
		commonFaults:   newFaultQueue(cfg.Faults, common...),
	}
	s.passing.Store(newFaultQueue(nil))
	return s, nil
}

// newLimiter takes 0 for no limit.
func newLimiter(perSecond float64) *rate.Limiter {
	return rate.NewLimiter(cmp.Or(rate.Limit(perSecond), rate.Inf), max(1, int(perSecond)))
}

// Handler serves Jumio's APIs, which have a host each at Jumio, and the sandbox's
// own pages under /_sandbox/.
func (s *Sandbox) Handler() http.Handler {
	const (
		accountPath  = "/api/v1/accounts/{account}"
		workflowPath = accountPath + "/workflow-executions/{workflow}"
		uploadPath   = workflowPath + "/credentials/{credential}/parts/{classifier}"
	)
	unknown := func(w http.ResponseWriter, r *http.Request) {
		s.deliver(w, r, "other", problem(http.StatusNotFound, "no such resource"))
	}
	r := chi.NewRouter()
	r.NotFound(unknown)
	r.Get("/", s.serveHealth)
	r.Post("/oauth2/token", s.serveToken)
	r.Post("/api/v1/accounts", s.serveAccount)
	r.Put(accountPath, s.serveAccount)
	r.Get(accountPath, unknown) // callbacks name this address; the guide has no answer
	r.Delete(accountPath, s.retrieve(EndpointDelete, s.findAccount))
	r.Post(uploadPath, s.acquire(EndpointUpload, s.upload, "multipart/form-data"))
	// The guide's table has the one Content-Type, its example the other.
	r.Put(workflowPath, s.acquire(EndpointFinalize, s.finalization, "application/json", "multipart/form-data"))
	r.Delete(workflowPath, s.retrieve(EndpointDelete, s.findDeletion))
	for _, account := range []string{accountPath, "/api/v1"} {
		r.Get(account+"/workflow-executions/{workflow}", s.serveWorkflow(EndpointDetails))
		r.Get(account+"/workflow-executions/{workflow}/status", s.serveWorkflow(EndpointStatus))
	}
	r.Get(accountPath+"/credentials/{credential}/parts/{classifier}", s.retrieve(EndpointImage, s.findPart))
	pages := web.Handler(webJourneys{s})
	r.Handle("/web/*", pages)
	s.routeControl(r, pages)
	return r
}

// Start binds addr ("127.0.0.1:0" takes a free port) and serves in the
// background until Close.
func (s *Sandbox) Start(addr string) error {
	listener, err := new(net.ListenConfig).Listen(s.ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("sandbox: listening: %w", err)
	}
	if host, _, err := net.SplitHostPort(addr); err == nil {
		s.listenName = strings.ToLower(host)
	}
	s.mu.Lock()
	s.url = "http://" + listener.Addr().String()
	s.mu.Unlock()
	s.served = make(chan struct{})
	s.server = &http.Server{
		Handler:           s.Handler(),
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ReadHeaderTimeout: 5 * time.Second,
		// No ReadTimeout: it would also cut off answers that hang or are slow.
		IdleTimeout:    75 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       zap.NewStdLog(s.log),
	}
	go func() {
		defer close(s.served)
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("sandbox stopped serving", zap.Error(err))
		}
	}()
	return nil
}

// URL is the base address, such as "http://127.0.0.1:9480"; empty before Start.
func (s *Sandbox) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// Close stops senders and hanging answers, lets other requests finish until
// ctx ends, and waits for everything that the sandbox started.
func (s *Sandbox) Close(ctx context.Context) error {
	s.mu.Lock()
	s.shutDown = true
	s.mu.Unlock()
	s.cancel()
	s.background.Wait()
	s.poster.CloseIdleConnections()
	if s.server == nil {
		return nil
	}
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("sandbox: closing: %w", err), s.server.Close())
	}
	<-s.served
	return err
}

// inBackground starts f, which Close waits for; false once Close was called.
func (s *Sandbox) inBackground(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shutDown {
		return false
	}
	s.background.Go(f)
	return true
}
