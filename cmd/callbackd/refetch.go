package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"callbackd/internal/config"
	"callbackd/internal/fetcher"
	"callbackd/internal/store"
)

func newRefetchCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "refetch WORKFLOW_EXECUTION_ID...",
		Short: "Queues the retrieval again, from attempt 1",
		Long: `Queues the retrieval of workflow executions again, from attempt 1, whatever
their state; a running worker does the work. If one of them is unknown, none is
queued. Needs DATABASE_URL, and CALLBACKD_RETRIEVAL_DELAYS where it is set for
the workers.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, ids []string) error {
			delays, err := config.RetrievalDelays(p.environ)
			if err != nil {
				return err
			}
			return withSchema(c, p, func(s *store.Store) error {
				if err := fetcher.Refetch(c.Context(), s, delays, ids); err != nil {
					return err
				}
				_, err := fmt.Fprintf(p.stdout, "queued %d\n", len(ids))
				return err
			})
		},
	}
}
