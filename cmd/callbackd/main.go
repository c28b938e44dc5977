// Command callbackd receives Jumio's identity verification callbacks, stores
// them in Postgres, and retrieves the results and images they announce.
//
// This package holds the commands: each turns the environment, flags and signals
// into one call of a room under internal/.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // only to silence it
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"callbackd/internal/config"
	"callbackd/internal/store"
)

// Exit codes of every command.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// Exit codes of `verification create`.
const (
	exitUnknown    = 3 // whether a verification has been started
	exitIncomplete = 4 // started, but not all that follows could be done
)

func main() {
	// net/http logs unexpected bytes from a server, which may be personal data.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	// After the first signal the default behaviour is back: a second one ends the
	// process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// process is what a command uses of the process that it runs in.
type process struct {
	// environ has the form of os.Environ.
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run executes the command line args (without the program's name) until it is
// done or ctx ends, and returns the exit code. It reports a failure on stderr in
// one line, and a wrong configuration in one line per problem.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	p := &process{environ: environ, stdin: os.Stdin, stdout: stdout, stderr: stderr}
	return p.run(ctx, args)
}

func (p *process) run(ctx context.Context, args []string) int {
	root := newRootCommand(p)
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	helpErr := rejectHelpForNothing(root)
	command, err := root.ExecuteContextC(ctx)
	if err = cmp.Or(err, *helpErr); err == nil {
		return exitOK
	}
	if store.Forbidden(err) {
		err = wrongRole(err, p.environ, command.Annotations[roleNeeded])
	}
	for _, line := range errorLines(err) {
		fmt.Fprintln(p.stderr, "callbackd: "+line)
	}
	if _, wrongUsage := errors.AsType[*usageError](err); wrongUsage {
		return exitUsage
	}
	if special, ok := errors.AsType[*exitError](err); ok {
		return special.code
	}
	return exitFailure
}

// exitError is a failure with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// linesError is several failures, each with a line of its own.
type linesError struct{ errs []error }

func (e *linesError) Error() string { return errors.Join(e.errs...).Error() }

// errorLines returns err in lines for people.
func errorLines(err error) []string {
	if wrong, ok := errors.AsType[*config.Error](err); ok {
		return wrong.Lines
	}
	if several, ok := errors.AsType[*linesError](err); ok {
		var lines []string
		for _, err := range several.errs {
			lines = append(lines, errorLines(err)...)
		}
		return lines
	}
	return []string{strings.ReplaceAll(err.Error(), "\n", "; ")}
}

// roleNeeded annotates a command that does not need the rights of the schema's owner with
// the role that it needs.
const roleNeeded = "role needed"

// wrongRole names the database's role and one with the missing rights (deploy/roles.sql).
func wrongRole(err error, environ []string, needed string) error {
	needed = cmp.Or(needed, "the owner of the schema callbackd, or for anything but migrations a role with the owner's rights, such as callbackd_worker")
	dsn, _ := config.Lookup(environ, "DATABASE_URL")
	return fmt.Errorf("%w: DATABASE_URL connects as %s, which may not do this; use %s", err, config.DatabaseUser(dsn), needed)
}

// newRootCommand builds the command line from ordinary cobra commands, whose Args
// checks the arguments' values. It makes the errors for wrong usage uniform.
func newRootCommand(p *process) *cobra.Command {
	root := &cobra.Command{
		Use:           "callbackd",
		Short:         "Receives Jumio's callbacks and stores results and images in Postgres",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelpCommand())
	addGroup(root, "To deploy callbackd:", newServeCommand(p), newMigrateCommand(p), newConfigCommand(p), newHealthcheckCommand(p))
	addGroup(root, "To start verifications:", newVerificationCommand(p))
	addGroup(root, "To operate it:", newRefetchCommand(p), newRejectedCommand(p), newEventsCommand(p), newReprojectCommand(p), newJumioHealthCommand(p))
	addGroup(root, "To protect personal data:", newErasureCommand(p), newRetentionCommand(p), newImageCommand(p))
	addGroup(root, "To develop against it:", newDemoCommand(p), newSandboxCommand(p), newSignCommand(p))
	addGroup(root, "To learn more:", newVersionCommand(p))
	root.SetHelpCommandGroupID("To learn more:")
	rejectWrongUsage(root)
	return root
}

// addGroup adds commands that the same people need, under a title.
func addGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range commands {
		c.GroupID = title
		root.AddCommand(c)
	}
}
