package store

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the store's metrics.
type Metrics struct {
	// DeadLetters is for store/receiving and store/results.
	DeadLetters prometheus.Counter
	registered  promauto.Factory
}

// NewMetrics registers the store's metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	registered := promauto.With(reg)
	return &Metrics{registered: registered, DeadLetters: registered.NewCounter(prometheus.CounterOpts{
		Name: "callbackd_dead_letters_total",
		Help: "Callbacks that were answered 200 but whose values keep them from being stored or promoted. They are kept as rejected callbacks.",
	})}
}

// observePool registers the pool's metrics, which are read at each scrape.
func (m *Metrics) observePool(pool *pgxpool.Pool) {
	gauge := func(name, help string, value func(*pgxpool.Stat) float64) {
		m.registered.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(pool.Stat()) })
	}
	counter := func(name, help string, value func(*pgxpool.Stat) float64) {
		m.registered.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return value(pool.Stat()) })
	}
	gauge("callbackd_pool_max_connections", "Most connections to Postgres that the pool may hold.",
		func(s *pgxpool.Stat) float64 { return float64(s.MaxConns()) })
	gauge("callbackd_pool_connections", "Connections to Postgres that are open.",
		func(s *pgxpool.Stat) float64 { return float64(s.TotalConns()) })
	gauge("callbackd_pool_acquired_connections", "Connections to Postgres that are in use.",
		func(s *pgxpool.Stat) float64 { return float64(s.AcquiredConns()) })
	counter("callbackd_pool_acquires_total", "Connections taken from the pool.",
		func(s *pgxpool.Stat) float64 { return float64(s.AcquireCount()) })
	counter("callbackd_pool_empty_acquires_total", "Acquires that had to wait for a connection.",
		func(s *pgxpool.Stat) float64 { return float64(s.EmptyAcquireCount()) })
	counter("callbackd_pool_acquire_wait_seconds_total", "Time spent waiting for a connection.",
		func(s *pgxpool.Stat) float64 { return s.AcquireDuration().Seconds() })
}
