package handler

import "github.com/prometheus/client_golang/prometheus"

// The outcomes of callbackd_callbacks_total.
const (
	outcomeStored      = "stored"
	outcomeSpooled     = "spooled"
	outcomeForbidden   = "forbidden"
	outcomeMalformed   = "malformed"
	outcomeTooLarge    = "too_large"
	outcomeUnavailable = "unavailable"
)

// Metrics counts what happens on the callback path.
type Metrics struct {
	callbacks map[string]prometheus.Counter
	duration  prometheus.Histogram
}

// NewMetrics registers the metrics with reg; it panics when they are registered
// already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	callbacks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "callbackd_callbacks_total",
		Help: "POST requests on the callback path by what became of them.",
	}, []string{"outcome"})
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "callbackd_callback_duration_seconds",
		Help:    "Time from the end of a callback's headers to its answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	})
	reg.MustRegister(callbacks, duration)

	m := &Metrics{callbacks: map[string]prometheus.Counter{}, duration: duration}
	for _, outcome := range []string{
		outcomeStored, outcomeSpooled, outcomeForbidden, outcomeMalformed, outcomeTooLarge, outcomeUnavailable,
	} {
		// Made here, so that each shows 0 before it first happens.
		m.callbacks[outcome] = callbacks.WithLabelValues(outcome)
	}
	return m
}
