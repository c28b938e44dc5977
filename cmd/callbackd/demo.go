package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"callbackd/internal/demo"
)

const demoHelp = `Shows callbackd at work, in one process: Postgres, a Jumio stand-in (callbackd
sandbox) and callbackd serve. Twenty verifications of invented people are started
over Jumio's API, expected, received, retrieved and shown. Some of them are made
difficult; the callbacks of two are lost, and callbackd finds out by asking. One
forged callback is rejected, and one person is erased, at the stand-in too. Then
it stays up to be looked into, until Ctrl-C.

Postgres is a private cluster, made with the PostgreSQL programs of this machine
and removed at the end in any case. With DATABASE_URL (or DATABASE_URL_FILE) set,
that database is migrated and filled instead, and the rows stay. Give the demo a
database of its own: retrievals that are pending there are made too, from the
stand-in. Otherwise only NO_COLOR, TERM and COLORTERM of the environment count.`

func newDemoCommand(p *process) *cobra.Command {
	o := demo.Options{Environ: p.environ, Out: p.stdout, Build: thisBuild()}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Shows Postgres, a Jumio stand-in and callbackd at work",
		Long:  demoHelp,
		Example: `  callbackd demo
  callbackd demo --once
  DATABASE_URL=postgres://me@localhost/demo callbackd demo`,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Timeout <= 0 {
				return wrongUsage(c, errors.New("--timeout must be above zero"))
			}
			return demo.Run(c.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Once, "once", false, "end when all journeys have arrived, with exit code 1 if one has not")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", 45*time.Second, "how long the journeys may take to arrive")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 0, "decides ids, people and images; 0 draws one")
	return cmd
}
