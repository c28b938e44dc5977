package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"callbackd/internal/config"
)

func newConfigCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Prints the effective configuration, secrets shown as [redacted]",
		Long:  "Prints the effective configuration, one NAME=value a line, secrets shown as [redacted].\nFails as `callbackd serve` would when the configuration is wrong.\n\n" + config.Usage(),
		RunE: func(*cobra.Command, []string) error {
			c, err := config.Load(p.environ)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.stdout, strings.Join(c.Effective(), "\n"))
			return err
		},
	}
}
