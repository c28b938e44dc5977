package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"

	"callbackd/internal/config"
	"callbackd/internal/handler"
	"callbackd/internal/intake"
	"callbackd/internal/ipfilter"
	"callbackd/internal/store"
	"callbackd/internal/store/receiving"
	"callbackd/internal/tombstone"
	"callbackd/internal/tracing"
)

// otherConnections is how many connections an instance needs besides one for
// each worker: two writers, the spool's drainer, promotion and its listener,
// River, probes, rejected callbacks, remembered addresses.
const otherConnections = 12

// Instance is one callbackd. Its listeners are bound; it serves from Run on.
type Instance struct {
	cfg       *config.Config
	build     Build
	log       *zap.Logger
	db        *store.DB
	receiving *receiving.Store
	intake    *intake.Intake
	filter    *ipfilter.Filter // nil on a worker-only instance
	handler   *handler.Handler
	worker    *worker   // nil on a receive-only instance
	callback  *listener // nil on a worker-only instance
	admin     *listener
	listeners []*listener     // both
	tracer    *tracing.Tracer // nil without tracing
	migrated  bool            // also true when this instance does not migrate
	// supervised means that this instance is the whole process, so it reports
	// to the service manager.
	supervised bool
}

// listener is a server and its bound socket.
type listener struct {
	net.Listener
	name   string
	server *http.Server
}

// New connects to the database, checks its schema, and binds the listeners. With
// a spool, the database may be down. Give Run the same ctx.
func New(ctx context.Context, cfg *config.Config, build Build, log *zap.Logger) (*Instance, error) {
	i := &Instance{cfg: cfg, build: build, log: log, migrated: !cfg.MigrateOnStart}
	reg := i.newRegistry()
	for _, part := range []func(context.Context, *prometheus.Registry) error{
		i.newTracer, i.newStore, i.newIntake, i.newFilter, i.newHandler, i.newWorker, i.bindListeners,
	} {
		if err := part(ctx, reg); err != nil {
			i.close()
			return nil, err
		}
	}
	return i, nil
}

// CallbackListener is the bound callback listener of an instance that receives.
func (i *Instance) CallbackListener() net.Listener { return i.callback }

// AdminListener serves metrics and probes.
func (i *Instance) AdminListener() net.Listener { return i.admin }

func (i *Instance) newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "callbackd_build_info", Help: "1, with what was built in the labels.",
		ConstLabels: prometheus.Labels{"version": i.build.Version, "commit": i.build.Commit, "go_version": i.build.GoVersion},
	})
	info.Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

func (i *Instance) newStore(ctx context.Context, reg *prometheus.Registry) (err error) {
	i.db, err = store.Open(ctx, store.Options{
		DSN: i.cfg.DatabaseURL, MaxConns: int32(i.cfg.Workers + otherConnections), //nolint:gosec // at most 1000 workers
		ErasureKey: tombstone.NewKey(i.cfg.ErasureKey), Log: i.log, Metrics: store.NewMetrics(reg),
	})
	if err == nil {
		i.receiving = receiving.New(i.db, i.cfg.StoreTimeout, reg)
	}
	return err
}

func (i *Instance) newFilter(_ context.Context, reg *prometheus.Registry) (err error) {
	if !i.cfg.Receive {
		return nil
	}
	i.filter, err = ipfilter.New(ipfilter.Config{
		TrustedProxies: i.cfg.TrustedProxies, ClientIPHeader: i.cfg.ClientIPHeader, ProxyProtocol: i.cfg.ProxyProtocol,
		AllowedCIDRs: i.cfg.AllowedCIDRs,
		JumioIPs:     i.cfg.JumioIPs, JumioHosts: i.cfg.JumioHosts,
		DNSServer: i.cfg.DNSServer, DNSRefresh: i.cfg.DNSRefresh, DNSGrace: i.cfg.DNSGrace,
	}, i.receiving, i.log, ipfilter.NewMetrics(reg))
	return err
}

func (i *Instance) newHandler(_ context.Context, reg *prometheus.Registry) (err error) {
	i.handler, err = handler.New(handler.Options{
		CallbackPath: i.cfg.CallbackPath, MaxBodyBytes: i.cfg.MaxBodyBytes,
		RejectedPerHour: i.cfg.RejectedPerHour, UserReferenceKey: i.cfg.UserReferenceKey,
		Check: i.check, Note: i.note, NotReady: i.notReady, Store: i.intake, Logger: i.log, Tracer: i.tracer, Gatherer: reg,
		Metrics: handler.NewMetrics(reg, ipfilter.ReasonNotAllowed, ipfilter.ReasonNoAddress),
	})
	return err
}

// check is the callback listener's address check.
func (i *Instance) check(r *http.Request) (netip.Addr, string) {
	d := i.filter.Check(r)
	return d.Addr, d.Reason
}

// note is what /readyz on the admin listener tells the operator while the
// instance is ready: a stalled worker does not stop it from receiving.
func (i *Instance) note() string {
	notes := i.worker.healthOfJumio()
	if i.filter != nil {
		notes = append(notes, i.filter.UndeclaredProxies(), i.worker.stalled())
	}
	return strings.Join(slices.DeleteFunc(notes, func(note string) bool { return note == "" }), "; ")
}

// notReady says why a worker-only instance is not ready.
func (i *Instance) notReady() string {
	if i.filter != nil {
		return ""
	}
	return i.worker.stalled()
}

func (i *Instance) bindListeners(ctx context.Context, _ *prometheus.Registry) (err error) {
	if i.admin, err = i.bind(ctx, "admin", i.cfg.AdminListen, i.handler.Admin()); err != nil || !i.cfg.Receive {
		return err
	}
	if i.callback, err = i.bind(ctx, "callback", i.cfg.Listen, i.handler.Callback()); err != nil {
		return err
	}
	if i.cfg.ProxyProtocol {
		i.callback.Listener = i.filter.WrapListener(i.callback.Listener)
	}
	return nil
}

func (i *Instance) bind(ctx context.Context, name, address string, h http.Handler) (*listener, error) {
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("bind the %s listener: %w", name, err)
	}
	l := &listener{socket, name, handler.NewServer(h, i.log)}
	i.listeners = append(i.listeners, l)
	return l, nil
}
