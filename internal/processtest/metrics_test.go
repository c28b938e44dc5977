package processtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox"
)

// metricNames are those of the contract for metrics. Histograms are there as
// the name with _count.
var metricNames = []string{
	"callbackd_callbacks_total", "callbackd_callback_duration_seconds_count", "callbackd_ingest_batch_size_count",
	"callbackd_retrievals_total", "callbackd_retrieval_attempts_total", "callbackd_retrieval_backlog",
	"callbackd_retrieval_lag_seconds_count", "callbackd_jumio_requests_total", "callbackd_jumio_request_duration_seconds_count",
	"callbackd_image_bytes_total", "callbackd_allowlist_addresses", "callbackd_dns_refresh_total",
	"callbackd_dns_last_success_timestamp_seconds", "callbackd_build_info",
	"callbackd_future_dated_callbacks_total", "callbackd_contradicting_callbacks_total", "callbackd_dead_letters_total",
	"callbackd_requeued_retrievals_total", "callbackd_promotion_progress_timestamp_seconds",
	"go_goroutines", "process_resident_memory_bytes", "callbackd_pool_connections",
}

// metricLabels are those of the contract, as the samples begin with them.
var metricLabels = []string{
	`callbackd_callbacks_total{outcome="spooled"}`,
	`callbackd_callbacks_total{outcome="malformed"}`,
	`callbackd_callbacks_total{outcome="too_large"}`,
	`callbackd_callbacks_total{outcome="unavailable"}`,
	`callbackd_retrieval_attempts_total{outcome="ok"}`,
	`callbackd_jumio_requests_total{code="200",endpoint="details"}`,
	`callbackd_jumio_request_duration_seconds_count{endpoint="details"}`,
	`callbackd_allowlist_addresses{source="us"}`,
	`callbackd_dns_refresh_total{host="callback.test",outcome="ok"}`,
	`callbackd_dns_last_success_timestamp_seconds{host="callback.test"}`,
}

// checkMetrics: every metric of the contract is there, and those that count
// agree, over both instances, with the database and the sandbox.
func checkMetrics(t *testing.T, db *database, s, worker *instance, l sandbox.Ledger) {
	t.Helper()
	samples := s.metrics(t)
	for _, name := range metricNames {
		if sum(samples, name) == nil {
			t.Errorf("no metric %s", name)
		}
	}
	for _, sample := range metricLabels {
		if _, found := samples[sample]; !found {
			t.Errorf("no metric %s", sample)
		}
	}
	images := 0
	for _, e := range l.Journeys {
		for _, i := range e.Images {
			images += i.OK
		}
	}
	inState := func(states ...string) int {
		return db.count(`SELECT count(*) FROM jumio.workflow_executions WHERE retrieval_state = ANY ($1)`, states)
	}
	want := map[string]int{
		`callbackd_callbacks_total{outcome="stored"}`:                 l.Totals.CallbacksAcknowledged,
		`callbackd_callbacks_total{outcome="forbidden"}`:              1,
		`callbackd_callback_duration_seconds_count`:                   l.Totals.CallbacksAcknowledged + 1,
		`callbackd_ingest_batch_size_sum`:                             l.Totals.CallbacksAcknowledged,
		`callbackd_retrievals_total{outcome="retrieved"}`:             inState("retrieved"),
		`callbackd_retrievals_total{outcome="partial"}`:               inState("partial"),
		`callbackd_retrievals_total{outcome="failed"}`:                inState("failed"),
		`callbackd_retrieval_lag_seconds_count`:                       inState("retrieved", "partial"),
		`callbackd_retrieval_attempts_total`:                          db.count(`SELECT sum(retrieval_attempts)::int FROM jumio.workflow_executions`),
		`callbackd_jumio_requests_total{code="200",endpoint="image"}`: images,
		`callbackd_image_bytes_total`:                                 db.count(`SELECT sum(size_bytes)::int FROM jumio.images`),
		`callbackd_allowlist_addresses{source="dns"}`:                 1,
	}
	// What is counted is in the database a moment before it is in the metrics.
	eventually(t, patience, func() error {
		got := map[string]int{}
		for _, samples := range []map[string]float64{s.metrics(t), worker.metrics(t)} {
			for name := range want {
				if total := sum(samples, name); total != nil {
					got[name] += int(*total)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New("metrics (-want +got):\n" + diff)
		}
		return nil
	})
}

// sum adds up all samples of a metric, or is the one sample where the name has
// labels; nil when there is none.
func sum(samples map[string]float64, name string) *float64 {
	var total *float64
	for sample, value := range samples {
		if sample != name && !strings.HasPrefix(sample, name+"{") {
			continue
		}
		if total == nil {
			total = new(float64)
		}
		*total += value
	}
	return total
}
