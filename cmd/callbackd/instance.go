package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"

	"callbackd/internal/config"
	"callbackd/internal/fetcher"
	"callbackd/internal/handler"
	"callbackd/internal/intake"
	"callbackd/internal/ipfilter"
	"callbackd/internal/jumio"
	"callbackd/internal/store"
	"callbackd/internal/tracing"
)

// jumioProgressTimeout ends a request to Jumio that makes no progress.
const jumioProgressTimeout = 30 * time.Second

// otherConnections are what an instance needs of the pool besides one for each
// worker: the two writers, the mover of the spool, promotion and its listener,
// River's own, probes, rejected callbacks, remembered addresses.
const otherConnections = 12

// instance is one running callbackd: its listeners are bound, nothing is
// served before run.
type instance struct {
	cfg      *config.Config
	log      *zap.Logger
	store    *store.Store
	intake   *intake.Intake
	filter   *ipfilter.Filter // nil on a worker-only instance
	handler  *handler.Handler
	jumio    *jumio.Client    // nil on a receive-only instance
	fetcher  *fetcher.Fetcher // nil on a receive-only instance
	callback *listener        // nil on a worker-only instance
	admin    *listener
	tracer   *tracing.Tracer // nil without tracing
	migrated bool            // or need not be
	// supervised says that this instance is the whole process, so that a service
	// manager's questions are about it.
	supervised bool
}

// listener is a server with its socket.
type listener struct {
	name   string
	socket net.Listener
	server *http.Server
}

// newInstance connects to the database, checks its schema, and binds the
// listeners. With a spool, the database may be away.
func newInstance(ctx context.Context, cfg *config.Config, log *zap.Logger) (_ *instance, err error) {
	i := &instance{cfg: cfg, log: log, migrated: !cfg.MigrateOnStart}
	defer func() {
		if err != nil {
			i.close()
		}
	}()
	reg := newRegistry()
	if err := i.newTracer(ctx, reg); err != nil {
		return nil, err
	}
	i.store, err = store.Open(ctx, store.Options{
		DSN: cfg.DatabaseURL, MaxConns: int32(cfg.Workers + otherConnections), //nolint:gosec // at most 1000 workers
		StoreTimeout: cfg.StoreTimeout, Log: log, Metrics: store.NewMetrics(reg),
	})
	if err != nil {
		return nil, err
	}
	if err := i.newIntake(ctx, reg); err != nil {
		return nil, err
	}
	if cfg.Receive {
		if err := i.newFilter(reg); err != nil {
			return nil, err
		}
	}
	if err := i.newHandler(reg); err != nil {
		return nil, err
	}
	if cfg.Workers > 0 {
		if err := i.newFetcher(reg); err != nil {
			return nil, err
		}
	}
	if i.admin, err = i.bind(ctx, "admin", cfg.AdminListen, i.handler.Admin()); err != nil {
		return nil, err
	}
	if cfg.Receive {
		if i.callback, err = i.bind(ctx, "callback", cfg.Listen, i.handler.Callback()); err != nil {
			return nil, err
		}
		if cfg.ProxyProtocol {
			i.callback.socket = i.filter.WrapListener(i.callback.socket)
		}
	}
	return i, nil
}

func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	b := thisBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "callbackd_build_info", Help: "1, with what was built in the labels.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "go_version": b.GoVersion},
	})
	info.Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

func (i *instance) newFilter(reg prometheus.Registerer) (err error) {
	i.filter, err = ipfilter.New(ipfilter.Config{
		TrustedProxies: i.cfg.TrustedProxies, ClientIPHeader: i.cfg.ClientIPHeader, ProxyProtocol: i.cfg.ProxyProtocol,
		AllowedCIDRs: i.cfg.AllowedCIDRs,
		JumioIPs:     i.cfg.JumioIPs, JumioHosts: i.cfg.JumioHosts,
		DNSServer: i.cfg.DNSServer, DNSRefresh: i.cfg.DNSRefresh, DNSGrace: i.cfg.DNSGrace,
	}, addressMemory{i.store}, i.log, ipfilter.NewMetrics(reg))
	return err
}

