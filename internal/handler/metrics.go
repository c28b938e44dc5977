package handler

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/callback"
)

// The outcomes of callbackd_callbacks_total.
const (
	outcomeStored      = "stored"
	outcomeSpooled     = "spooled"
	outcomeForbidden   = "forbidden"
	outcomeMalformed   = "malformed"
	outcomeTooLarge    = "too_large"
	outcomeUnavailable = "unavailable"
)

// reasonOther counts the reasons that NewMetrics was not told of.
const reasonOther = "other"

// Metrics are those of the callback path.
type Metrics struct {
	callbacks map[string]prometheus.Counter // by outcome
	rejected  map[string]prometheus.Counter // by reason
	duration  prometheus.Histogram
}

// NewMetrics registers the metrics with reg; it panics if they are registered
// already. checkReasons are the codes with which Options.Check rejects.
func NewMetrics(reg prometheus.Registerer, checkReasons ...string) *Metrics {
	callbacks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "callbackd_callbacks_total",
		Help: "POST requests on the callback path by outcome.",
	}, []string{"outcome"})
	rejected := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "callbackd_refused_callbacks_total",
		Help: "POST requests on the callback path that were answered with 4xx, by reason.",
	}, []string{"reason"})
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "callbackd_callback_duration_seconds",
		Help:    "Time from the end of a callback's headers to its answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	})
	reg.MustRegister(callbacks, rejected, duration)

	m := &Metrics{callbacks: map[string]prometheus.Counter{}, rejected: map[string]prometheus.Counter{}, duration: duration}
	for _, outcome := range []string{
		outcomeStored, outcomeSpooled, outcomeForbidden, outcomeMalformed, outcomeTooLarge, outcomeUnavailable,
	} {
		// Created now, so that each is 0 before it first happens.
		m.callbacks[outcome] = callbacks.WithLabelValues(outcome)
	}
	for _, reason := range append(checkReasons, ownReasons()...) {
		m.rejected[reason] = rejected.WithLabelValues(reason)
	}
	return m
}

// ownReasons are the codes with which the handler itself rejects.
func ownReasons() []string {
	reasons := []string{outcomeTooLarge, callback.ErrUserReferenceUnsigned.Error(), callback.ErrUserReferenceInvalid.Error(), reasonOther}
	for _, err := range []callback.DecodeError{
		callback.ErrEmptyBody, callback.ErrInvalidJSON, callback.ErrTruncatedJSON, callback.ErrTrailingData, callback.ErrInvalidForm,
		callback.ErrNotACallback, callback.ErrMissingID, callback.ErrInvalidID, callback.ErrIncompleteBody,
	} {
		reasons = append(reasons, err.Error())
	}
	return reasons
}

// observe counts a request on the callback path by its outcome and, if it is
// rejected, by its reason's code.
func (m *Metrics) observe(x *exchange, seconds float64) {
	m.callbacks[x.outcome].Inc()
	m.duration.Observe(seconds)
	reason := strings.TrimPrefix(x.reason, reasonMalformed)
	switch x.outcome {
	case outcomeTooLarge:
		reason = outcomeTooLarge
	case outcomeForbidden, outcomeMalformed:
		reason, _, _ = strings.Cut(reason, ":")
	default:
		return
	}
	counter, known := m.rejected[reason]
	if !known {
		counter = m.rejected[reasonOther]
	}
	counter.Inc()
}
