package main

import (
	"github.com/spf13/cobra"

	"callbackd/internal/app"
	"callbackd/internal/config"
)

func newHealthcheckCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Exits 0 when the local instance is ready (for a container's HEALTHCHECK)",
		Long:  "Asks /readyz at CALLBACKD_ADMIN_LISTEN on this machine and exits 0 when the answer, within 3 s, is 200.",
		RunE: func(c *cobra.Command, _ []string) error {
			listen, err := config.Lookup(p.environ, "CALLBACKD_ADMIN_LISTEN")
			if err != nil {
				return err
			}
			return app.CheckReady(c.Context(), listen)
		},
	}
}
