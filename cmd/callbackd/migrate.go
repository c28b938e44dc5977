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
others wait for it.`,
	}
	migrate.AddCommand(
		&cobra.Command{
			Use:   "up",
			Short: "Applies every migration that is missing",
			RunE: func(c *cobra.Command, _ []string) error {
				return withMigrator(c, p, (*store.Migrator).Up)
			},
		},
		&cobra.Command{
			Use:   "down N",
			Short: "Takes the last N migrations back, with the data in their tables",
			Args:  wholeNumber(1),
			RunE: func(c *cobra.Command, args []string) error {
				n, _ := strconv.Atoi(args[0]) // checked by Args
				return withMigrator(c, p, func(m *store.Migrator) error { return m.Down(n) })
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
	m, err := store.NewMigrator(c.Context(), dsn)
	if err != nil {
		return err
	}
	defer m.Close()
	return do(m)
}
