package intake

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/spool"
)

// The outcomes of callbackd_spool_moved_total.
const (
	drainedStored     = "stored"
	drainedRejected   = "rejected"
	drainedUnstorable = "unstorable"
)

// newMetrics registers the spool's metrics, which are 0 without a spool, and returns
// the counter of drained callbacks by outcome.
func newMetrics(reg prometheus.Registerer, i *Intake) *prometheus.CounterVec {
	stats := func() spool.Stats {
		if i.spool == nil {
			return spool.Stats{}
		}
		return i.spool.Stats()
	}
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("callbackd_spool_bytes", "Size of the spool on disk.",
		func() float64 { return float64(stats().Bytes) })
	limit := 0.0
	if i.spool != nil {
		limit = float64(i.o.SpoolMaxBytes)
	}
	gauge("callbackd_spool_max_bytes", "The spool's size limit; 0 without a spool.",
		func() float64 { return limit })
	gauge("callbackd_spool_callbacks", "Callbacks in the spool.",
		func() float64 { return float64(stats().Callbacks) })
	gauge("callbackd_spool_oldest_timestamp_seconds", "Unix time at which the oldest callback in the spool was received; 0 if the spool is empty.",
		func() float64 { return unix(stats().Oldest) })
	gauge("callbackd_spool_since_timestamp_seconds", "Unix time since which callbacks go into the spool; 0 while they go into the database.",
		func() float64 {
			if out := i.outage.Load(); out != nil {
				return unix(out.since)
			}
			return 0
		})
	gauge("callbackd_spool_failing", "1 while the spool's disk does not take callbacks because it is full, broken or stalled; 0 otherwise, and without a spool.",
		func() float64 {
			if i.spool != nil && i.spool.Failing() != nil {
				return 1
			}
			return 0
		})
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "callbackd_spool_damages_total", Help: "Callbacks and ends of files in the spool that could not be read.",
	}, func() float64 { return float64(stats().Damages) }))
	drained := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "callbackd_spool_moved_total",
		Help: "Callbacks drained from the spool: stored, rejected (dead letters in the database), unstorable (dead letters on disk).",
	}, []string{"outcome"})
	reg.MustRegister(drained)
	for _, outcome := range []string{drainedStored, drainedRejected, drainedUnstorable} {
		drained.WithLabelValues(outcome) // so that each is 0 before it first happens
	}
	return drained
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / float64(time.Second/time.Millisecond)
}
