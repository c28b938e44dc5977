package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/tombstone"
)

func newErasureCommand(p *process) *cobra.Command {
	erasure := &cobra.Command{
		Use:   "erasure",
		Short: "Erases a person or a verification, and shows the receipt",
		Long: `Orders that a person or a verification is erased. A running worker carries the order
out: at Jumio, if that is asked for, then in every table and in the image store. What
comes later of the erased is answered with 200, counted, and deleted.`,
	}
	erasure.AddCommand(newErasureOrderCommand(p), newErasureListCommand(p), newErasureShowCommand(p), newErasureVerifyCommand(p),
		newHoldCommand(p), newReleaseCommand(p), newErasureExportCommand(p), newErasureReplayCommand(p))
	return erasure
}

// subjectFlags name what is to be erased.
type subjectFlags struct{ account, reference, execution string }

func (f *subjectFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.account, "account-id", "", "an account with all its workflow executions")
	c.Flags().StringVar(&f.reference, "user-reference", "", "a person's accounts and workflow executions; without our signature")
	c.Flags().StringVar(&f.execution, "workflow-execution-id", "", "one workflow execution")
}

// named returns the subjects whose flags are set.
func (f *subjectFlags) named() (named []tombstone.Subject) {
	for _, s := range []tombstone.Subject{{Kind: tombstone.Account, ID: f.account}, {Kind: tombstone.UserReference, ID: f.reference}, {Kind: tombstone.WorkflowExecution, ID: f.execution}} {
		if s.ID != "" {
			named = append(named, s)
		}
	}
	return named
}

// subject wants exactly one of the flags.
func (f *subjectFlags) subject() (tombstone.Subject, error) {
	named := f.named()
	switch {
	case len(named) != 1:
		return tombstone.Subject{}, errors.New("name one of --account-id, --user-reference and --workflow-execution-id")
	case named[0].Kind != tombstone.UserReference && !callback.ValidID(named[0].ID):
		return tombstone.Subject{}, fmt.Errorf("the %s is not an id of Jumio's: 1 to 64 characters of A-Z a-z 0-9 _ -", strings.ReplaceAll(string(named[0].Kind), "_", " "))
	case len(named[0].ID) > 1024:
		return tombstone.Subject{}, errors.New("--user-reference has more than 1024 bytes")
	}
	return named[0], nil
}

// maxReason is the length of a reason in bytes.
const maxReason = 1000

func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" || len(reason) > maxReason {
		return fmt.Errorf("--reason must say why, in at most %d bytes and without naming the person", maxReason)
	}
	return nil
}

func newErasureOrderCommand(p *process) *cobra.Command {
	var f subjectFlags
	var reason string
	var atJumio, dryRun, wait bool
	order := &cobra.Command{
		Use:   "order",
		Short: "Orders an erasure, and prints the order's id",
		Long: `Orders that an account, a user reference or a workflow execution is erased, and prints
the order's id. A running worker carries it out. Exits 1 if nothing is known of it, or
if it is erased already. With --wait, exits 0 once it is done, and 1 if it has failed or
a legal hold keeps it waiting.

An account is barred with all its workflow executions; of a user reference, its accounts
are: a new account under the same reference is a new relationship.

Needs DATABASE_URL and CALLBACKD_ERASURE_KEY as the workers have them, and
CALLBACKD_USER_REFERENCE_KEY if references are signed.`,
		Example: `  callbackd erasure order --user-reference customer-4711 --reason "request of 2026-11-30" --dry-run
  callbackd erasure order --account-id 11111111-aaaa-bbbb-cccc-dddddddddddd --reason "ticket 815" --at-jumio --wait`,
		RunE: func(c *cobra.Command, _ []string) error {
			subject, err := f.subject()
			if err == nil && !dryRun {
				err = checkReason(reason)
			}
			if err != nil {
				return wrongUsage(c, err)
			}
			referenceKey, err := config.Lookup(p.environ, "CALLBACKD_USER_REFERENCE_KEY")
			if err != nil {
				return err
			}
			if dryRun {
				return withSchema(c, p, func(db *store.DB) error { return dryErasure(c.Context(), p.stdout, db, subject, referenceKey) })
			}
			if _, err := config.Require(p.environ, "CALLBACKD_ERASURE_KEY"); err != nil {
				return err
			}
			return withSchema(c, p, func(db *store.DB) error {
				s := results.New(db)
				id, err := s.RequestErasure(c.Context(), subject, reason, atJumio, referenceKey)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintln(p.stdout, id); err != nil || !wait {
					return err
				}
				return awaitOrder(c.Context(), s, id)
			})
		},
	}
	f.register(order)
	order.Flags().StringVar(&reason, "reason", "", "why; it must not name the person")
	order.Flags().BoolVar(&atJumio, "at-jumio", false, "delete at Jumio, too, before anything here")
	order.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be deleted, by table")
	order.Flags().BoolVar(&wait, "wait", false, "wait until the order is done")
	return order
}

