package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"callbackd/internal/config"
	"callbackd/internal/store"
)

func newMigrateCommand(p *process) *cobra.Command {
	migrate := &cobra.Command{
		Use:   "migrate",
		Short: "Brings the database's schema up to date, or back",
		Long: `Applies the embedded migrations to DATABASE_URL, as the owner of the database
with CREATEROLE; no superuser is needed. One migration runs at a time, the
others wait for it.

Instances may go on: no callback waits for longer than 1.5 s for a lock that a
migration wants. When that is not to be had, the migration gives way, and tries
again for five minutes.`,
	}
	migrate.AddCommand(
		&cobra.Command{
			Use:   "up",
			Short: "Applies every migration that is missing",
			RunE: func(c *cobra.Command, _ []string) error {
				return withMigrator(c, p, func(m *store.Migrator) error { return m.Up(c.Context()) })
			},
		},
		&cobra.Command{
			Use:   "down N",
			Short: "Takes the last N migrations back, WITH THE DATA in their tables",
			Long: `Takes the last N migrations back, newest first: what each has made is dropped, WITH
ALL DATA in it, and only a backup brings that back. Versions 6 and 5 are limits on
the tables' values, and what workers know of retrievals that are put off; version 4
is the views of the schema jumio. These take no result along; version 3 is every
table: callbacks, results, images.

If fewer than N can be taken back, none is. A schema that is newer than this
program is taken back by the program that brought it there.`,
			Args: wholeNumber(1),
			RunE: func(c *cobra.Command, args []string) error {
				n, _ := strconv.Atoi(args[0]) // checked by Args
				return withMigrator(c, p, func(m *store.Migrator) error { return m.Down(c.Context(), n) })
			},
		},
		&cobra.Command{
			Use:   "version",
			Short: "Prints the schema's version and the one that this program needs",
			RunE: func(c *cobra.Command, _ []string) error {
				return withStore(c, p, func(s *store.Store) error {
					version, dirty, err := s.SchemaVersion(c.Context())
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
			Short: "Sets the version without running anything, after a failed migration was mended by hand",
			Args:  wholeNumber(0),
			RunE: func(c *cobra.Command, args []string) error {
				v, _ := strconv.Atoi(args[0]) // checked by Args
				return withMigrator(c, p, func(m *store.Migrator) error { return m.Force(v) })
			},
		},
	)
	return migrate
}

// wholeNumber accepts one argument, a number of at least least.
func wholeNumber(least int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("one number is needed, not %d arguments", len(args))
		}
		if n, err := strconv.Atoi(args[0]); err != nil || n < least || n > 1_000_000 {
			return fmt.Errorf("%q is no whole number of at least %d", args[0], least)
		}
		return nil
	}
}

func withMigrator(c *cobra.Command, p *process, do func(*store.Migrator) error) error {
	dsn, err := config.Require(p.environ, "DATABASE_URL")
	if err != nil {
		return err
	}
	m, err := store.NewMigrator(c.Context(), store.MigratorOptions{DSN: dsn, OnWait: func(holders string) {
		fmt.Fprintln(p.stderr, "callbackd: waiting for a lock, held by "+holders)
	}})
	if err != nil {
		return err
	}
	defer m.Close()
	return do(m)
}
