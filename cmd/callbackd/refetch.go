package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/fetcher"
	"callbackd/internal/store"
)

func newRefetchCommand(p *process) *cobra.Command {
	var accountID string
	refetch := &cobra.Command{
		Use:   "refetch WORKFLOW_EXECUTION_ID...",
		Short: "Queues the retrieval again, from attempt 1",
		Long: `Queues the retrieval of workflow executions again, from attempt 1, whatever their
state; a running worker does the work. If one of them is unknown, none is queued. A
retrieval that gets nothing leaves the earlier result as it was.

Jumio is asked under the known account; if that is a 404, under every other account
that a callback has named, and without one. Use --account-id if every callback has
named the wrong account.

Needs DATABASE_URL, and CALLBACKD_RETRIEVAL_DELAYS if it is set for the workers.`,
		RunE: func(c *cobra.Command, ids []string) error {
			if accountID != "" && !callback.ValidID(accountID) {
				return wrongUsage(c, fmt.Errorf("--account-id: %q is not an account id", accountID))
			}
			delays, err := config.RetrievalDelays(p.environ)
			if err != nil {
				return err
			}
			return withSchema(c, p, func(db *store.DB) error {
				if err := fetcher.Refetch(c.Context(), db, delays, ids, accountID); err != nil {
					return err
				}
				_, err := fmt.Fprintf(p.stdout, "queued %d\n", len(ids))
				return err
			})
		},
	}
	refetch.Flags().StringVar(&accountID, "account-id", "", "ask Jumio under this account")
	return refetch
}