func dryErasure(ctx context.Context, w io.Writer, db *store.DB, subject tombstone.Subject, referenceKey string) error {
	counts, executions, held, err := results.New(db).DryErasure(ctx, subject, referenceKey)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "workflow executions\t%d\n", executions)
	fmt.Fprintf(table, "of them held\t%d\n", held)
	for _, c := range counts {
		fmt.Fprintf(table, "%s\t%d\n", c.Table, c.Count)
	}
	return table.Flush()
}

// waitInterval is how often --wait looks at the order.
const waitInterval = 500 * time.Millisecond

func awaitOrder(ctx context.Context, s *results.Store, id uuid.UUID) error {
	for {
		r, err := s.Receipt(ctx, id)
		if err != nil {
			return err
		}
		switch r.State {
		case results.OrderDone:
			return nil
		case results.OrderFailed, results.OrderHeld:
			return fmt.Errorf("the order is %s: %s", r.State, text(r.Error))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(waitInterval):
		}
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func newErasureListCommand(p *process) *cobra.Command {
	var limit int
	list := &cobra.Command{
		Use:   "list",
		Short: "Lists the newest orders",
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return wrongUsage(c, errors.New("--limit must be at least 1"))
			}
			return withSchema(c, p, func(db *store.DB) error {
				orders, err := results.New(db).Receipts(c.Context(), limit)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ORDER\tREQUESTED\tBY\tSUBJECT\tSTATE\tERROR")
				for _, r := range orders {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, stamp(r.RequestedAt), r.RequestedBy, r.Kind, r.State, cmp.Or(text(r.Error), "-"))
				}
				return w.Flush()
			})
		},
	}
	list.Flags().IntVar(&limit, "limit", 50, "how many to list")
	return list
}

func newErasureShowCommand(p *process) *cobra.Command {
	var asJSON bool
	show := &cobra.Command{
		Use:   "show ORDER",
		Short: "Shows the receipt of an order",
		Long: `Shows an order: what has been deleted, what stays and why, which consumers of the events
have been told, and what is out of reach. With --json, its members are named as the
columns of jumio.erasures.

Needs DATABASE_URL.`,
		Args: validOrder,
		RunE: func(c *cobra.Command, args []string) error {
			return withSchema(c, p, func(db *store.DB) error {
				r, err := results.New(db).Receipt(c.Context(), uuid.MustParse(args[0]))
				if errors.Is(err, store.ErrNotFound) {
					return fmt.Errorf("there is no order %s", args[0])
				}
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(p.stdout).Encode(r)
				}
				return writeReceipt(p.stdout, &r)
			})
		},
	}
	show.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return show
}

func validOrder(_ *cobra.Command, args []string) error {
	if uuid.Validate(args[0]) != nil {
		return fmt.Errorf("%q is not the id of an order", args[0])
	}
	return nil
}

