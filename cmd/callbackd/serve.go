package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"callbackd/internal/config"
	"callbackd/internal/store"
)

func newServeCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Receives callbacks and retrieves their results",
		Long: `Receives callbacks and runs the retrieval worker, until SIGTERM or SIGINT.
CALLBACKD_WORKERS=0 makes a receive-only instance, CALLBACKD_RECEIVE=false a
worker-only one. All settings come from the environment:

` + config.Usage(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(p.environ)
			if err != nil {
				return err
			}
			log, err := newLogger(p.stderr, cfg.LogLevel, cfg.LogFormat)
			if err != nil {
				return err
			}
			tuneCollector(cfg)
			return serve(c.Context(), cfg, log)
		},
	}
}

const (
	// receiverGCPercent lets the heap of a receive-only instance grow to three
	// times what it holds between two garbage collections. That is little, a few
	// MiB, and collecting it at Go's usual 100 takes a tenth of the rate.
	receiverGCPercent = 200
	// receiverMemory, in bytes, is several times what receiving needs.
	receiverMemory = 160 << 20
)

// tuneCollector sets when garbage is collected. The memory limit is a soft one:
// where strangers hold many connections, collecting more often keeps that heap
// from growing to three times its size, too. GOGC and GOMEMLIMIT go before both.
func tuneCollector(cfg *config.Config) {
	if cfg.Workers == 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(receiverGCPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// An image is in memory whole, and once more while its predecessor is garbage.
		debug.SetMemoryLimit(receiverMemory + 2*int64(cfg.Workers)*cfg.MaxImageBytes)
	}
}

// serve runs one instance until ctx ends.
func serve(ctx context.Context, cfg *config.Config, log *zap.Logger) error {
	i, err := newInstance(ctx, cfg, log)
	if err != nil {
		return err
	}
	i.supervised = true
	return i.run(ctx)
}

// migrateUp brings the schema up to date; a second instance waits for the first.
func migrateUp(ctx context.Context, dsn string, onWait func(holders string)) error {
	m, err := store.NewMigrator(ctx, store.MigratorOptions{DSN: dsn, OnWait: onWait})
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer m.Close()
	return m.Up(ctx)
}
