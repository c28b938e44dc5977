package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// usageError is a command line that is wrong in itself; it exits with 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// rejectWrongUsage makes command and all its subcommands report unknown flags,
// missing, unexpected or wrong arguments, and a missing or unknown subcommand as
// a usageError. How many arguments a command takes is read from its Use.
func rejectWrongUsage(command *cobra.Command) {
	command.SetFlagErrorFunc(wrongUsage)
	if command.HasSubCommands() && !command.Runnable() {
		command.RunE = requireSubcommand
		command.Args = cobra.ArbitraryArgs // so that requireSubcommand sees them
	} else {
		check := command.Args
		command.Args = func(c *cobra.Command, args []string) error {
			err := countArguments(c.Use, args)
			if err == nil && check != nil {
				err = check(c, args)
			}
			if err != nil {
				return wrongUsage(c, err)
			}
			return nil
		}
	}
	for _, sub := range command.Commands() {
		rejectWrongUsage(sub)
	}
}

// countArguments wants the arguments that use, such as "replay ID...", names.
func countArguments(use string, args []string) error {
	names := strings.Fields(use)[1:]
	for i, name := range names {
		if i >= len(args) && !strings.HasPrefix(name, "[") {
			return errors.New("missing argument " + name)
		}
	}
	if n := len(names); len(args) > n && !strings.Contains(use, "...") {
		return fmt.Errorf("unexpected argument %q", args[n])
	}
	return nil
}

func requireSubcommand(c *cobra.Command, args []string) error {
	err := errors.New("missing command")
	if len(args) > 0 {
		err = fmt.Errorf("unknown command %q", args[0])
	}
	return wrongUsage(c, err)
}

// rejectHelpForNothing makes --help after an unknown command wrong usage. A help
// function returns no error, so it is put where the pointer leads.
func rejectHelpForNothing(root *cobra.Command) *error {
	rejected := new(error)
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		// What came before --help, and was no command.
		if before := c.Flags().Args(); c.HasSubCommands() && len(before) > 0 {
			*rejected = wrongUsage(c, fmt.Errorf("unknown command %q", before[0]))
			return
		}
		help(c, args)
	})
	return rejected
}

// wrongUsage names the command, unless it is callbackd itself, and its help.
func wrongUsage(c *cobra.Command, err error) error {
	if c.HasParent() {
		err = fmt.Errorf("%s: %w", c.Name(), err)
	}
	return &usageError{fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
}

// wrongLines is wrong usage in several ways, each with a line of its own.
func wrongLines(c *cobra.Command, problems []string) error {
	errs := make([]error, len(problems))
	for i, problem := range problems {
		errs[i] = fmt.Errorf("%s: %s", c.Name(), problem)
	}
	return &usageError{&linesError{errs}}
}

// newHelpCommand is cobra's, except that an unknown command is wrong usage.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Shows how to use a command",
		RunE: func(c *cobra.Command, args []string) error {
			target, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return wrongUsage(c, fmt.Errorf("unknown command %q", args[len(args)-1]))
			}
			return target.Help()
		},
	}
}