func (i *instance) newHandler(reg *prometheus.Registry) (err error) {
	i.handler, err = handler.New(handler.Options{
		CallbackPath: i.cfg.CallbackPath, MaxBodyBytes: i.cfg.MaxBodyBytes,
		RejectedPerHour: i.cfg.RejectedPerHour, UserReferenceKey: i.cfg.UserReferenceKey,
		Check: i.check, Note: i.note, NotReady: i.notReady, Store: i.intake, Logger: i.log, Tracer: i.tracer, Gatherer: reg,
		Metrics: handler.NewMetrics(reg, ipfilter.ReasonNotAllowed, ipfilter.ReasonNoAddress),
	})
	return err
}

// check is the address check of the callback listener.
func (i *instance) check(r *http.Request) (netip.Addr, string) {
	d := i.filter.Check(r)
	return d.Addr, d.Reason
}

// note is for the operator who looks at the admin listener's /readyz. A worker that
// stalls does not keep the instance from receiving.
func (i *instance) note() string {
	if i.filter == nil {
		return ""
	}
	notes := []string{i.filter.UndeclaredProxies(), i.stalled()}
	return strings.Join(slices.DeleteFunc(notes, func(note string) bool { return note == "" }), "; ")
}

// notReady is why a worker-only instance is not ready.
func (i *instance) notReady() string {
	if i.filter != nil {
		return ""
	}
	return i.stalled()
}

// stalled says that the worker makes no progress.
func (i *instance) stalled() string {
	if i.fetcher == nil {
		return ""
	}
	since := i.fetcher.Stalled()
	if since.IsZero() {
		return ""
	}
	return "the worker makes no progress: it has promoted no callback, nor found that there is none, since " + since.UTC().Format(time.RFC3339)
}

func (i *instance) newFetcher(reg prometheus.Registerer) (err error) {
	dataCenters := make(map[string]jumio.Credentials, len(i.cfg.DataCenters))
	for label, c := range i.cfg.DataCenters {
		dataCenters[label] = jumio.Credentials(c)
	}
	i.jumio, err = jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: i.cfg.ClientID, ClientSecret: i.cfg.ClientSecret},
		DataCenter:  dataCenters, Basic: i.cfg.Auth == "basic", UserAgent: i.cfg.UserAgent,
		TokenURL: i.cfg.TokenURL, RetrievalURL: i.cfg.RetrievalURL,
		RPS: i.cfg.RetrievalRPS, MaxImageBytes: i.cfg.MaxImageBytes, ProgressTimeout: jumioProgressTimeout,
		Tracer: i.tracer.API(),
	}, i.log, jumio.NewMetrics(reg))
	if err != nil {
		return err
	}
	i.fetcher, err = fetcher.New(fetcher.Options{
		Store: i.store, Jumio: i.jumio, Schedule: i.cfg.RetrievalDelays, Workers: i.cfg.Workers,
		StopTimeout: i.cfg.ShutdownTimeout / 2, UserReferenceKey: i.cfg.UserReferenceKey, Log: i.log, Tracer: i.tracer,
		Metrics: fetcher.NewMetrics(reg, i.cfg.RetrievalDelays),
	})
	return err
}

func (i *instance) bind(ctx context.Context, name, address string, h http.Handler) (*listener, error) {
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("bind the %s listener: %w", name, err)
	}
	return &listener{name: name, socket: socket, server: handler.NewServer(h, i.log)}, nil
}

