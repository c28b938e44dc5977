package retention

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

func newBehind(r prometheus.Registerer) *prometheus.GaugeVec {
	return promauto.With(r).NewGaugeVec(prometheus.GaugeOpts{
		Name: "callbackd_retention_behind_seconds",
		Help: "For how long the oldest row that should be gone by CALLBACKD_RETENTION is overdue, by class; 0 if there is none.",
	}, []string{"class"})
}
