package main

import (
	"github.com/spf13/cobra"

	"callbackd/internal/app"
	"callbackd/internal/config"
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
			return app.Run(c.Context(), cfg, thisBuild(), p.stderr)
		},
	}
}