// run serves until ctx ends or a listener fails, then stops in order.
func (i *instance) run(ctx context.Context) error {
	background, endBackground := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	failed := make(chan error, 3)
	if i.filter != nil {
		running.Go(func() {
			if err := i.filter.Run(background); err != nil && background.Err() == nil {
				failed <- fmt.Errorf("keep the allowlist: %w", err)
			}
		})
		running.Go(func() { i.rememberAddresses(background) })
	}
	for _, l := range i.listeners() {
		running.Go(func() {
			if err := l.server.Serve(l.socket); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve on the %s listener: %w", l.name, err)
			}
		})
		i.log.Info("listening", zap.String("listener", l.name), zap.Stringer("address", l.socket.Addr()))
	}
	running.Go(func() { i.intake.Run(background) })
	waiting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	starting, err := i.startFetcher(waiting)
	if err == nil {
		i.log.Info("started", zap.String("version", thisBuild().Version), zap.Bool("receive", i.cfg.Receive), zap.Int("workers", i.cfg.Workers))
		i.tellReady()
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	giveUp()
	<-starting
	err = errors.Join(err, i.stop(context.WithoutCancel(ctx)))
	endBackground()
	running.Wait()
	i.close()
	if err == nil {
		i.log.Info("stopped")
	}
	return err
}

// listeners are those of this instance, the admin listener first.
func (i *instance) listeners() []*listener {
	if i.callback == nil {
		return []*listener{i.admin}
	}
	return []*listener{i.admin, i.callback}
}

// stop ends the instance within CALLBACKD_SHUTDOWN_TIMEOUT: readiness off, a
// moment for the load balancer to see that, requests drained, and beside them
// the worker; the admin listener last, so that it shows how the stop goes on.
func (i *instance) stop(ctx context.Context) error {
	i.log.Info("stopping", zap.Duration("timeout", i.cfg.ShutdownTimeout))
	i.handler.SetShuttingDown()
	i.tellStopping()
	ctx, cancel := context.WithTimeout(ctx, i.cfg.ShutdownTimeout)
	defer cancel()

	var drainErr, workerErr error
	var stopping sync.WaitGroup
	if i.callback != nil {
		stopping.Go(func() { drainErr = i.drain(ctx) })
	}
	if i.fetcher != nil {
		stopping.Go(func() { workerErr = i.fetcher.Stop(ctx) })
	}
	stopping.Wait()
	i.stopTracer(ctx)
	return errors.Join(drainErr, workerErr, i.admin.shutdown(ctx))
}

// drain keeps receiving for a fifth of the shutdown time-out while /readyz
// says that the instance goes away, and then until the last answer is out.
func (i *instance) drain(ctx context.Context) error {
	i.callback.server.SetKeepAlivesEnabled(false)
	select {
	case <-time.After(i.cfg.ShutdownTimeout / 5):
	case <-ctx.Done():
	}
	return i.callback.shutdown(ctx)
}

func (l *listener) shutdown(ctx context.Context) error {
	if err := l.server.Shutdown(ctx); err != nil {
		_ = l.server.Close()
		return fmt.Errorf("drain the %s listener: %w", l.name, err)
	}
	return nil
}

// close releases what newInstance has got so far.
func (i *instance) close() {
	for _, l := range []*listener{i.admin, i.callback} {
		if l != nil {
			_ = l.socket.Close() // closed by its server already, after a run
		}
	}
	if i.jumio != nil {
		i.jumio.Close()
	}
	i.stopTracer(context.Background()) // done already, after a run
	if i.intake != nil {
		if err := i.intake.Close(); err != nil {
			i.log.Error("could not close the spool", zap.Error(err))
		}
	}
	if i.store != nil {
		i.store.Close()
	}
}

// addressMemory keeps the allowlist's addresses in the database.
type addressMemory struct{ store *store.Store }

func (m addressMemory) LoadAddresses(ctx context.Context, hosts []string) ([]ipfilter.Address, error) {
	rows, err := m.store.LoadAddresses(ctx, hosts)
	list := make([]ipfilter.Address, len(rows))
	for i, r := range rows {
		list[i] = ipfilter.Address(r)
	}
	return list, err
}

func (m addressMemory) SaveAddresses(ctx context.Context, list []ipfilter.Address) error {
	rows := make([]store.AllowlistAddress, len(list))
	for i, a := range list {
		rows[i] = store.AllowlistAddress(a)
	}
	return m.store.SaveAddresses(ctx, rows)
}
