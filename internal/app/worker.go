package app

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/budget"
	"callbackd/internal/config"
	"callbackd/internal/disposer"
	"callbackd/internal/eraser"
	"callbackd/internal/fetcher"
	"callbackd/internal/health"
	"callbackd/internal/imagestore"
	"callbackd/internal/jumio"
	"callbackd/internal/promoter"
	"callbackd/internal/queue"
	"callbackd/internal/reconciler"
	"callbackd/internal/retention"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/upkeep"
)

// jumioProgressTimeout ends a request to Jumio that makes no progress.
const jumioProgressTimeout = 30 * time.Second

// worker is what promotes and retrieves.
type worker struct {
	db       *store.DB
	log      *zap.Logger
	queue    *queue.Queue
	promoter *promoter.Promoter
	fetcher  *fetcher.Fetcher
	upkeep   *upkeep.Upkeep
	budget   *budget.Budget
	jumio    *jumio.Client
	// reconciler asks for what no callback tells.
	reconciler *reconciler.Reconciler
	health     *health.Monitor
	eraser     *eraser.Eraser
	imageStore imagestore.Store // nil for the database
	disposer   *disposer.Disposer
	retention  *retention.Keeper
	started    bool
	// halted is why it has stopped by itself; nil while it has not.
	halted atomic.Pointer[error]
	stops  sync.Once
}

func (i *Instance) newWorker(_ context.Context, reg *prometheus.Registry) (err error) {
	if i.cfg.Workers == 0 {
		return nil
	}
	w := &worker{db: i.db, log: i.log}
	if w.imageStore, err = OpenImageStore(i.cfg, reg); err != nil {
		return err
	}
	sealer, err := imagestore.NewSealer(i.cfg.Recipients())
	if err != nil {
		return err
	}
	w.budget = budget.New(budget.Options{DB: i.db, RetrievalRPS: i.cfg.RetrievalRPS, Log: i.log})
	if w.jumio, err = i.newJumio(reg, w.budget); err != nil {
		w.budget.Close()
		return err
	}
	i.worker = w
	w.queue, err = queue.New(i.db, queue.Options{
		Schedule: i.cfg.RetrievalDelays, Workers: i.cfg.Workers, StopTimeout: i.cfg.ShutdownTimeout / 2, Log: i.log,
	})
	if err != nil {
		return err
	}
	w.health = health.New(health.Options{
		Jumio: w.jumio, DataCenters: w.jumio.CredentialedDataCenters(), Interval: i.cfg.JumioHealthInterval,
		Resumed: w.budget.Resume, Log: i.log, Registerer: reg,
	})
	w.disposer = disposer.New(disposer.Options{DB: i.db, Store: w.imageStore, Log: i.log, Registerer: reg})
	metrics := fetcher.NewMetrics(reg, i.cfg.RetrievalDelays)
	w.promoter = promoter.New(promoter.Options{
		DB: i.db, Queue: w.queue, Log: i.log, Metrics: promoter.NewMetrics(reg, metrics.Contradicting), Tracer: i.tracer,
		UserReferenceKey: i.cfg.UserReferenceKey,
	})
	w.upkeep = upkeep.New(upkeep.Options{DB: i.db, Log: i.log, UserReferenceKey: i.cfg.UserReferenceKey, Registerer: reg})
	w.fetcher = fetcher.New(fetcher.Options{
		DB: i.db, Queue: w.queue, Jumio: w.jumio, Schedule: i.cfg.RetrievalDelays, UserReferenceKey: i.cfg.UserReferenceKey,
		Holds: w.health.Holds, ImageStore: w.imageStore, Sealer: sealer, Log: i.log, Metrics: metrics, Tracer: i.tracer,
	})
	w.reconciler = reconciler.New(reconciler.Options{
		DB: i.db, Queue: w.queue, Jumio: w.jumio, Delays: i.cfg.ReconcileDelays, SessionTimeout: i.cfg.SessionTimeout, Grace: i.cfg.ReconcileGrace,
		DataCenter: i.cfg.DataCenter, CallbacksDown: w.health.CallbacksDown, Holds: w.health.Holds, UserReferenceKey: i.cfg.UserReferenceKey,
		Log: i.log, Registerer: reg,
	})
	w.eraser = eraser.New(eraser.Options{
		DB: i.db, Jumio: w.jumio, Schedule: i.cfg.RetrievalDelays, UserReferenceKey: i.cfg.UserReferenceKey, KeyMissing: w.halt,
		Log: i.log, Registerer: reg,
	})
	w.retention = retention.New(retention.Options{
		DB: i.db, Rules: RetentionRules(i.cfg.Retention), Classes: config.RetentionClasses(), Now: time.Now, Log: i.log, Registerer: reg,
	})
	return nil
}

