package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// usageError is a command line that is wrong in itself; it exits with 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// refuseWrongUsage makes command and all below it report unknown flags, a wrong
// number of arguments, and a missing or unknown subcommand as a usageError.
func refuseWrongUsage(command *cobra.Command) {
	command.SetFlagErrorFunc(wrongUsage)
	switch accepts := command.Args; {
	case command.HasSubCommands():
		command.RunE = requireSubcommand
		command.Args = cobra.ArbitraryArgs // so that requireSubcommand sees them
	case accepts == nil:
		command.Args = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return wrongUsage(c, fmt.Errorf("surplus argument %q", args[0]))
			}
			return nil
		}
	default:
		command.Args = func(c *cobra.Command, args []string) error {
			if err := accepts(c, args); err != nil {
				return wrongUsage(c, err)
			}
			return nil
		}
	}
	for _, sub := range command.Commands() {
		refuseWrongUsage(sub)
	}
}

func requireSubcommand(c *cobra.Command, args []string) error {
	err := errors.New("missing command")
	if len(args) > 0 {
		err = fmt.Errorf("unknown command %q", args[0])
	}
	return wrongUsage(c, err)
}

// refuseHelpForNothing makes --help behind an unknown command wrong usage, which
// is told through the error that it points to: a help function returns none.
func refuseHelpForNothing(root *cobra.Command) *error {
	refused := new(error)
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		// What stood before --help, and was no command.
		if before := c.Flags().Args(); c.HasSubCommands() && len(before) > 0 {
			*refused = wrongUsage(c, fmt.Errorf("unknown command %q", before[0]))
			return
		}
		help(c, args)
	})
	return refused
}

// wrongUsage names the command, unless it is callbackd itself, and its help.
func wrongUsage(c *cobra.Command, err error) error {
	if c.HasParent() {
		err = fmt.Errorf("%s: %w", c.Name(), err)
	}
	return &usageError{fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
}

// newHelpCommand is cobra's, except that an unknown command is wrong usage.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Shows how a command is used",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			target, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return wrongUsage(c, fmt.Errorf("unknown command %q", args[len(args)-1]))
			}
			return target.Help()
		},
	}
}
