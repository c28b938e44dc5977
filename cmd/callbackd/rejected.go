package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

func newRejectedCommand(p *process) *cobra.Command {
	rejected := &cobra.Command{
		Use:   "rejected",
		Short: "Shows rejected callbacks, and replays them as if they had been accepted",
		Long: `Callbacks rejected with 400 or 403 are kept, up to CALLBACKD_REJECTED_PER_HOUR, so
that they can be replayed once a wrong allowlist is fixed. So are dead letters
(not_storable): callbacks that got their 200 and that Postgres cannot store or
promote because of their own values. The ID is the response's X-Request-Id.`,
	}
	var limit int
	list := &cobra.Command{
		Use:   "list",
		Short: "Lists the newest rejected callbacks",
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return wrongUsage(c, errors.New("--limit must be at least 1"))
			}
			return withSchema(c, p, func(db *store.DB) error { return listRejected(c.Context(), p, results.New(db), limit) })
		},
	}
	list.Flags().IntVar(&limit, "limit", 50, "how many to list")
	rejected.AddCommand(
		list,
		&cobra.Command{
			Use:   "show ID",
			Short: "Shows one rejected callback with its body",
			Args:  validIDs,
			RunE: func(c *cobra.Command, args []string) error {
				return withSchema(c, p, func(db *store.DB) error { return showRejected(c.Context(), p, results.New(db), args[0]) })
			},
		},
		&cobra.Command{
			Use:   "replay ID...",
			Short: "Replays rejected callbacks as if they had been accepted",
			Long: `Stores each as a callback received when it was rejected; a running worker does the
rest. A dead letter (not_storable) is already stored, so it is promoted again. The
first one that is not a callback, was cut at 64 KiB, or has already been replayed
is an error, and the ones after it are not replayed.`,
			Args: validIDs,
			RunE: func(c *cobra.Command, args []string) error {
				return withSchema(c, p, func(db *store.DB) error {
					s := results.New(db)
					for _, id := range args {
						if err := replay(c.Context(), p, s, id); err != nil {
							return err
						}
					}
					return nil
				})
			},
		},
	)
	return rejected
}

// validIDs accepts UUIDs.
func validIDs(_ *cobra.Command, args []string) error {
	for _, a := range args {
		if uuid.Validate(a) != nil {
			return fmt.Errorf("%q is not the id of a rejected callback", a)
		}
	}
	return nil
}

func listRejected(ctx context.Context, p *process, s *results.Store, limit int) error {
	rows, err := s.ListRejected(ctx, limit)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tRECEIVED\tADDRESS\tBYTES\tREPLAYED\tREASON")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", r.ID, stamp(r.ReceivedAt), address(r), len(r.Body), stamp(r.ReplayedAt), plainReason(r.Reason))
	}
	return w.Flush()
}

func showRejected(ctx context.Context, p *process, s *results.Store, id string) error {
	r, err := s.GetRejected(ctx, uuid.MustParse(id))
	if err != nil {
		return err
	}
	// Quoted, because a stranger's bytes may hold control codes.
	_, err = fmt.Fprintf(p.stdout, "id            %s\nreceived      %s\naddress       %s\nreason        %s\ncontent type  %s\nreplayed      %s\nbody          %s\n",
		r.ID, stamp(r.ReceivedAt), address(r), plainReason(r.Reason), strconv.Quote(r.ContentType), stamp(r.ReplayedAt), printable(r.Body))
	return err
}

func replay(ctx context.Context, p *process, s *results.Store, id string) error {
	switch err := s.ReplayDeadLetter(ctx, uuid.MustParse(id)); {
	case err == nil:
		_, err = fmt.Fprintf(p.stdout, "replayed dead letter %s\n", id)
		return err
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	r, err := s.GetRejected(ctx, uuid.MustParse(id))
	if err != nil {
		return err
	}
	c, err := r.Accept()
	if err != nil {
		return fmt.Errorf("replay rejected callback %s: %w", id, err)
	}
	if err := s.Replay(ctx, r.ID, c); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "replayed %s as callback %s of workflow execution %s\n", r.ID, c.ID, c.WorkflowExecutionID)
	return err
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func address(r results.RejectedRow) string {
	if !r.SourceIP.IsValid() {
		return "-"
	}
	return r.SourceIP.String()
}

// plainReason quotes a reason that callbackd would not write: a receiver's database
// role may insert any text.
func plainReason(reason string) string {
	if quoted := strconv.Quote(reason); quoted != `"`+reason+`"` {
		return quoted
	}
	return reason
}

// printable quotes anything but JSON, and JSON with something that a terminal may
// obey: JSON forbids only some control codes in strings.
func printable(body []byte) string {
	obeyed := func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune("\t\r\n", r) }
	if json.Valid(body) && utf8.Valid(body) && !bytes.ContainsFunc(body, obeyed) {
		return string(body)
	}
	return strconv.Quote(string(body))
}
