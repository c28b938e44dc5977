package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/jumio"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/tombstone"
)

const erasureVerifyHelp = `Looks again everywhere for what an order that is done has erased: in every table, by
hashing all ids, since only hashes are known; and for objects in the image store that are
not deleted yet. With the subject given once more by its flag, Jumio is asked, too, if the
order was to delete there. It changes nothing. In a large database it takes minutes.

Prints what is left by table, and exits 1 if anything is. A user reference counts only in
what is older than the erasure: a new account may have come under it. Backups, replicas'
and consumers' copies, and the write-ahead log are out of its reach.

Needs DATABASE_URL, CALLBACKD_ERASURE_KEY, CALLBACKD_USER_REFERENCE_KEY if your user
references are signed, and to ask Jumio JUMIO_CLIENT_ID, JUMIO_CLIENT_SECRET and
JUMIO_USER_AGENT.`

func newErasureVerifyCommand(p *process) *cobra.Command {
	var f subjectFlags
	verify := &cobra.Command{
		Use:   "verify ORDER",
		Short: "Looks again everywhere for what an order has erased",
		Long:  erasureVerifyHelp,
		Args:  validOrder,
		RunE: func(c *cobra.Command, args []string) error {
			again := f.named()
			if len(again) > 1 {
				return wrongUsage(c, errors.New("give at most one of --account-id, --user-reference and --workflow-execution-id"))
			}
			referenceKey, err := config.Lookup(p.environ, "CALLBACKD_USER_REFERENCE_KEY")
			if err != nil {
				return err
			}
			if _, err := config.Require(p.environ, "CALLBACKD_ERASURE_KEY"); err != nil {
				return err
			}
			return withSchema(c, p, func(db *store.DB) error {
				v := verification{p: p, db: db, results: results.New(db), order: uuid.MustParse(args[0]), referenceKey: referenceKey}
				return v.run(c.Context(), again)
			})
		},
	}
	verify.Flags().StringVar(&f.account, "account-id", "", "the account that was erased, to ask Jumio")
	verify.Flags().StringVar(&f.reference, "user-reference", "", "the user reference that was erased, to ask Jumio")
	verify.Flags().StringVar(&f.execution, "workflow-execution-id", "", "the workflow execution that was erased, to ask Jumio")
	return verify
}

// verification is a look for what is left of an order.
type verification struct {
	p            *process
	db           *store.DB
	results      *results.Store
	order        uuid.UUID
	referenceKey string
}

// run looks for what is left; again is the subject given once more, or empty.
func (v *verification) run(ctx context.Context, again []tombstone.Subject) error {
	if err := v.results.CheckErasureKey(ctx); err != nil {
		return err
	}
	order, err := v.results.GetDone(ctx, v.order)
	if err != nil {
		return err
	}
	for _, subject := range again {
		if subject.Kind == tombstone.UserReference {
			subject.ID = callback.UnsignedReference(v.referenceKey, subject.ID)
		}
		if !bytes.Equal(v.db.ErasureKey.Hash(subject), order.SubjectHash) {
			return fmt.Errorf("order %s has not erased what is given", v.order)
		}
	}
	bar := newProgress(v.p, "looking through the tables")
	left, err := v.results.Verify(ctx, v.order, v.referenceKey, bar.show)
	if err != nil {
		return err
	}
	for _, subject := range again {
		atJumio, err := v.askJumio(ctx, order, subject)
		if err != nil {
			return err
		}
		left = append(left, atJumio...)
	}
	for _, l := range left {
		if _, err := fmt.Fprintf(v.p.stdout, "left  %s  %s  %d\n", l.Where, l.What, l.Rows); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("something is left of what order %s has erased", v.order)
	}
	_, err = fmt.Fprintf(v.p.stdout, "nothing is left of order %s\n", v.order)
	return err
}

// askJumio returns what Jumio still knows.
func (v *verification) askJumio(ctx context.Context, order *results.VerifiedOrder, again tombstone.Subject) ([]results.Left, error) {
	if !order.AtJumio {
		_, err := fmt.Fprintln(v.p.stdout, "Jumio is not asked: the order was not to delete there")
		return nil, err
	}
	cfg, err := config.Jumio(v.p.environ, true, "CALLBACKD_RETRIEVAL_RPS")
	if err != nil {
		return nil, err
	}
	known := int64(0)
	err = withSharedBudget(cfg, v.db, func(client *jumio.Client) error {
		for _, id := range order.WorkflowExecutions {
			w := jumio.Workflow{ID: id}
			if again.Kind == tombstone.Account {
				w.AccountID = again.ID
			}
			there, err := knownAtJumio(ctx, client, w)
			if err != nil {
				return err
			}
			if there {
				known++
			}
		}
		return nil
	})
	if known == 0 || err != nil {
		return nil, err
	}
	return []results.Left{{Where: "at Jumio", What: "workflow executions", Rows: known}}, nil
}

// knownAtJumio asks each data center with credentials. After a deletion Jumio answers 404,
// or with details that say when they were wiped out.
func knownAtJumio(ctx context.Context, client *jumio.Client, w jumio.Workflow) (bool, error) {
	for _, place := range client.KnownDataCenters() {
		w.DataCenter = place
		body, err := client.Details(ctx, w)
		if e, ok := errors.AsType[*jumio.Error](err); ok && e.Code == jumio.CodeNotFound {
			continue
		}
		if err != nil {
			return false, err
		}
		var details struct {
			WipedOutAt string `json:"wipedOutAt"`
			Workflow   struct {
				WipedOutAt string `json:"wipedOutAt"`
			} `json:"workflow"`
		}
		_ = json.Unmarshal(body, &details) // what cannot be read does not say so
		if cmp.Or(details.WipedOutAt, details.Workflow.WipedOutAt) == "" {
			return true, nil
		}
	}
	return false, nil
}
