package promoter

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the promoter's metrics.
type Metrics struct {
	future, contradicting, dropped prometheus.Counter
	registered                     promauto.Factory
}

// NewMetrics registers the promoter's metrics with reg. contradicting is the fetcher's
// Metrics.Contradicting.
func NewMetrics(reg prometheus.Registerer, contradicting prometheus.Counter) *Metrics {
	registered := promauto.With(reg)
	return &Metrics{
		registered: registered, contradicting: contradicting,
		future: registered.NewCounter(prometheus.CounterOpts{
			Name: "callbackd_future_dated_callbacks_total",
			Help: "Callbacks dated more than ten minutes after their arrival; they count as sent when they arrived.",
		}),
		dropped: registered.NewCounter(prometheus.CounterOpts{
			Name: "callbackd_tombstoned_callbacks_total",
			Help: "Callbacks of what is erased: they got their 200 and were deleted.",
		}),
	}
}

// observeProgress registers the time of the last progress, which is read at each scrape.
func (m *Metrics) observeProgress(nanoseconds *atomic.Int64) {
	m.registered.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "callbackd_promotion_progress_timestamp_seconds",
		Help: "Unix time at which this worker last promoted callbacks or found none; 0 before its start.",
	}, func() float64 { return float64(nanoseconds.Load()) / float64(time.Second) })
}
