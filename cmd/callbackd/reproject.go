package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

// progressInterval is how often progress is shown.
const progressInterval = 200 * time.Millisecond

func newReprojectCommand(p *process) *cobra.Command {
	var since string
	reproject := &cobra.Command{
		Use:   "reproject [WORKFLOW_EXECUTION_ID...]",
		Short: "Computes the typed tables anew from Jumio's bytes",
		Long: `Reads stored details again and replaces what the typed tables say: after an update of
callbackd that reads more of them, or reads them better. Without ids, all details; with
--since, those that were first stored at that time or later.

It works in batches, while instances run, and can be repeated. It asks Jumio nothing,
changes no details, images or states, and adds no events.

Needs DATABASE_URL, and CALLBACKD_USER_REFERENCE_KEY if your user references are signed.`,
		RunE: func(c *cobra.Command, ids []string) error {
			from, err := reprojectSince(since, ids)
			if err != nil {
				return wrongUsage(c, err)
			}
			key, err := config.Lookup(p.environ, "CALLBACKD_USER_REFERENCE_KEY")
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				ids = nil
			}
			return withSchema(c, p, func(db *store.DB) error {
				last := results.Progress{}
				bar := newProgress(p, "reading details")
				err := results.New(db).Reproject(c.Context(), ids, from, key, func(r results.Progress) {
					last = r
					bar.show(r)
				})
				if err != nil {
					return err
				}
				return printRead(p, last)
			})
		},
	}
	reproject.Flags().StringVar(&since, "since", "", "only details first stored at this RFC 3339 time or later")
	return reproject
}

func reprojectSince(since string, ids []string) (time.Time, error) {
	for _, id := range ids {
		if !callback.ValidID(id) {
			return time.Time{}, fmt.Errorf("%q is not a workflow execution's id", id)
		}
	}
	if since == "" {
		return time.Unix(0, 0), nil
	}
	if len(ids) > 0 {
		return time.Time{}, fmt.Errorf("--since goes without ids")
	}
	at, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return at, fmt.Errorf("--since: %q is not an RFC 3339 time such as 2026-11-30T12:00:00Z", since)
	}
	return at, nil
}

// printRead prints what was read, and what could not be.
func printRead(p *process, r results.Progress) error {
	if _, err := fmt.Fprintf(p.stdout, "read %d\n", r.Done); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(r.Unreadable)) {
		if _, err := fmt.Fprintf(p.stdout, "unreadable %s %d\n", name, r.Unreadable[name]); err != nil {
			return err
		}
	}
	if r.Failed > 0 {
		return fmt.Errorf("%d could not be stored as they were read, and stay as they were", r.Failed)
	}
	return nil
}
