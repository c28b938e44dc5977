package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/intake"
	"callbackd/internal/store"
)

const (
	// schemaTimeout bounds the questions for the schema's version and rights.
	schemaTimeout = 10 * time.Second
	// workerRetry is the pause between two attempts to start the worker.
	workerRetry = time.Second
)

// spoolDir is empty on a worker-only instance, which has nothing to spool.
func (i *Instance) spoolDir() string {
	if !i.cfg.Receive {
		return ""
	}
	return i.cfg.SpoolDir
}

func (i *Instance) newIntake(ctx context.Context, reg *prometheus.Registry) (err error) {
	i.intake, err = intake.New(intake.Options{
		Store: i.store, SpoolDir: i.spoolDir(), SpoolMaxBytes: i.cfg.SpoolMaxBytes, StoreTimeout: i.cfg.StoreTimeout,
		Check: i.checkDatabase, Log: i.log, Registerer: reg,
	})
	if err != nil {
		return err
	}
	return i.intake.Start(ctx)
}

// checkDatabase returns nil when this instance can work with the database. If it
// is to migrate, the first call does, for as long as that takes; where there is a
// spool, it first makes sure that the database is up.
func (i *Instance) checkDatabase(ctx context.Context) error {
	if i.spoolDir() != "" {
		if err := within(ctx, i.cfg.StoreTimeout, i.store.Ready); err != nil {
			return err
		}
	}
	if !i.migrated {
		if err := i.migrate(ctx); err != nil {
			return err
		}
		i.migrated = true
	}
	return within(ctx, schemaTimeout, i.store.CheckSchema)
}

func (i *Instance) migrate(ctx context.Context) error {
	return store.MigrateUp(ctx, store.MigratorOptions{
		DSN: i.cfg.DatabaseURL,
		OnWait: func(holders string) {
			i.log.Warn("the migration is waiting for a lock", zap.String("held_by", holders))
		},
		OnStep: func(version int, name string) {
			i.log.Info("applied a migration", zap.Int("version", version), zap.String("name", name))
		},
	})
}

func within(ctx context.Context, timeout time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return ask(ctx)
}

// rememberAddresses makes the allowlist read the remembered addresses once the
// database is fit. If it was fit at the start, that has been done.
func (i *Instance) rememberAddresses(ctx context.Context) {
	select {
	case <-i.intake.Fit():
		return
	default:
	}
	select {
	case <-i.intake.Fit():
		i.filter.Refresh()
	case <-ctx.Done():
	}
}

// startFetcher starts the worker now, or as soon as the database is fit. The
// channel is closed when that is done or ctx has ended.
func (i *Instance) startFetcher(ctx context.Context) (<-chan struct{}, error) {
	done := make(chan struct{})
	if i.fetcher == nil {
		close(done)
		return done, nil
	}
	select {
	case <-i.intake.Fit():
		close(done)
		return done, i.startWorker(ctx)
	default:
	}
	go func() {
		defer close(done)
		select {
		case <-i.intake.Fit():
		case <-ctx.Done():
			return
		}
		for {
			err := i.startWorker(ctx)
			if err == nil || ctx.Err() != nil {
				return
			}
			i.log.Error("could not start the worker, trying again", zap.Error(err))
			select {
			case <-time.After(workerRetry):
			case <-ctx.Done():
				return
			}
		}
	}()
	return done, nil
}

// startWorker starts the worker if the database's role may do its work: River
// would only log that it may not.
func (i *Instance) startWorker(ctx context.Context) error {
	if err := within(ctx, schemaTimeout, i.store.CheckWorker); err != nil {
		return err
	}
	return i.fetcher.Start(ctx)
}
