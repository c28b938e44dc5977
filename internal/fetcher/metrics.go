package fetcher

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/jumio"
	"callbackd/internal/store"
)

// Metrics are the worker's figures.
type Metrics struct {
	retrievals *prometheus.CounterVec
	attempts   *prometheus.CounterVec
	backlog    prometheus.Gauge
	oldest     prometheus.Gauge
	promotion  prometheus.Gauge
	lag        prometheus.Histogram
}

// NewMetrics registers the worker's metrics with reg. The schedule's length is
// one of them, as what a retrieval's lag is to be compared with.
func NewMetrics(reg prometheus.Registerer, schedule Schedule) *Metrics {
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
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "callbackd_retrieval_oldest_timestamp_seconds",
			Help: "Unix time at which the callback arrived whose retrieval has been pending longest, in the whole database; 0 when none is.",
		}),
		promotion: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "callbackd_promotion_backlog",
			Help: "Callbacks that no worker has taken up yet, in the whole database.",
		}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "callbackd_retrieval_lag_seconds",
			Help: "Time from the callback's arrival to its results in the database.",
			// From a minute on, a bucket for each attempt of the default schedule.
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 240, 420, 660, 1020, 1500, 2100, 3000, 7200},
		}),
	}
	length := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "callbackd_retrieval_schedule_seconds",
		Help: "Sum of the delays before the attempts of a retrieval.",
	})
	length.Set(schedule.Length().Seconds())
	for _, outcome := range []store.RetrievalState{store.Retrieved, store.Partial, store.Failed} {
		m.retrievals.WithLabelValues(string(outcome))
	}
	for _, outcome := range []string{
		attemptOK, jumio.CodeUnauthorized, jumio.CodeForbidden,
		jumio.TokenCode(jumio.CodeUnauthorized), jumio.TokenCode(jumio.CodeForbidden),
	} {
		m.attempts.WithLabelValues(outcome)
	}
	reg.MustRegister(m.retrievals, m.attempts, m.backlog, m.oldest, m.promotion, m.lag, length)
	return m
}

func (m *Metrics) observeBacklog(b store.Backlog) {
	m.backlog.Set(float64(b.Retrievals))
	m.promotion.Set(float64(b.Callbacks))
	oldest := 0.0
	if !b.Oldest.IsZero() {
		oldest = float64(b.Oldest.UnixMilli()) / float64(time.Second/time.Millisecond)
	}
	m.oldest.Set(oldest)
}
