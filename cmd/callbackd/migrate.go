package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"callbackd/internal/config"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

func newMigrateCommand(p *process) *cobra.Command {
	migrate := &cobra.Command{
		Use:   "migrate",
		Short: "Brings the database's schema up to date, or back",
		Long: `Applies the embedded migrations to DATABASE_URL, as the owner of the database
with CREATEROLE; no superuser is needed. One migration runs at a time, the
others wait for it.

Instances may keep running: no callback waits longer than 1.5 s for a lock that a
migration wants. If the lock is unavailable, the migration gives way and tries
again for five minutes. Ctrl-C interrupts it; the next run continues.

Version 15 needs all details in typed tables, so up first moves those that a version
before has stored, about a thousand a second, with progress on stderr. Set
CALLBACKD_USER_REFERENCE_KEY if your user references are signed.`,
	}
	migrate.AddCommand(
		&cobra.Command{
			Use:   "up",
			Short: "Applies every missing migration",
			RunE: func(c *cobra.Command, _ []string) error {
				return withMigrator(c, p, "applied", func(m *store.Migrator) error { return m.Up(c.Context()) })
			},
		},
		&cobra.Command{
			Use:   "down N",
			Short: "Undoes the last N migrations and DELETES THE DATA in their tables",
			Long: `Undoes the last N migrations, newest first: everything that each has created is
dropped, WITH ALL ITS DATA, and only a backup brings that back. Version 3 is every
table: callbacks, results, images. What came after it (views, limits, columns of
the worker's own) can be undone without losing a result.

If fewer than N can be undone, none is. A schema that is newer than this program
must be undone by the program that migrated it.`,
			Args: wholeNumber(1),
			RunE: func(c *cobra.Command, args []string) error {
				n, _ := strconv.Atoi(args[0]) // checked by Args
				return withMigrator(c, p, "undone", func(m *store.Migrator) error { return m.Down(c.Context(), n) })
			},
		},
		&cobra.Command{
			Use:   "version",
			Short: "Prints the schema's version and the one that this program needs",
			RunE: func(c *cobra.Command, _ []string) error {
				return withDatabase(c, p, func(db *store.DB) error {
					version, dirty, err := db.SchemaVersion(c.Context())
					if err != nil && !errors.Is(err, store.ErrNoSchema) {
						return err
					}
					state := ""
					if dirty {
						state = " (failed half-way)"
					}
					_, err = fmt.Fprintf(p.stdout, "schema %d%s, needed %d\n", version, state, store.RequiredVersion)
					return err
				})
			},
		},
		&cobra.Command{
			Use:   "force V",
			Short: "Sets the version without running anything, after you have fixed a failed migration by hand",
			Args:  wholeNumber(0),
			RunE: func(c *cobra.Command, args []string) error {
				v, _ := strconv.Atoi(args[0]) // checked by Args
				return withMigrator(c, p, "", func(m *store.Migrator) error { return m.Force(v) })
			},
		},
	)
	return migrate
}

// wholeNumber accepts a number not below minimum.
func wholeNumber(minimum int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if n, err := strconv.Atoi(args[0]); err != nil || n < minimum || n > 1_000_000 {
			return fmt.Errorf("%q is not a whole number of at least %d", args[0], minimum)
		}
		return nil
	}
}

// withMigrator changes the schema and prints what became of it. done is the word
// for a migration that has been run.
func withMigrator(c *cobra.Command, p *process, done string, change func(*store.Migrator) error) error {
	dsn, err := config.Require(p.environ, "DATABASE_URL")
	if err != nil {
		return err
	}
	key, err := config.Lookup(p.environ, "CALLBACKD_USER_REFERENCE_KEY")
	if err != nil {
		return err
	}
	bar := newProgress(p, "moving details into typed tables")
	m, err := store.NewMigrator(c.Context(), store.MigratorOptions{
		DSN:         dsn,
		MoveDetails: results.Mover(dsn, key, zap.NewNop(), bar.show),
		OnWait:      func(holders string) { fmt.Fprintln(p.stderr, "callbackd: waiting for a lock, held by "+holders) },
		OnStep:      func(version int, name string) { fmt.Fprintln(p.stdout, done, version, name) },
	})
	if err != nil {
		return err
	}
	defer m.Close()
	before, err := m.Version()
	if err != nil {
		return err
	}
	if err := change(m); err != nil {
		return err
	}
	after, err := m.Version()
	switch {
	case err != nil:
		return err
	case before == after:
		_, err = fmt.Fprintln(p.stdout, "already at version", after)
	default:
		_, err = fmt.Fprintf(p.stdout, "from version %d to version %d\n", before, after)
	}
	return err
}
