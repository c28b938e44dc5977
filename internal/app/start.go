package app

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/intake"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

const (
	// schemaTimeout bounds the questions for the schema's version and rights.
	schemaTimeout = 10 * time.Second
	// workerRetry is the pause between two attempts to start the worker.
	workerRetry = time.Second
	// moveLogInterval is how often a migration that moves details says how far it is.
	moveLogInterval = 10 * time.Second
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
		Store: i.receiving, SpoolDir: i.spoolDir(), SpoolMaxBytes: i.cfg.SpoolMaxBytes, StoreTimeout: i.cfg.StoreTimeout,
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
		if err := within(ctx, i.cfg.StoreTimeout, i.db.Ready); err != nil {
			return err
		}
	}
	if !i.migrated {
		if err := i.migrate(ctx); err != nil {
			return err
		}
		i.migrated = true
	}
	return within(ctx, schemaTimeout, i.db.CheckSchema)
}

func (i *Instance) migrate(ctx context.Context) error {
	var logged time.Time
	progress := func(p results.Progress) {
		if now := time.Now(); now.Sub(logged) >= moveLogInterval || p.Done >= p.Total {
			logged = now
			i.log.Info("moving details into typed tables", zap.Int64("done", p.Done), zap.Int64("total", p.Total))
		}
	}
	return store.MigrateUp(ctx, store.MigratorOptions{
		DSN:         i.cfg.DatabaseURL,
		MoveDetails: results.Mover(i.cfg.DatabaseURL, i.cfg.UserReferenceKey, i.log, progress),
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
	if !i.fit() && i.awaitFit(ctx) {
		i.filter.Refresh()
	}
}

// startWorker starts the worker, or has late start it as soon as the database is fit.
func (i *Instance) startWorker(ctx context.Context, late *sync.WaitGroup) error {
	switch {
	case i.worker == nil:
		return nil
	case i.fit():
		return i.worker.start(ctx)
	}
	late.Go(func() {
		for i.awaitFit(ctx) {
			err := i.worker.start(ctx)
			if err == nil {
				return
			}
			i.log.Error("could not start the worker, trying again", zap.Error(err))
			select {
			case <-time.After(workerRetry):
			case <-ctx.Done():
			}
		}
	})
	return nil
}

// fit tells whether the database has been found fit.
func (i *Instance) fit() bool {
	select {
	case <-i.intake.Fit():
		return true
	default:
		return false
	}
}

// awaitFit waits until the database is fit, or ctx has ended: then it is false.
func (i *Instance) awaitFit(ctx context.Context) bool {
	select {
	case <-i.intake.Fit():
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
