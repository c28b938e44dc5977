package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/budget"
	"callbackd/internal/config"
	"callbackd/internal/fetcher"
	"callbackd/internal/health"
	"callbackd/internal/jumio"
	"callbackd/internal/promoter"
	"callbackd/internal/queue"
	"callbackd/internal/reconciler"
	"callbackd/internal/store"
	"callbackd/internal/upkeep"
)

// jumioProgressTimeout ends a request to Jumio that makes no progress.
const jumioProgressTimeout = 30 * time.Second

// worker is what promotes and retrieves.
type worker struct {
	db       *store.DB
	queue    *queue.Queue
	promoter *promoter.Promoter
	fetcher  *fetcher.Fetcher
	upkeep   *upkeep.Upkeep
	budget   *budget.Budget
	jumio    *jumio.Client
	// reconciler asks for what no callback tells.
	reconciler *reconciler.Reconciler
	health     *health.Monitor
	started    bool
}

func (i *Instance) newWorker(_ context.Context, reg *prometheus.Registry) (err error) {
	if i.cfg.Workers == 0 {
		return nil
	}
	w := &worker{db: i.db, budget: budget.New(budget.Options{DB: i.db, RetrievalRPS: i.cfg.RetrievalRPS, Log: i.log})}
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
	metrics := fetcher.NewMetrics(reg, i.cfg.RetrievalDelays)
	w.promoter = promoter.New(promoter.Options{
		DB: i.db, Queue: w.queue, Log: i.log, Metrics: promoter.NewMetrics(reg, metrics.Contradicting), Tracer: i.tracer,
		UserReferenceKey: i.cfg.UserReferenceKey,
	})
	w.upkeep = upkeep.New(upkeep.Options{DB: i.db, Log: i.log, UserReferenceKey: i.cfg.UserReferenceKey, Registerer: reg})
	w.fetcher = fetcher.New(fetcher.Options{
		DB: i.db, Queue: w.queue, Jumio: w.jumio, Schedule: i.cfg.RetrievalDelays, UserReferenceKey: i.cfg.UserReferenceKey,
		Holds: w.health.Holds, Log: i.log, Metrics: metrics, Tracer: i.tracer,
	})
	w.reconciler = reconciler.New(reconciler.Options{
		DB: i.db, Queue: w.queue, Jumio: w.jumio, Delays: i.cfg.ReconcileDelays, SessionTimeout: i.cfg.SessionTimeout, Grace: i.cfg.ReconcileGrace,
		DataCenter: i.cfg.DataCenter, CallbacksDown: w.health.CallbacksDown, Holds: w.health.Holds, UserReferenceKey: i.cfg.UserReferenceKey,
		Log: i.log, Registerer: reg,
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

// start needs the database. It asks whether the database's role may do the work:
// River would only log that it may not.
func (w *worker) start(ctx context.Context) error {
	if err := within(ctx, schemaTimeout, w.db.CheckWorker); err != nil && ctx.Err() == nil {
		return err
	}
	if err := w.queue.Start(ctx); err != nil {
		return err
	}
	w.promoter.Start(ctx)
	w.fetcher.Start(ctx)
	w.upkeep.Start(ctx)
	w.reconciler.Start(ctx)
	w.health.Start(ctx)
	w.started = true
	return nil
}

// stop takes no more jobs and lets running ones end; ctx bounds it. Without a start
// that succeeded there is nothing to stop.
func (w *worker) stop(ctx context.Context) error {
	if !w.started {
		return nil
	}
	w.promoter.Stop()
	w.fetcher.Stop()
	w.upkeep.Stop()
	w.reconciler.Stop()
	w.health.Stop()
	return w.queue.Stop(ctx)
}

// stalled says since when the worker has made no progress, if it has not.
func (w *worker) stalled() string {
	if w == nil {
		return ""
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
