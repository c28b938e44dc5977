package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"callbackd/internal/app"
	"callbackd/internal/pgserver"
	"callbackd/internal/sandbox"
)

const demoHelp = `Shows the whole in under a minute, in one process: Postgres, a Jumio stand-in
(callbackd sandbox) and callbackd serve. Twenty journeys of invented people are
sent, received, retrieved and shown, some of them made difficult, and one
callback that is forged. Then it stays up to be looked into, until Ctrl-C.

Postgres is a private cluster, made with the PostgreSQL programs of this machine
and removed at the end in any case. With DATABASE_URL (or DATABASE_URL_FILE) set,
that database is migrated and filled instead, and the rows stay: give the demo a
database of its own, because retrievals that wait there are made too, from the
stand-in. No other variable of the environment counts.`

// demo is one run of the demo; it is not used twice.
type demo struct {
	environ  []string
	out      io.Writer
	journeys []demoJourney
	once     bool
	seed     uint64
	timeout  time.Duration // for the journeys, from the first callback on

	dsn          string
	private      *pgserver.Server // nil with DATABASE_URL
	logPath      string
	log          *zap.Logger
	sandbox      *sandbox.Sandbox
	pool         *pgxpool.Pool
	service      *app.Instance
	callbackPath string
	cleanUps     []func() error // in the order of the starts
}

func newDemoCommand(p *process) *cobra.Command {
	d := &demo{environ: p.environ, out: p.stdout, journeys: demoJourneys}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Shows the whole: Postgres, a Jumio stand-in and callbackd at work",
		Long:  demoHelp,
		Example: `  callbackd demo
  callbackd demo --once
  DATABASE_URL=postgres://me@localhost/demo callbackd demo`,
		RunE: func(c *cobra.Command, _ []string) error {
			if d.timeout <= 0 {
				return wrongUsage(c, errors.New("--timeout must be above zero"))
			}
			return d.run(c.Context())
		},
	}
	cmd.Flags().BoolVar(&d.once, "once", false, "end when all journeys have arrived, with exit code 1 if one has not")
	cmd.Flags().DurationVar(&d.timeout, "timeout", 45*time.Second, "how long the journeys may take to arrive")
	cmd.Flags().Uint64Var(&d.seed, "seed", 0, "decides ids, people and images; 0 draws one")
	return cmd
}

// errNotArrived says that the demo did not show what it should.
var errNotArrived = errors.New("not everything arrived as it should")

// run shows everything and cleans up. Ctrl-C is how the demo is meant to end:
// no failure, unless --once wanted a result.
func (d *demo) run(ctx context.Context) error {
	err := d.show(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(d.out, "\nstopping")
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, errNotArrived) {
		err = nil
		if d.once {
			err = errors.New("interrupted before all journeys had arrived")
		}
	}
	for _, cleanUp := range slices.Backward(d.cleanUps) {
		// callbackd's own end may be what err tells already.
		if failure := cleanUp(); failure != nil && !errors.Is(err, failure) {
			err = errors.Join(err, failure)
		}
	}
	switch {
	case d.logPath == "":
		return err
	case err == nil:
		return os.Remove(d.logPath)
	default:
		return fmt.Errorf("%w; the log is %s", err, d.logPath)
	}
}

// show starts everything, tells how the journeys arrive, and waits for Ctrl-C,
// unless it is to run once.
func (d *demo) show(ctx context.Context) error {
	// ctx ends with callbackd, too, which is not meant to end before us.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	if err := d.startPostgres(ctx); err != nil {
		return err
	}
	if err := d.startSandbox(); err != nil {
		return err
	}
	if err := d.startService(ctx, fail); err != nil {
		return err
	}
	err := d.travel(ctx)
	if d.once || err != nil && !errors.Is(err, errNotArrived) {
		return err
	}
	if err != nil {
		fmt.Fprintf(d.out, "\n%v\n", err)
	}
	d.printFurther()
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}
