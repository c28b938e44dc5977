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
)

func newRejectedCommand(p *process) *cobra.Command {
	rejected := &cobra.Command{
		Use:   "rejected",
		Short: "Looks at rejected callbacks, and takes one in as if it had been accepted",
		Long: `What was refused with 400 or 403 is kept, up to CALLBACKD_REJECTED_PER_HOUR, to be
replayed after a wrong allowlist. So is a dead letter (not_storable): what was
answered 200 and Postgres would not store or promote for its own values. The ID is
the X-Request-Id of the answer.`,
	}
	var limit int
	list := &cobra.Command{
		Use:   "list",
		Short: "Lists the newest rejected callbacks",
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return wrongUsage(c, fmt.Errorf("--limit must be at least 1"))
			}
			return withSchema(c, p, func(s *store.Store) error { return listRejected(c.Context(), p, s, limit) })
		},
	}
	list.Flags().IntVar(&limit, "limit", 50, "how many to list")
	rejected.AddCommand(
		list,
		&cobra.Command{
			Use:   "show ID",
			Short: "Shows one rejected callback with its body",
			Args:  ids(1, 1),
			RunE: func(c *cobra.Command, args []string) error {
				return withSchema(c, p, func(s *store.Store) error { return showRejected(c.Context(), p, s, args[0]) })
			},
		},
		&cobra.Command{
			Use:   "replay ID...",
			Short: "Takes rejected callbacks in as if they had been accepted",
			Long: `Stores each as a callback that was received when it was rejected; a running
worker does the rest. A dead letter (not_storable) is stored already and promoted
once more. One that is no callback, was cut at 64 KiB, or has been replayed already
is an error, and those after it are not replayed.`,
			Args: ids(1, 1000),
			RunE: func(c *cobra.Command, args []string) error {
				return withSchema(c, p, func(s *store.Store) error {
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

// ids accepts UUIDs.
func ids(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := cobra.RangeArgs(least, most)(c, args); err != nil {
			return err
		}
		for _, a := range args {
			if _, err := uuid.Parse(a); err != nil {
				return fmt.Errorf("%q is no id of a rejected callback", a)
			}
		}
		return nil
	}
}

func listRejected(ctx context.Context, p *process, s *store.Store, limit int) error {
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

func showRejected(ctx context.Context, p *process, s *store.Store, id string) error {
	r, err := s.GetRejected(ctx, uuid.MustParse(id))
	if err != nil {
		return err
	}
	// Quoted, since a stranger's bytes may hold a terminal's control codes.
	_, err = fmt.Fprintf(p.stdout, "id            %s\nreceived      %s\naddress       %s\nreason        %s\ncontent type  %s\nreplayed      %s\nbody          %s\n",
		r.ID, stamp(r.ReceivedAt), address(r), plainReason(r.Reason), strconv.Quote(r.ContentType), stamp(r.ReplayedAt), printable(r.Body))
	return err
}

func replay(ctx context.Context, p *process, s *store.Store, id string) error {
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

func address(r store.RejectedRow) string {
	if !r.SourceIP.IsValid() {
		return "-"
	}
	return r.SourceIP.String()
}

// plainReason is a reason as callbackd writes it, anything else as a Go string: a
// receiver's database role may insert any text.
func plainReason(reason string) string {
	quoted := strconv.Quote(reason)
	if quoted[1:len(quoted)-1] == reason {
		return reason
	}
	return quoted
}

// printable is JSON as it is, anything else as a Go string, and so is JSON with
// something that a terminal may obey: JSON forbids only a part of the control
// codes in strings.
func printable(body []byte) string {
	obeyed := func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune("\t\r\n", r) }
	if json.Valid(body) && utf8.Valid(body) && !bytes.ContainsFunc(body, obeyed) {
		return string(body)
	}
	return strconv.Quote(string(body))
}
