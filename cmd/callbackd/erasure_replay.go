package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"callbackd/internal/config"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

const erasureExportHelp = `Prints the ledger of erasures as JSON lines, one for each order, with its tombstones: what
erasure replay needs after a backup has been restored. Keep it apart from the database's
backups, and newer than they are. Nothing in it says who was erased: tombstones are hashes
that only CALLBACKD_ERASURE_KEY makes.

Needs DATABASE_URL.`

func newErasureExportCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:     "export",
		Short:   "Prints the ledger of erasures, to be replayed after a restore",
		Long:    erasureExportHelp,
		Example: `  callbackd erasure export >erasures-$(date +%F).jsonl`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withSchema(c, p, func(db *store.DB) error {
				lines := json.NewEncoder(p.stdout)
				return results.New(db).ExportLedger(c.Context(), func(e *results.LedgerEntry) error { return lines.Encode(e) })
			})
		},
	}
}

const erasureReplayHelp = `After a restore, makes the orders again that the restored database has forgotten, under their
ids and with their tombstones, from what erasure export has printed: from FILE, or from stdin.
Running workers find what the orders are of by hashing what there is, and erase it.
Jumio is never asked. It can be repeated: what the database knows stays as it is.

Replay before anything else works on the restored database, for what is in it may be shown
and retrieved again until then. Orders that were not done are skipped, and named.

Needs DATABASE_URL, and the CALLBACKD_ERASURE_KEY of the export.`

func newErasureReplayCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:     "replay [FILE]",
		Short:   "Carries out again what a restored database has forgotten",
		Long:    erasureReplayHelp,
		Example: `  callbackd erasure replay erasures-2026-11-30.jsonl`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if _, err := config.Require(p.environ, "CALLBACKD_ERASURE_KEY"); err != nil {
				return err
			}
			in := p.stdin
			if len(args) > 0 && args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer file.Close() // only read
				in = file
			}
			entries, err := readLedger(in)
			if err != nil {
				return err
			}
			return withSchema(c, p, func(db *store.DB) error { return replayLedger(c.Context(), p, db, entries) })
		},
	}
}

// readLedger reads all of it, so that a broken line is noticed before anything is done.
func readLedger(in io.Reader) (entries []*results.LedgerEntry, err error) {
	decoder := json.NewDecoder(in)
	for n := 1; ; n++ {
		e := &results.LedgerEntry{}
		switch err := decoder.Decode(e); {
		case errors.Is(err, io.EOF):
			return entries, nil
		case err != nil || e.OrderID == [16]byte{}:
			return nil, fmt.Errorf("order %d is not what erasure export prints", n)
		}
		entries = append(entries, e)
	}
}

func replayLedger(ctx context.Context, p *process, db *store.DB, entries []*results.LedgerEntry) error {
	s := results.New(db)
	for _, e := range entries {
		if e.KeyCheck != nil && !bytes.Equal(db.ErasureKey.Check(), e.KeyCheck) {
			return fmt.Errorf("replay order %s: it was made with another CALLBACKD_ERASURE_KEY", e.OrderID)
		}
	}
	if len(entries) > 0 {
		if err := s.SetErasureKey(ctx); err != nil {
			return err
		}
	}
	for _, e := range entries {
		text := "known"
		if e.State != results.OrderDone {
			text = "skipped, it was " + string(e.State) + ": order it again"
		} else if made, err := s.ReplayEntry(ctx, e); err != nil {
			return err
		} else if made {
			text = "ordered again"
		}
		if _, err := fmt.Fprintf(p.stdout, "%s  %s\n", e.OrderID, text); err != nil {
			return err
		}
	}
	return nil
}
