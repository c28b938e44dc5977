package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/pgserver"
	"callbackd/internal/sandbox"
	"callbackd/internal/store"
)

const (
	// demoShutdown bounds the stop of callbackd, and that of the sandbox.
	demoShutdown = 3 * time.Second
	// demoJumioAddress is one of Jumio's, from the built-in lists.
	demoJumioAddress = "34.202.241.227"
	// demoDelays are as many as callbackd's own, and shorter.
	demoDelays = "0s,200ms,200ms,300ms,300ms,400ms,400ms,500ms,500ms,500ms"
)

// demoEnvironment is callbackd's whole environment. The stand-in plays the load
// balancer too, which tells who the client is: that is how the address check
// can be seen at work on one machine.
func demoEnvironment(dsn, sandboxURL string) []string {
	return []string{
		"DATABASE_URL=" + dsn,
		"CALLBACKD_LISTEN=127.0.0.1:0",
		"CALLBACKD_ADMIN_LISTEN=127.0.0.1:0",
		"CALLBACKD_TRUSTED_PROXIES=127.0.0.1",
		"CALLBACKD_JUMIO_HOSTS=none", // the built-in addresses need no DNS
		"CALLBACKD_RETRIEVAL_DELAYS=" + demoDelays,
		"CALLBACKD_RETRIEVAL_RPS=1000",
		"CALLBACKD_SHUTDOWN_TIMEOUT=" + demoShutdown.String(),
		"JUMIO_CLIENT_ID=sandbox",
		"JUMIO_CLIENT_SECRET=sandbox",
		"JUMIO_USER_AGENT=callbackd demo/v1.0",
		"JUMIO_TOKEN_URL=" + sandboxURL,
		"JUMIO_RETRIEVAL_URL=" + sandboxURL,
	}
}

func (d *demo) startPostgres(ctx context.Context) (err error) {
	if d.dsn, err = config.Lookup(d.environ, "DATABASE_URL"); err != nil {
		return err
	}
	began, what := time.Now(), "the database that DATABASE_URL names"
	if d.dsn == "" {
		fmt.Fprintln(d.out, "Postgres   making a private cluster")
		if d.private, err = pgserver.Start(ctx, pgserver.Options{}); err != nil {
			return err
		}
		d.cleanUps = append(d.cleanUps, d.private.Stop)
		d.dsn, what = d.private.DSN("postgres"), "the cluster"
	}
	if err := store.MigrateUp(ctx, store.MigratorOptions{DSN: d.dsn}); err != nil {
		return err
	}
	if d.pool, err = pgxpool.New(ctx, d.dsn); err != nil {
		return fmt.Errorf("connect to the demo's database: %w", err)
	}
	d.cleanUps = append(d.cleanUps, func() error { d.pool.Close(); return nil })
	fmt.Fprintf(d.out, "Postgres   %s is migrated, after %.1f s\n", what, time.Since(began).Seconds())
	return nil
}

// startSandbox also opens the log, a file: on the terminal it would garble
// the display.
func (d *demo) startSandbox() error {
	file, err := os.CreateTemp("", "callbackd-demo-*.log")
	if err != nil {
		return fmt.Errorf("make the log file: %w", err)
	}
	d.logPath = file.Name()
	d.cleanUps = append(d.cleanUps, file.Close)
	if d.log, err = app.NewLogger(file, "info", "json"); err != nil {
		return err
	}
	if d.seed == 0 {
		d.seed = uint64(rand.Uint32())
	}
	d.sandbox, err = sandbox.New(sandbox.Config{
		Seed: d.seed, Intermediate: 0.3, Attempts: strings.Count(demoDelays, ",") + 1, Logger: d.log.Named("sandbox"),
		CallbackHeader: http.Header{"X-Forwarded-For": {demoJumioAddress}},
	})
	if err != nil {
		return err
	}
	if err := d.sandbox.Start("127.0.0.1:0"); err != nil {
		return err
	}
	d.cleanUps = append(d.cleanUps, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), demoShutdown)
		defer cancel()
		return d.sandbox.Close(ctx)
	})
	fmt.Fprintf(d.out, "Jumio      a stand-in for it, at %s\n", d.sandbox.URL())
	return nil
}

// startService starts callbackd with settings as an operator would give them;
// fail hears of it when it ends by itself.
func (d *demo) startService(ctx context.Context, fail context.CancelCauseFunc) error {
	cfg, err := config.Load(demoEnvironment(d.dsn, d.sandbox.URL()))
	if err != nil {
		return err
	}
	d.callbackPath = cfg.CallbackPath
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	if d.service, err = app.New(ctx, cfg, thisBuild(), d.log); err != nil {
		stop()
		return err
	}
	ended := make(chan error, 1)
	go func() {
		err := d.service.Run(ctx)
		fail(err)
		ended <- err
	}()
	d.cleanUps = append(d.cleanUps, func() error {
		stop()
		return <-ended
	})
	fmt.Fprintf(d.out, "callbackd  receiving at %s\n", d.callbackURL())
	return nil
}

func (d *demo) callbackURL() string {
	return "http://" + d.service.CallbackListener().Addr().String() + d.callbackPath
}

func (d *demo) metricsURL() string {
	return "http://" + d.service.AdminListener().Addr().String() + "/metrics"
}
