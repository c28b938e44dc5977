// Command bench measures callbackd against the alternatives, in one run on one
// machine: load generator, server and Postgres share it.
//
// It builds callbackd and starts it as its users would, beside baseline servers
// that are the code one would write instead (baseline.go, bareloop.go), each on
// a fresh database of a private Postgres. Runs are interleaved, so that what
// the machine does at the moment hits all of them alike, and medians are taken.
// After every run the rows are counted: an answer of 200 without its row, or
// any other answer, fails the whole benchmark.
//
// It prints tables, and writes the same as JSON, with a chart. What is worth
// comparing are the ratios within one run; README.md says how to read them.
//
// It looks at callbackd from outside: of its packages it imports only the one
// that starts a private Postgres.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// run is the driver, or, in the processes that the driver starts, a baseline.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "baseline" {
		return runBaseline(ctx, args[1:])
	}
	s, err := parseSettings(args, os.Stderr)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, s)
	if err != nil {
		return err
	}
	err = b.runAll(ctx)
	return errors.Join(err, b.close())
}

// settings are the flags, and what follows from them.
type settings struct {
	extent
	short     bool
	only      *regexp.Regexp
	partial   bool   // not all that a full run measures
	out       string // a directory
	serverLog string // a file
}

// extent is how much is measured.
type extent struct {
	rounds       int
	duration     time.Duration // of one run, in whole seconds
	fillRows     int           // callbacks stored before the growth scenario
	promoteFor   time.Duration // how long the promotion scenario receives
	workflows    int           // retrieved in one run
	bigWorkflows int           // retrieved with images of 10 MiB
	executions   int           // workflow executions stored before the questions
}

var (
	fullExtent  = extent{5, 6 * time.Second, 10_000_000, time.Minute, 1000, 40, 5_000_000}
	shortExtent = extent{1, 2 * time.Second, 1_000_000, 10 * time.Second, 150, 12, 1_000_000}
)

func parseSettings(args []string, usage io.Writer) (settings, error) {
	var s settings
	var only string
	var rounds, stored, executions int
	var duration time.Duration
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.BoolVar(&s.short, "short", false, "one round of short runs, less data: about two minutes without queries")
	flags.IntVar(&rounds, "rounds", 0, "interleaved rounds of runs (default 5, short 1)")
	flags.DurationVar(&duration, "duration", 0, "of one run, in whole seconds (default 6s, short 2s)")
	flags.IntVar(&stored, "stored", 0, "callbacks stored in the growth scenario, a power of ten of a million (default 10000000, short 1000000); 100000000 takes 50 GB")
	flags.IntVar(&executions, "executions", 0, "workflow executions that the questions are asked of, at 7 KB each (default 5000000, short 1000000)")
	flags.StringVar(&only, "only", "", "`regexp` of the scenarios to run: receive, answer, growth, promotion, retrieval, images, stores, start, queries, erasure, retention")
	flags.StringVar(&s.out, "out", filepath.Join("bench", "results"), "`directory` for latest.json, latest.md and latest.svg; partial.* with -short or -only")
	flags.StringVar(&s.serverLog, "server-log", os.DevNull, "`file` that the servers' log goes to")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var err error
	if s.only, err = regexp.Compile(only); err != nil {
		return s, fmt.Errorf("-only: %w", err)
	}
	s.partial = s.short || only != ""
	s.extent = fullExtent
	if s.short {
		s.extent = shortExtent
	}
	s.rounds, s.duration, s.fillRows = cmp.Or(rounds, s.rounds), cmp.Or(duration, s.duration), cmp.Or(stored, s.fillRows)
	s.executions = cmp.Or(executions, s.executions)
	if s.executions < fewExecutions {
		return s, fmt.Errorf("want at least %d workflow executions", fewExecutions)
	}
	if s.rounds < 0 || s.duration < time.Second || s.duration%time.Second != 0 {
		return s, errors.New("want a positive number of rounds and a duration of whole seconds")
	}
	return s, nil
}

// scenario is one part of the benchmark; it fills in results.
type scenario struct {
	name string
	run  func(*bench, context.Context) error
}

var scenarios = []scenario{
	{"receive", (*bench).receive},
	{"answer", (*bench).answer},
	{"growth", (*bench).growth},
	{"promotion", (*bench).promotion},
	{"retrieval", (*bench).retrieval},
	{"images", (*bench).images},
	{"stores", (*bench).stores},
	{"start", (*bench).start},
	{"queries", (*bench).queries},
	{"erasure", (*bench).erasure},
	{"retention", (*bench).retention},
}

// runAll runs the selected scenarios, and reports.
func (b *bench) runAll(ctx context.Context) error {
	began := time.Now()
	for _, s := range scenarios {
		if !b.only.MatchString(s.name) {
			continue
		}
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	b.results.Seconds = time.Since(began).Seconds()
	b.results.print(os.Stdout)
	name := "latest"
	if b.partial {
		name = "partial"
	}
	return errors.Join(append(b.failures, b.results.write(b.out, name))...)
}
