package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/jumio"
	"callbackd/internal/pgserver"
	"callbackd/internal/sandbox"
)

const (
	// stopTimeout bounds the stop of the instance, and that of the sandbox.
	stopTimeout = 3 * time.Second
	// jumioAddress is one of Jumio's, from the built-in lists.
	jumioAddress = "34.202.241.227"
	// retrievalDelays are as many as callbackd's own, and shorter.
	retrievalDelays = "0s,200ms,200ms,300ms,300ms,400ms,400ms,500ms,500ms,500ms"
	// reconcileDelays are as many as callbackd's own, and shorter.
	reconcileDelays = "0s,1s,1s,2s,2s,5s,5s,10s"
)

// environment is the instance's whole environment. The sandbox plays the load
// balancer too, which says who the client is: so the address check can be seen
// at work on one machine.
func (d *demo) environment() []string {
	return []string{
		"DATABASE_URL=" + d.dsn,
		"CALLBACKD_MIGRATE_ON_START=true",
		"CALLBACKD_LISTEN=127.0.0.1:0",
		"CALLBACKD_ADMIN_LISTEN=127.0.0.1:0",
		"CALLBACKD_TRUSTED_PROXIES=127.0.0.1",
		"CALLBACKD_JUMIO_HOSTS=none", // the built-in addresses need no DNS
		"CALLBACKD_RETRIEVAL_DELAYS=" + retrievalDelays,
		"CALLBACKD_RETRIEVAL_RPS=1000",
		"CALLBACKD_SESSION_TIMEOUT=" + sessionTimeout.String(),
		"CALLBACKD_RECONCILE_GRACE=" + reconcileGrace.String(),
		"CALLBACKD_RECONCILE_DELAYS=" + reconcileDelays,
		"CALLBACKD_ERASURE_KEY=" + erasureKey,
		"CALLBACKD_SHUTDOWN_TIMEOUT=" + stopTimeout.String(),
		"JUMIO_CLIENT_ID=sandbox",
		"JUMIO_CLIENT_SECRET=sandbox",
		"JUMIO_USER_AGENT=callbackd demo/v1.0",
		"JUMIO_TOKEN_URL=" + d.sandbox.URL(),
		"JUMIO_RETRIEVAL_URL=" + d.sandbox.URL(),
		"JUMIO_ACCOUNT_URL=" + d.sandbox.URL(),
		"JUMIO_API_URL=" + d.sandbox.URL(),
		"JUMIO_STATUS_URL=" + d.sandbox.URL(),
	}
}

func (d *demo) startPostgres(ctx context.Context) (err error) {
	if d.dsn, err = config.Lookup(d.Environ, "DATABASE_URL"); err != nil {
		return err
	}
	if d.dsn != "" {
		fmt.Fprintln(d.Out, "Postgres   the database that DATABASE_URL names")
		return nil
	}
	fmt.Fprintln(d.Out, "Postgres   making a private cluster")
	began := time.Now()
	if d.private, err = pgserver.Start(ctx, pgserver.Options{}); err != nil {
		return err
	}
	d.cleanUps = append(d.cleanUps, d.private.Stop)
	d.dsn = d.private.DSN("postgres")
	fmt.Fprintf(d.Out, "Postgres   ready after %.1f s\n", time.Since(began).Seconds())
	return nil
}

// startSandbox also opens the log, a file: on the terminal it would garble the
// display.
func (d *demo) startSandbox() (err error) {
	if d.dir, err = os.MkdirTemp("", "callbackd-demo-*"); err != nil {
		return fmt.Errorf("make a directory for the log: %w", err)
	}
	file, err := os.Create(d.logPath())
	if err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	d.cleanUps = append(d.cleanUps, file.Close)
	if d.log, err = app.NewLogger(file, "info", "json"); err != nil {
		return err
	}
	if d.Seed == 0 {
		d.Seed = uint64(rand.Uint32())
	}
	d.sandbox, err = sandbox.New(sandbox.Config{
		Seed: d.Seed, Speed: speed, Intermediate: 0.3, OverallDecision: true, Attempts: strings.Count(retrievalDelays, ",") + 1,
		CallbackHeader: http.Header{"X-Forwarded-For": {jumioAddress}}, Logger: d.log.Named("sandbox"),
	})
	if err != nil {
		return err
	}
	if err := d.sandbox.Start("127.0.0.1:0"); err != nil {
		return err
	}
	d.cleanUps = append(d.cleanUps, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		return d.sandbox.Close(ctx)
	})
	fmt.Fprintf(d.Out, "Jumio      a stand-in for it, at %s\n", d.sandbox.URL())
	return nil
}

func (d *demo) logPath() string { return filepath.Join(d.dir, "callbackd.log") }

// startInstance starts callbackd with settings as an operator would give them;
// fail hears of it when it ends by itself.
func (d *demo) startInstance(ctx context.Context, fail context.CancelCauseFunc) error {
	cfg, err := config.Load(d.environment())
	if err != nil {
		return err
	}
	fmt.Fprintln(d.Out, "callbackd  bringing the schema up to date")
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	if d.instance, err = app.New(running, cfg, d.Build, d.log); err != nil {
		stop()
		return err
	}
	d.callbackURL = "http://" + d.instance.CallbackListener().Addr().String() + cfg.CallbackPath
	ended := make(chan error, 1)
	go func() {
		err := d.instance.Run(running)
		fail(err)
		ended <- err
	}()
	d.cleanUps = append(d.cleanUps, func() error {
		stop()
		return <-ended
	})
	client := app.JumioConfig(cfg)
	client.Budget = atOnce{}
	if d.jumio, err = jumio.New(client, d.log, jumio.NewMetrics(prometheus.NewRegistry())); err != nil {
		return err
	}
	d.cleanUps = append(d.cleanUps, func() error { d.jumio.Close(); return nil })
	if d.pool, err = pgxpool.New(ctx, d.dsn); err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	d.cleanUps = append(d.cleanUps, func() error { d.pool.Close(); return nil })
	if err := d.awaitSettings(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "callbackd  receiving at %s\n", d.callbackURL)
	return nil
}

// awaitSettings waits until the worker has stored the demo's short times: a verification
// started before would be asked for after callbackd's own, in 20 minutes.
func (d *demo) awaitSettings(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		var stored bool
		err := d.pool.QueryRow(ctx, `SELECT (session_timeout, grace) = ($1, $2) FROM callbackd.reconciliation`,
			sessionTimeout, reconcileGrace).Scan(&stored)
		if err != nil {
			return fmt.Errorf("read the settings of reconciliation: %w", err)
		}
		if stored {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
