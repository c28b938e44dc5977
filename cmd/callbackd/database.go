package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"callbackd/internal/config"
	"callbackd/internal/store"
)

// commandStoreTimeout bounds what a command writes.
const commandStoreTimeout = 30 * time.Second

// withStore opens the database for a command that needs nothing else.
func withStore(c *cobra.Command, p *process, do func(*store.Store) error) error {
	dsn, err := config.Require(p.environ, "DATABASE_URL")
	if err != nil {
		return err
	}
	s, err := store.Open(c.Context(), store.Options{
		DSN: dsn, StoreTimeout: commandStoreTimeout, Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s)
}

// withSchema is withStore for a command that needs a current schema.
func withSchema(c *cobra.Command, p *process, do func(*store.Store) error) error {
	return withStore(c, p, func(s *store.Store) error {
		if err := s.CheckSchema(c.Context()); err != nil {
			return err
		}
		return do(s)
	})
}
