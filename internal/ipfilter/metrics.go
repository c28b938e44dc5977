package ipfilter

import "github.com/prometheus/client_golang/prometheus"

// Metrics are those of the allowlist and of the requests that it rejects.
type Metrics struct {
	addresses   *prometheus.GaugeVec
	refreshes   *prometheus.CounterVec
	lastSuccess *prometheus.GaugeVec
	undeclared  *prometheus.GaugeVec
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_allowlist_addresses",
			Help: "Allowed addresses by source: us, eu and sg (built-in lists), cidr (configured CIDRs, each counts once), dns (in the last good answer), dns_grace (left DNS, still allowed).",
		}, []string{"source"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_dns_refresh_total",
			Help: "Look-ups of a host name by outcome: ok, partial (A or AAAA failed), not_found (NXDOMAIN or no address), not_public (no public address), timeout, server_failure.",
		}, []string{"host", "outcome"}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_dns_last_success_timestamp_seconds",
			Help: "Unix time of the last answer with an address for a host name.",
		}, []string{"host"}),
		undeclared: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_undeclared_proxy",
			Help: "1 for each private address that is rejected and is probably a load balancer missing from CALLBACKD_TRUSTED_PROXIES.",
		}, []string{"address"}),
	}
	reg.MustRegister(m.addresses, m.refreshes, m.lastSuccess, m.undeclared)
	return m
}
