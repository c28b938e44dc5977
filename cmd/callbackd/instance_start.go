package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/intake"
)

// spoolDir is empty where there is no spool: a worker-only instance has nothing
// to put into one.
func (i *instance) spoolDir() string {
	if !i.cfg.Receive {
		return ""
	}
	return i.cfg.SpoolDir
}

func (i *instance) newIntake(ctx context.Context, reg prometheus.Registerer) (err error) {
	i.intake, err = intake.New(intake.Options{
		Store: i.store, SpoolDir: i.spoolDir(), SpoolMaxBytes: i.cfg.SpoolMaxBytes, StoreTimeout: i.cfg.StoreTimeout,
		Check: i.checkDatabase, Log: i.log, Registerer: reg,
	})
	if err != nil {
		return err
	}
	return i.intake.Start(ctx)
}

// checkDatabase returns nil when the database is fit for this instance. The
// first time it brings the schema up to date, if it is to; before that, it asks
// whether the database is there, which must not take as long as a migration may.
func (i *instance) checkDatabase(ctx context.Context) error {
	if i.spoolDir() != "" {
		if err := i.awaitAnswer(ctx); err != nil {
			return err
		}
	}
	if !i.migrated {
		onWait := func(holders string) {
			i.log.Warn("the migration waits for a lock", zap.String("held_by", holders))
		}
		if err := migrateUp(ctx, i.cfg.DatabaseURL, onWait); err != nil {
			return err
		}
		i.migrated = true
	}
	return i.store.CheckSchema(ctx)
}

func (i *instance) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, i.cfg.StoreTimeout)
	defer cancel()
	return i.store.Ready(ctx)
}

// rememberAddresses has the allowlist read the remembered addresses once the
// database is fit, unless it was at the start.
func (i *instance) rememberAddresses(ctx context.Context) {
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

// startFetcher starts the worker side, or has it started as soon as the database
// is fit. The channel is closed when the start has been made or given up.
func (i *instance) startFetcher(ctx context.Context) (<-chan struct{}, error) {
	done := make(chan struct{})
	if i.fetcher == nil {
		close(done)
		return done, nil
	}
	select {
	case <-i.intake.Fit():
		close(done)
		return done, i.fetcher.Start(ctx)
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
			err := i.fetcher.Start(ctx)
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

// workerRetry is the pause after a start of the worker that failed.
const workerRetry = time.Second
