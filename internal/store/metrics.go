package store

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the store's figures.
type Metrics struct {
	batchSize   prometheus.Histogram
	deadLetters prometheus.Counter
	reg         prometheus.Registerer
}

// NewMetrics registers the store's metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		reg: reg,
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "callbackd_ingest_batch_size",
			Help:    "Callbacks written by one statement.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		deadLetters: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callbackd_dead_letters_total",
			Help: "Callbacks that were answered 200 and that Postgres would not store or promote for their own values. They are kept as rejected callbacks.",
		}),
	}
	reg.MustRegister(m.batchSize, m.deadLetters)
	return m
}

// observePool adds the figures of the pool, read at each scrape.
func (m *Metrics) observePool(pool *pgxpool.Pool) {
	gauge := func(name, help string, value func(*pgxpool.Stat) float64) {
		m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return value(pool.Stat()) }))
	}
	counter := func(name, help string, value func(*pgxpool.Stat) float64) {
		m.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return value(pool.Stat()) }))
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
