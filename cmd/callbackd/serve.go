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
			return serve(c.Context(), cfg, log)
		},
	}
}

// receiverGCPercent lets the heap of a receive-only instance grow to three times
// what it holds between two garbage collections. That is little, a few MiB, and
// collecting it at Go's usual 100 takes a tenth of the rate.
const receiverGCPercent = 200

// serve runs one instance until ctx ends.
func serve(ctx context.Context, cfg *config.Config, log *zap.Logger) error {
	if cfg.Workers == 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(receiverGCPercent)
	}
	i, err := newInstance(ctx, cfg, log)
	if err != nil {
		return err
	}
	return i.run(ctx)
}

// migrateUp brings the schema up to date; a second instance waits for the first.
func migrateUp(ctx context.Context, dsn string) error {
	m, err := store.NewMigrator(ctx, dsn)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer m.Close()
	return m.Up()
}
