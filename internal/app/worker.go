package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/fetcher"
	"callbackd/internal/jumio"
	"callbackd/internal/promoter"
	"callbackd/internal/queue"
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
	jumio    *jumio.Client
	started  bool
}

func (i *Instance) newWorker(_ context.Context, reg *prometheus.Registry) (err error) {
	if i.cfg.Workers == 0 {
		return nil
	}
	w := &worker{db: i.db}
	if w.jumio, err = i.newJumio(reg); err != nil {
		return err
	}
	i.worker = w
	w.queue, err = queue.New(i.db, queue.Options{
		Schedule: i.cfg.RetrievalDelays, Workers: i.cfg.Workers, StopTimeout: i.cfg.ShutdownTimeout / 2, Log: i.log,
	})
	if err != nil {
		return err
	}
	metrics := fetcher.NewMetrics(reg, i.cfg.RetrievalDelays)
	w.promoter = promoter.New(promoter.Options{
		DB: i.db, Queue: w.queue, Log: i.log, Metrics: promoter.NewMetrics(reg, metrics.Contradicting), Tracer: i.tracer,
		UserReferenceKey: i.cfg.UserReferenceKey,
	})
	w.upkeep = upkeep.New(upkeep.Options{DB: i.db, Log: i.log, UserReferenceKey: i.cfg.UserReferenceKey, Registerer: reg})
	w.fetcher = fetcher.New(fetcher.Options{
		DB: i.db, Queue: w.queue, Jumio: w.jumio, Schedule: i.cfg.RetrievalDelays, UserReferenceKey: i.cfg.UserReferenceKey,
		Log: i.log, Metrics: metrics, Tracer: i.tracer,
	})
	return nil
}

func (i *Instance) newJumio(reg *prometheus.Registry) (*jumio.Client, error) {
	dataCenters := make(map[string]jumio.Credentials, len(i.cfg.DataCenters))
	for label, c := range i.cfg.DataCenters {
		dataCenters[label] = jumio.Credentials(c)
	}
	return jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: i.cfg.ClientID, ClientSecret: i.cfg.ClientSecret},
		DataCenter:  dataCenters, Basic: i.cfg.Auth == "basic", UserAgent: i.cfg.UserAgent,
		TokenURL: i.cfg.TokenURL, RetrievalURL: i.cfg.RetrievalURL,
		RPS: i.cfg.RetrievalRPS, MaxImageBytes: i.cfg.MaxImageBytes, ProgressTimeout: jumioProgressTimeout,
		Tracer: i.tracer.API(),
	}, i.log, jumio.NewMetrics(reg))
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
