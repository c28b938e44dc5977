package imagestore

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The labels of the metrics.
const (
	opPut, opGet, opDelete, opList         = "put", "get", "delete", "list"
	resultOK, resultNotFound, resultFailed = "ok", "not_found", "failed"
)

// Metrics are those of the requests to an image store.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics registers the metrics with reg, also where there is no image store.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	registered := promauto.With(reg)
	m := &Metrics{
		requests: registered.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_image_store_requests_total",
			Help: "Requests to the image store, by operation (put, get, delete, list) and outcome: ok, not_found, failed.",
		}, []string{"operation", "outcome"}),
		duration: registered.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "callbackd_image_store_request_duration_seconds",
			Help:    "How long requests to the image store took, by operation; get until the object is open.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"operation"}),
	}
	for _, operation := range []string{opPut, opGet, opDelete, opList} {
		m.duration.WithLabelValues(operation)
		for _, outcome := range []string{resultOK, resultFailed} {
			m.requests.WithLabelValues(operation, outcome)
		}
	}
	m.requests.WithLabelValues(opGet, resultNotFound)
	return m
}

func (m *Metrics) observe(operation string, began time.Time, err error) {
	outcome := resultOK
	switch {
	case errors.Is(err, ErrNotFound):
		outcome = resultNotFound
	case err != nil:
		outcome = resultFailed
	}
	m.requests.WithLabelValues(operation, outcome).Inc()
	m.duration.WithLabelValues(operation).Observe(time.Since(began).Seconds())
}

// measured is a store whose operations are bounded and measured.
type measured struct {
	Store
	metrics *Metrics
}

func (s *measured) Put(ctx context.Context, key string, content io.Reader, size int64) error {
	return s.do(ctx, opPut, func(ctx context.Context) error { return s.Store.Put(ctx, key, content, size) })
}

func (s *measured) Delete(ctx context.Context, key string) error {
	return s.do(ctx, opDelete, func(ctx context.Context) error { return s.Store.Delete(ctx, key) })
}

func (s *measured) do(ctx context.Context, operation string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	began := time.Now()
	err := do(ctx)
	s.metrics.observe(operation, began, err)
	return err
}

func (s *measured) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	began := time.Now()
	object, err := s.Store.Get(ctx, key)
	s.metrics.observe(opGet, began, err)
	return object, err
}

func (s *measured) List(ctx context.Context, each func(Object) error) error {
	began := time.Now()
	err := s.Store.List(ctx, each)
	s.metrics.observe(opList, began, err)
	return err
}
