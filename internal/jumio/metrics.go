package jumio

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts the requests to Jumio.
type Metrics struct {
	requests   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	imageBytes prometheus.Counter
}

// NewMetrics registers the client's metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_jumio_requests_total",
			Help: "Requests to Jumio by endpoint and by HTTP status, or by error code if there was no response or a 200 that could not be used.",
		}, []string{"endpoint", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "callbackd_jumio_request_duration_seconds",
			Help:    "Time from sending a request to Jumio to the end of the response body.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"endpoint"}),
		imageBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callbackd_image_bytes_total",
			Help: "Bytes of images retrieved from Jumio and found complete.",
		}),
	}
	reg.MustRegister(m.requests, m.duration, m.imageBytes)
	// Each starts at 0: a series that begins with 1 does not show as an increase.
	for _, endpoint := range []string{EndpointToken, EndpointStatus, EndpointDetails, EndpointImage, EndpointDelete, EndpointHealth} {
		m.duration.WithLabelValues(endpoint)
		for _, status := range []int{
			http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
			http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable,
		} {
			m.requests.WithLabelValues(endpoint, strconv.Itoa(status))
		}
		for _, code := range []string{CodeTimeout, CodeConnectionFailed} {
			m.requests.WithLabelValues(endpoint, code)
		}
	}
	return m
}

// observe counts one request and its outcome.
func (m *Metrics) observe(endpoint string, took time.Duration, err error) {
	m.requests.WithLabelValues(endpoint, outcome(err)).Inc()
	m.duration.WithLabelValues(endpoint).Observe(took.Seconds())
}

// outcome is the label value of a request's result. A success is 200, also a creation's
// 201. Undefined statuses share one, so
// that a server cannot invent labels.
func outcome(err error) string {
	e, ok := errors.AsType[*Error](err)
	switch {
	case err == nil:
		return "200"
	case !ok:
		return "other"
	case e.HTTPStatus == 0 || e.HTTPStatus == http.StatusOK:
		return e.Code
	case http.StatusText(e.HTTPStatus) == "":
		return "other"
	}
	return strconv.Itoa(e.HTTPStatus)
}
