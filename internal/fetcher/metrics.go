package fetcher

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"callbackd/internal/jumio"
	"callbackd/internal/store/results"
	"callbackd/internal/workflow"
)

// Metrics are the worker's metrics.
type Metrics struct {
	retrievals, attempts       *prometheus.CounterVec
	backlog, oldest, promotion prometheus.Gauge
	lag                        prometheus.Histogram
	requeued                   prometheus.Counter
	unreadable                 *prometheus.CounterVec
	// Contradicting is for the promoter, too.
	Contradicting prometheus.Counter
}

// NewMetrics registers the worker's metrics with reg, with the schedule's length as one
// of them, for comparison with the lag.
func NewMetrics(reg prometheus.Registerer, schedule workflow.Schedule) *Metrics {
	registered := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return registered.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return registered.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		retrievals: counter("callbackd_retrievals_total",
			"Retrievals that ended, by outcome: retrieved, partial, failed; awaiting and not_required if Jumio says so.", "outcome"),
		attempts: counter("callbackd_retrieval_attempts_total",
			"Attempts that ended, by outcome: ok, or the code of the first failure.", "outcome"),
		backlog: gauge("callbackd_retrieval_backlog", "Workflow executions whose retrieval is pending, in the whole database."),
		oldest: gauge("callbackd_retrieval_oldest_timestamp_seconds",
			"Unix time at which the callback of the oldest pending retrieval arrived, in the whole database; 0 if none is pending."),
		promotion: gauge("callbackd_promotion_backlog", "Callbacks that no worker has promoted yet, in the whole database."),
		lag: registered.NewHistogram(prometheus.HistogramOpts{
			Name: "callbackd_retrieval_lag_seconds",
			Help: "Time from the callback's arrival to its results in the database.",
			// From a minute on, a bucket for each attempt of the default schedule.
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 240, 420, 660, 1020, 1500, 2100, 3000, 7200},
		}),
		requeued: counter("callbackd_requeued_retrievals_total",
			"Pending retrievals that had lost their job and were queued again.").WithLabelValues(),
		unreadable: counter("callbackd_unreadable_fields_total",
			"Fields of details that are not what the guide says and are NULL in the views, by the field's name.", "field"),
		Contradicting: counter("callbackd_contradicting_callbacks_total",
			"Callbacks that named another account, user reference or definition than Jumio's details; the details win.").WithLabelValues(),
	}
	gauge("callbackd_retrieval_schedule_seconds", "Sum of the delays before the attempts of a retrieval.").Set(schedule.Length().Seconds())
	for _, outcome := range []workflow.RetrievalState{workflow.Retrieved, workflow.Partial, workflow.Failed} {
		m.retrievals.WithLabelValues(string(outcome))
	}
	for _, outcome := range []string{
		attemptOK, jumio.CodeUnauthorized, jumio.CodeForbidden,
		jumio.TokenCode(jumio.CodeUnauthorized), jumio.TokenCode(jumio.CodeForbidden),
	} {
		m.attempts.WithLabelValues(outcome)
	}
	return m
}

func (m *Metrics) observeUnreadable(fields []string) {
	for _, field := range fields {
		m.unreadable.WithLabelValues(field).Inc()
	}
}

func (m *Metrics) observeBacklog(b results.Backlog) {
	m.backlog.Set(float64(b.Retrievals))
	m.promotion.Set(float64(b.Callbacks))
	oldest := 0.0
	if !b.Oldest.IsZero() {
		oldest = float64(b.Oldest.UnixMilli()) / float64(time.Second/time.Millisecond)
	}
	m.oldest.Set(oldest)
}
