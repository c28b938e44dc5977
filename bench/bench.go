package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/pgserver"
)

//go:embed callback.lua
var loadScript []byte

// bench is a run of the benchmark: its programs, its Postgres, its results.
type bench struct {
	settings
	dir       string // temporary, for the files below
	callbackd string // the program, built from the tree around us
	self      string // this program, for the baselines
	script    string // the load script
	log       *os.File
	postgres  *pgserver.Server
	admin     *pgx.Conn // to the database "postgres"
	databases int       // how many were made
	loads     int       // how often wrk was run, its seed
	results   results
	failures  []error // reported once the results are written
}

// newBench builds and starts what every scenario needs.
func newBench(ctx context.Context, s settings) (_ *bench, err error) {
	b := &bench{settings: s}
	if err := b.needPrograms(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "callbackd-bench-"); err != nil {
		return nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.log, err = os.OpenFile(s.serverLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("open the servers' log: %w", err)
	}
	b.script = filepath.Join(b.dir, "callback.lua")
	if err := os.WriteFile(b.script, loadScript, 0o600); err != nil {
		return nil, fmt.Errorf("write the load script: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	b.progress("building callbackd")
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	b.progress("starting a private Postgres")
	if err := b.startPostgres(ctx); err != nil {
		return nil, err
	}
	b.results, err = b.describe(ctx)
	return b, err
}

// needPrograms reports at once what would be found missing in twenty minutes.
func (b *bench) needPrograms() error {
	if _, err := exec.LookPath("wrk"); err != nil {
		return errors.New("wrk is not installed: apt-get install wrk, or brew install wrk")
	}
	if _, err := pgserver.Find(); err != nil {
		return err
	}
	_, err := pgbenchProgram()
	return err
}

// build makes callbackd as `make build` does.
func (b *bench) build(ctx context.Context) error {
	root, err := output(ctx, "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	b.callbackd = filepath.Join(b.dir, "callbackd")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.callbackd, "./cmd/callbackd") //nolint:gosec // our own tree
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return runCommand(cmd)
}

// close stops and removes everything.
func (b *bench) close() error {
	var errs []error
	if b.admin != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = b.admin.Close(ctx) // the server goes away anyway
	}
	if b.postgres != nil {
		errs = append(errs, b.postgres.Stop())
	}
	if b.log != nil {
		errs = append(errs, b.log.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// progress says on stderr how far the benchmark is.
func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// describe says what is measured, where and how.
func (b *bench) describe(ctx context.Context) (results, error) {
	command := "make bench"
	if len(os.Args) > 1 {
		command = "go run ./bench " + strings.Join(os.Args[1:], " ")
	}
	r := results{
		Date: time.Now().UTC().Format(time.RFC3339), Command: command, Short: b.short, Rounds: b.rounds,
		RunSeconds: b.duration.Seconds(),
		Machine: machine{
			OS: runtime.GOOS + "/" + runtime.GOARCH, CPU: cpuModel(ctx), Cores: runtime.NumCPU(), Go: runtime.Version(),
		},
	}
	if err := b.admin.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&r.Machine.Postgres); err != nil {
		return r, fmt.Errorf("ask for Postgres's version: %w", err)
	}
	// wrk -v exits with 1, and without git the commit is unknown.
	usage, _ := exec.CommandContext(ctx, "wrk", "-v").CombinedOutput()
	if words := strings.Fields(string(usage)); len(words) >= 2 {
		r.Machine.Wrk = words[0] + " " + words[1]
	}
	r.Commit, _ = output(ctx, "git", "describe", "--always", "--dirty")
	return r, nil
}

// cpuModel is the processor's name, or empty where it is unknown.
func cpuModel(ctx context.Context) string {
	if runtime.GOOS == "darwin" {
		name, _ := output(ctx, "sysctl", "-n", "machdep.cpu.brand_string")
		return name
	}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// runCommand runs a program; its error holds what the program printed.
func runCommand(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, bytes.TrimSpace(out))
	}
	return nil
}

// output runs a program and returns what it prints, without white space around.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output() //nolint:gosec // programs that this package names
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
