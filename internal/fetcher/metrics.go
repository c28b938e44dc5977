package fetcher

import (
	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/store"
)

// Metrics are the worker's figures.
type Metrics struct {
	retrievals *prometheus.CounterVec
	attempts   *prometheus.CounterVec
	backlog    prometheus.Gauge
	lag        prometheus.Histogram
}

// NewMetrics registers the worker's metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		retrievals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_retrievals_total",
			Help: "Retrievals that ended, by outcome: retrieved, partial, failed; awaiting and not_required after Get Status.",
		}, []string{"outcome"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_retrieval_attempts_total",
			Help: "Attempts that ended, by outcome: ok, or the code of what failed first.",
		}, []string{"outcome"}),
		backlog: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "callbackd_retrieval_backlog",
			Help: "Workflow executions whose retrieval is pending, in the whole database.",
		}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "callbackd_retrieval_lag_seconds",
			Help:    "Time from the callback's arrival to its results in the database.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 3600},
		}),
	}
	for _, outcome := range []store.RetrievalState{store.Retrieved, store.Partial, store.Failed} {
		m.retrievals.WithLabelValues(string(outcome))
	}
	m.attempts.WithLabelValues(attemptOK)
	reg.MustRegister(m.retrievals, m.attempts, m.backlog, m.lag)
	return m
}
