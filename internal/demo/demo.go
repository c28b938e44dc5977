// Package demo shows callbackd at work: it starts Postgres, the sandbox and one
// instance, starts journeys through Jumio's API, sends a forged callback, prints what
// the database then holds, and has one person erased.
//
// It calls jumio.expect and jumio.request_erasure and reads the views, as a service
// would, and nothing else.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"callbackd/internal/app"
	"callbackd/internal/jumio"
	"callbackd/internal/pgserver"
	"callbackd/internal/sandbox"
)

// Options say what is shown, and where.
type Options struct {
	// Environ has the form of os.Environ. Only DATABASE_URL, NO_COLOR, TERM and
	// COLORTERM count.
	Environ []string
	Out     io.Writer
	// Journeys are Journeys() when empty.
	Journeys []Journey
	// Once ends the demo when all journeys have arrived.
	Once bool
	// Seed decides ids, people and images; 0 draws one.
	Seed uint64
	// Timeout bounds the journeys, from the first callback on.
	Timeout time.Duration
	// Build is what the instance says of itself.
	Build app.Build
}

// demo is one run of the demo.
type demo struct {
	Options
	terminal terminal

	dsn         string
	private     *pgserver.Server // nil with DATABASE_URL
	dir         string           // of the log and of the image
	log         *zap.Logger
	sandbox     *sandbox.Sandbox
	instance    *app.Instance
	callbackURL string
	jumio       *jumio.Client // a service's own, which starts journeys
	pool        *pgxpool.Pool
	cleanUps    []func() error // in the order of the starts
}

// errNotArrived says that the demo did not show what it should.
var errNotArrived = errors.New("not everything arrived as it should")

// Run shows everything and cleans up. Ctrl-C, which ends ctx, is how the demo is
// meant to end: no failure, unless Once wanted a result.
func Run(ctx context.Context, o Options) error {
	if len(o.Journeys) == 0 {
		o.Journeys = Journeys()
	}
	d := &demo{Options: o, terminal: newTerminal(o.Out, o.Environ)}
	return d.run(ctx)
}

func (d *demo) run(ctx context.Context) error {
	err := d.show(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(d.Out, "\nstopping")
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, errNotArrived) {
		err = nil
		if d.Once {
			err = errors.New("interrupted before all journeys had arrived")
		}
	}
	for _, cleanUp := range slices.Backward(d.cleanUps) {
		// err may already be how callbackd ended.
		if failure := cleanUp(); failure != nil && !errors.Is(err, failure) {
			err = errors.Join(err, failure)
		}
	}
	switch {
	case d.dir == "":
		return err
	case err == nil:
		return os.RemoveAll(d.dir)
	default:
		return fmt.Errorf("%w; the log is %s", err, d.logPath())
	}
}

// show starts everything, shows how the journeys arrive, and waits for Ctrl-C
// unless it is to run once.
func (d *demo) show(ctx context.Context) error {
	// ctx also ends with the instance, which is not meant to end before us.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	if err := d.startPostgres(ctx); err != nil {
		return err
	}
	if err := d.startSandbox(); err != nil {
		return err
	}
	if err := d.startInstance(ctx, fail); err != nil {
		return err
	}
	err := d.travel(ctx)
	if d.Once || err != nil && !errors.Is(err, errNotArrived) {
		return err
	}
	if err != nil {
		fmt.Fprintf(d.Out, "\n%v\n", err)
	}
	d.printFurther()
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}
