package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/jumio"
	"callbackd/internal/reconciler"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

const fetchHelp = `Asks Jumio now for the status of a verification, which callbackd may never have heard of,
and prints it. A final status that is news is taken in like a callback that was missed:
its retrieval is queued, for a running worker. One that is not final is only printed.

Without --account-id and --data-center, Jumio is asked where callbacks or jumio.expect say
that it is; if nobody has said, in JUMIO_DATA_CENTER, or in each data center with
credentials until one knows it. Exits 1 if Jumio does not know it, and leaves nothing.

Needs DATABASE_URL with a worker's role, JUMIO_CLIENT_ID, JUMIO_CLIENT_SECRET and
JUMIO_USER_AGENT, and CALLBACKD_RETRIEVAL_DELAYS if it is set for the workers.`

func newFetchCommand(p *process) *cobra.Command {
	var at jumio.Workflow
	fetch := &cobra.Command{
		Use:     "fetch WORKFLOW_EXECUTION_ID",
		Short:   "Asks Jumio for a verification now, and takes in what it says",
		Long:    fetchHelp,
		Example: `  callbackd verification fetch 22222222-aaaa-bbbb-cccc-dddddddddddd --data-center emea-1`,
		RunE: func(c *cobra.Command, args []string) error {
			at.ID = args[0]
			if err := checkPlace(at); err != nil {
				return wrongUsage(c, err)
			}
			cfg, err := config.Jumio(p.environ, true, "DATABASE_URL", "JUMIO_DATA_CENTER", "CALLBACKD_RETRIEVAL_DELAYS", "CALLBACKD_RETRIEVAL_RPS")
			if err != nil {
				return err
			}
			return withSchema(c, p, func(db *store.DB) error {
				return withSharedBudget(cfg, db, func(client *jumio.Client) error { return fetchOne(c.Context(), p, db, client, cfg, at) })
			})
		},
	}
	fetch.Flags().StringVar(&at.AccountID, "account-id", "", "ask under this account")
	fetch.Flags().StringVar(&at.DataCenter, "data-center", "", "ask there: "+strings.Join(jumio.DataCenters(), ", "))
	return fetch
}

func checkPlace(at jumio.Workflow) error {
	switch {
	case !callback.ValidID(at.ID):
		return fmt.Errorf("%q is not a workflow execution's id", at.ID)
	case at.AccountID != "" && !callback.ValidID(at.AccountID):
		return fmt.Errorf("--account-id: %q is not an account id", at.AccountID)
	case at.DataCenter != "" && !slices.Contains(jumio.DataCenters(), at.DataCenter):
		return fmt.Errorf("--data-center: %q is none of %s", at.DataCenter, strings.Join(jumio.DataCenters(), ", "))
	}
	return nil
}

func fetchOne(ctx context.Context, p *process, db *store.DB, client *jumio.Client, cfg *config.Config, at jumio.Workflow) error {
	status, err := reconciler.Fetch(ctx, db, client, cfg.RetrievalDelays, at, cfg.DataCenter)
	if e, ok := errors.AsType[*jumio.Error](err); ok && e.Code == jumio.CodeNotFound {
		return errors.New("no such workflow execution at Jumio where it was asked; --data-center and --account-id say where else to ask")
	}
	if errors.Is(err, results.ErrErased) {
		return errors.New("it is erased")
	}
	if err != nil {
		return err
	}
	quoted := strconv.Quote(status) // it may be any text
	_, err = fmt.Fprintln(p.stdout, quoted[1:len(quoted)-1])
	return err
}
