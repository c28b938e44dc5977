package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"callbackd/internal/config"
	"callbackd/internal/store"
	"callbackd/internal/tombstone"
)

// withDatabase opens the database for a command that needs nothing else.
func withDatabase(c *cobra.Command, p *process, do func(*store.DB) error) error {
	dsn, err := config.Require(p.environ, "DATABASE_URL")
	if err != nil {
		return err
	}
	key, err := config.Lookup(p.environ, "CALLBACKD_ERASURE_KEY")
	if err != nil {
		return err
	}
	db, err := store.Open(c.Context(), store.Options{
		DSN: dsn, ErasureKey: tombstone.NewKey(key), Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		return err
	}
	defer db.Close()
	return do(db)
}

// withSchema is withDatabase for a command that needs a current schema.
func withSchema(c *cobra.Command, p *process, do func(*store.DB) error) error {
	return withDatabase(c, p, func(db *store.DB) error {
		if err := db.CheckSchema(c.Context()); err != nil {
			return err
		}
		return do(db)
	})
}
