package reconciler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"callbackd/internal/store/results"
	"callbackd/internal/workflow"
)

type metrics struct {
	expectations *prometheus.GaugeVec
	overdueSince prometheus.Gauge
	asked        *prometheus.CounterVec
	recovered    prometheus.Counter
	looks        prometheus.Counter
}

// The outcomes of a question.
const (
	outcomeRecovered = "recovered" // a final status, which was news
	outcomeKnown     = "known"     // a final status, whose callback has come meanwhile
	outcomeNotFinal  = "not_final"
	outcomeNone      = "no_answer" // an error, 404 included, or an unknown status
)

func newMetrics(registerer prometheus.Registerer) *metrics {
	registered := promauto.With(registerer)
	m := &metrics{
		expectations: registered.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_expectations",
			Help: "Verifications that were started, by state; answered and recovered are those of the last hour.",
		}, []string{"state"}),
		overdueSince: registered.NewGauge(prometheus.GaugeOpts{
			Name: "callbackd_oldest_overdue_timestamp_seconds",
			Help: "Deadline of the oldest overdue verification; 0 if there is none.",
		}),
		asked: registered.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_reconcile_asked_total",
			Help: "Questions to Jumio for a status that no callback has brought, by outcome.",
		}, []string{"outcome"}),
		recovered: registered.NewCounter(prometheus.CounterOpts{
			Name: "callbackd_missed_callbacks_recovered_total",
			Help: "Verifications whose end Jumio told when it was asked, because no callback had come.",
		}),
		looks: registered.NewCounter(prometheus.CounterOpts{
			Name: "callbackd_reconcile_looks_total",
			Help: "How often this worker has looked for what Jumio is to be asked.",
		}),
	}
	for _, state := range []string{"expected", "answered", "recovered", "overdue"} {
		m.expectations.WithLabelValues(state)
	}
	for _, o := range []string{outcomeRecovered, outcomeKnown, outcomeNotFinal, outcomeNone} {
		m.asked.WithLabelValues(o)
	}
	return m
}

func (m *metrics) observe(states map[string]int64, oldestOverdue time.Time) {
	for state, count := range states {
		m.expectations.WithLabelValues(state).Set(float64(count))
	}
	m.overdueSince.Set(0)
	if !oldestOverdue.IsZero() {
		m.overdueSince.Set(float64(oldestOverdue.Unix()))
	}
}

func outcome(status string, found results.Found) string {
	final, known := workflow.FinalStatus(status)
	switch {
	case found.Recovered:
		return outcomeRecovered
	case final:
		return outcomeKnown
	case known:
		return outcomeNotFinal
	}
	return outcomeNone
}