// whatStays is what an order leaves, and what it cannot reach.
const whatStays = `stays          of each workflow execution its id, with stage erased in jumio.verifications and in the event
               erased: consumers need it to delete what they hold; it leads to nobody any more
               of the order this receipt, and hashes that only CALLBACKD_ERASURE_KEY makes: they keep the erased out
               in jumio.image_reads the image's id, without the workflow execution
out of reach   the database's write-ahead log, replicas that lag, and backups, until they are overwritten or expire:
               after a restore, callbackd erasure replay
               pages of deleted rows, until the database's VACUUM reuses them
               versions that a bucket keeps of deleted objects, until its lifecycle ends them
               what consumers of the events hold themselves
`

func writeReceipt(w io.Writer, r *results.Receipt) error {
	var b strings.Builder
	finished := "-"
	if r.FinishedAt != nil {
		finished = stamp(*r.FinishedAt)
	}
	fmt.Fprintf(&b, "order          %s\nrequested      %s by %s\nreason         %s\nsubject        %s\nat Jumio       %t\nstate          %s\nfinished       %s\n",
		r.ID, stamp(r.RequestedAt), r.RequestedBy, plainReason(r.Reason), r.Kind, r.AtJumio, r.State, finished)
	if r.Error != nil {
		fmt.Fprintf(&b, "error          %s\n", *r.Error)
	}
	if r.State == results.OrderRunning {
		fmt.Fprintf(&b, "next step      %s\n", r.Step)
	}
	var answers []results.Answer
	var deleted map[string]int64
	if err := errors.Join(json.Unmarshal(r.Answers, &answers), json.Unmarshal(r.Deleted, &deleted)); err != nil {
		return fmt.Errorf("read the order %s: %w", r.ID, err)
	}
	for _, a := range answers {
		fmt.Fprintf(&b, "Jumio said     %d at %s\n", a.Status, stamp(a.At))
	}
	for _, table := range slices.Sorted(maps.Keys(deleted)) {
		fmt.Fprintf(&b, "deleted        %d of %s\n", deleted[table], table)
	}
	fmt.Fprintf(&b, "barred         %d\n", r.Tombstones)
	for _, c := range r.Consumers {
		said := "has not handled the event erased yet"
		if c.Passed {
			said = "has handled the event erased"
		}
		fmt.Fprintf(&b, "consumer       %s %s\n", c.Consumer, said)
	}
	if r.State == results.OrderDone {
		b.WriteString(whatStays)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func newHoldCommand(p *process) *cobra.Command {
	return holdCommand(p, "hold", "Keeps erasure and retention from a verification", `Puts a legal hold on a workflow execution: an order that covers it is held as a whole, at
Jumio too, and retention spares it, until it is released. Exits 1 if it is unknown, erased,
or being erased.

Needs DATABASE_URL.`, func(ctx context.Context, s *results.Store, id, reason string) error { return s.Hold(ctx, id, reason) })
}

func newReleaseCommand(p *process) *cobra.Command {
	return holdCommand(p, "release", "Ends a legal hold", `Ends the legal hold on a workflow execution: orders that it has held go on by themselves.
Exits 1 if there is none.

Needs DATABASE_URL.`, func(ctx context.Context, s *results.Store, id, _ string) error { return s.Release(ctx, id) })
}

func holdCommand(p *process, name, short, long string, do func(context.Context, *results.Store, string, string) error) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: name + " WORKFLOW_EXECUTION_ID", Short: short, Long: long,
		RunE: func(c *cobra.Command, args []string) error {
			err := checkReason(reason)
			if err == nil && !callback.ValidID(args[0]) {
				err = fmt.Errorf("%q is not a workflow execution's id", args[0])
			}
			if err != nil {
				return wrongUsage(c, err)
			}
			return withSchema(c, p, func(db *store.DB) error { return do(c.Context(), results.New(db), args[0], reason) })
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why")
	return c
}
