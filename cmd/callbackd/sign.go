package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"callbackd/internal/callback"
	"callbackd/internal/config"
)

func newSignCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "sign USER_REFERENCE",
		Short: "Prints the signed userReference to give to Jumio when an account is created",
		Long: `Prints the signed userReference to give to Jumio when an account is created:
at most 100 characters, Jumio's limit. Needs CALLBACKD_USER_REFERENCE_KEY (or
CALLBACKD_USER_REFERENCE_KEY_FILE), the same as the receiving instances.
Put -- before a reference that begins with a dash.`,
		Example: "  callbackd sign customer-4711",
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := config.Require(p.environ, "CALLBACKD_USER_REFERENCE_KEY")
			if err != nil {
				return err
			}
			signed, err := callback.SignUserReference(key, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.stdout, signed)
			return err
		},
	}
}
