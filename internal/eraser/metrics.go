package eraser

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"callbackd/internal/store/results"
)

type metrics struct {
	orders *prometheus.GaugeVec
	oldest prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	registered := promauto.With(registerer)
	m := &metrics{
		orders: registered.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_erasures",
			Help: "Orders to erase, by state; failed are those whose subject has not been ordered again.",
		}, []string{"state"}),
		oldest: registered.NewGauge(prometheus.GaugeOpts{
			Name: "callbackd_oldest_erasure_timestamp_seconds",
			Help: "When the oldest order to erase was given that is not done, failed or held; 0 if there is none.",
		}),
	}
	for _, state := range []results.OrderState{results.OrderOrdered, results.OrderHeld, results.OrderRunning, results.OrderDone, results.OrderFailed} {
		m.orders.WithLabelValues(string(state))
	}
	return m
}

func (m *metrics) observe(states map[results.OrderState]int64, oldest time.Time) {
	for state, n := range states {
		m.orders.WithLabelValues(string(state)).Set(float64(n))
	}
	m.oldest.Set(0)
	if !oldest.IsZero() {
		m.oldest.Set(float64(oldest.Unix()))
	}
}
