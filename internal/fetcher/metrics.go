package fetcher

import (
	"sync/atomic"
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

	future, contradicting, requeued prometheus.Counter

	reg prometheus.Registerer
}

// NewMetrics registers the worker's metrics with reg. The schedule's length is
// one of them, as what a retrieval's lag is to be compared with.
func NewMetrics(reg prometheus.Registerer, schedule Schedule) *Metrics {
	m := &Metrics{
		reg: reg,
		retrievals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_retrievals_total",
			Help: "Retrievals that ended, by outcome: retrieved, partial, failed; awaiting and not_required where Jumio itself says so.",
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
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	m.future = counter("callbackd_future_dated_callbacks_total",
		"Callbacks dated more than ten minutes after their arrival, which count as sent then.")
	m.contradicting = counter("callbackd_contradicting_callbacks_total",
		"Callbacks that named another account, user reference or definition than Jumio's details; the details hold.")
	m.requeued = counter("callbackd_requeued_retrievals_total",
		"Pending retrievals that had lost their job and were queued again.")
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

// observeProgress shows when a promotion last succeeded, read at each scrape.
func (m *Metrics) observeProgress(nanoseconds *atomic.Int64) {
	m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "callbackd_promotion_progress_timestamp_seconds",
		Help: "Unix time at which this worker last promoted callbacks, or found that there were none; 0 before its start.",
	}, func() float64 { return float64(nanoseconds.Load()) / float64(time.Second) }))
}