func (i *Instance) newJumio(reg *prometheus.Registry, b *budget.Budget) (*jumio.Client, error) {
	cfg := JumioConfig(i.cfg)
	cfg.Budget = b
	cfg.Tracer = i.tracer.API()
	return jumio.New(cfg, i.log, jumio.NewMetrics(reg))
}

// JumioConfig turns the settings into those of the client, without a budget and a tracer.
func JumioConfig(c *config.Config) jumio.Config {
	dataCenters := make(map[string]jumio.Credentials, len(c.DataCenters))
	for label, credentials := range c.DataCenters {
		dataCenters[label] = jumio.Credentials(credentials)
	}
	return jumio.Config{
		Credentials: jumio.Credentials{ClientID: c.ClientID, ClientSecret: c.ClientSecret},
		DataCenter:  dataCenters, Basic: c.Auth == "basic", UserAgent: c.UserAgent,
		TokenURL: c.TokenURL, RetrievalURL: c.RetrievalURL, AccountURL: c.AccountURL, APIURL: c.APIURL, StatusURL: c.StatusURL,
		MaxImageBytes: c.MaxImageBytes, ProgressTimeout: jumioProgressTimeout,
	}
}

// RetentionRules turns the setting into what the statements know.
func RetentionRules(rules []config.RetentionRule) []results.RetentionRule {
	list := make([]results.RetentionRule, len(rules))
	for i := range rules {
		list[i] = results.RetentionRule(rules[i])
	}
	return list
}

// start needs the database. It asks whether the database's role may do the work:
// River would only log that it may not.
func (w *worker) start(ctx context.Context) error {
	if err := within(ctx, schemaTimeout, w.db.CheckWorker); err != nil && ctx.Err() == nil {
		return err
	}
	if err := within(ctx, schemaTimeout, results.New(w.db).CheckErasureKey); err != nil && ctx.Err() == nil {
		return err
	}
	if err := checkImageStore(ctx, w.imageStore, w.log); err != nil {
		return err
	}
	if err := w.queue.Start(ctx); err != nil {
		return err
	}
	w.promoter.Start(ctx)
	w.fetcher.Start(ctx)
	w.upkeep.Start(ctx)
	w.disposer.Start(ctx)
	w.reconciler.Start(ctx)
	w.health.Start(ctx)
	w.eraser.Start(ctx)
	w.retention.Start(ctx)
	w.started = true
	return nil
}

// stop takes no more jobs and lets running ones end; ctx bounds it. Without a start
// that succeeded there is nothing to stop.
func (w *worker) stop(ctx context.Context) error {
	if !w.started {
		return nil
	}
	w.upkeep.Stop()
	w.disposer.Stop()
	w.health.Stop()
	w.eraser.Stop()
	w.retention.Stop()
	return w.stopWork(ctx)
}

// stopWork ends what promotes, retrieves and reconciles. It waits for a halt.
func (w *worker) stopWork(ctx context.Context) (err error) {
	w.stops.Do(func() {
		w.promoter.Stop()
		w.fetcher.Stop()
		w.reconciler.Stop()
		err = w.queue.Stop(ctx)
	})
	return err
}

// halt ends the work for a reason that only a restart with other settings removes: others
// do it meanwhile.
func (w *worker) halt(cause error) {
	w.halted.Store(&cause)
	ctx, cancel := context.WithTimeout(context.Background(), schemaTimeout)
	defer cancel()
	_ = w.stopWork(ctx) // what still runs cannot store anything either
}

// stalled says since when the worker has made no progress, if it has not.
func (w *worker) stalled() string {
	if w == nil {
		return ""
	}
	if cause := w.halted.Load(); cause != nil {
		return "the worker has stopped: " + (*cause).Error()
	}
	since := w.promoter.Stalled()
	if since.IsZero() {
		return ""
	}
	return "the worker makes no progress: it has promoted no callback, nor found that there is none, since " + since.UTC().Format(time.RFC3339)
}

// healthOfJumio says what Jumio said of its services when it was last asked.
func (w *worker) healthOfJumio() []string {
	if w == nil {
		return nil
	}
	return w.health.Summary()
}
