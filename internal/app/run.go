package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Run serves until ctx ends or a listener fails, then stops in order.
func (i *Instance) Run(ctx context.Context) error {
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
	for _, l := range i.listeners {
		running.Go(func() {
			if err := l.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve on the %s listener: %w", l.name, err)
			}
		})
		i.log.Info("listening", zap.String("listener", l.name), zap.Stringer("address", l.Addr()))
	}
	running.Go(func() { i.intake.Run(background) })
	waiting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var starting sync.WaitGroup
	err := i.startWorker(waiting, &starting)
	if err == nil {
		i.log.Info("started", zap.String("version", i.build.Version), zap.Bool("receive", i.cfg.Receive), zap.Int("workers", i.cfg.Workers))
		i.tellReady()
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	giveUp()
	starting.Wait()
	err = errors.Join(err, i.stop(context.WithoutCancel(ctx)))
	endBackground()
	running.Wait()
	i.close()
	if err == nil {
		i.log.Info("stopped")
	}
	return err
}

// stop ends the instance within CALLBACKD_SHUTDOWN_TIMEOUT: it turns readiness
// off, gives the load balancer a moment to notice, then drains requests and stops
// the worker at the same time. The admin listener goes last, so that the stop can
// be watched.
func (i *Instance) stop(ctx context.Context) error {
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
	if i.worker != nil {
		stopping.Go(func() { workerErr = i.worker.stop(ctx) })
	}
	stopping.Wait()
	i.stopTracer(ctx)
	return errors.Join(drainErr, workerErr, i.admin.shutdown(ctx))
}

// drain keeps receiving for a fifth of the shutdown timeout, while /readyz says
// that the instance is going away, and then until the last response is sent.
func (i *Instance) drain(ctx context.Context) error {
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

// close releases whatever New has made so far.
func (i *Instance) close() {
	for _, l := range i.listeners {
		_ = l.Close() // after Run, its server has closed it already
	}
	if i.worker != nil {
		i.worker.jumio.Close()
		i.worker.budget.Close()
	}
	i.stopTracer(context.Background()) // after Run, this does nothing
	if i.intake != nil {
		if err := i.intake.Close(); err != nil {
			i.log.Error("could not close the spool", zap.Error(err))
		}
	}
	if i.db != nil {
		i.receiving.Close()
		i.db.Close()
	}
}
