// Package health asks Jumio for the state of its services (guide, "Health Check"), and
// says what follows from it: which data centers' retrievals wait, and whose callbacks
// cannot be relied on.
//
// It makes no instance unready, and while a question fails it holds nothing back.
package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/periodic"
)

// The services that something follows from, as the guide names them.
const (
	serviceRetrieval = "retrieval"
	serviceCallback  = "callback"
	serviceAll       = "all" // the label for the whole
)

// Options are a Monitor's settings.
type Options struct {
	Jumio *jumio.Client
	// DataCenters are asked; none asks nobody.
	DataCenters []string
	// Interval is how often; 0 never.
	Interval time.Duration
	// Resumed is called when a data center's retrievals may go on.
	Resumed    func(dataCenter string)
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Monitor asks from Start until Stop.
type Monitor struct {
	Options
	gauge *prometheus.GaugeVec

	mu     sync.Mutex
	latest map[string]*jumio.Health // by data center; nil after a question that failed

	running periodic.Group
}

// New creates a Monitor; nothing runs before Start.
func New(o Options) *Monitor {
	return &Monitor{
		Options: o, latest: make(map[string]*jumio.Health),
		gauge: promauto.With(o.Registerer).NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_jumio_health",
			Help: "What Jumio says of its services: 1 UP, 0.5 DEGRADED, 0 DOWN; no sample if it does not say.",
		}, []string{"data_center", "service"}),
	}
}

// Start begins to ask.
func (m *Monitor) Start(ctx context.Context) {
	ctx = m.running.Begin(ctx)
	if m.Interval == 0 {
		return
	}
	for _, dataCenter := range m.DataCenters {
		// The client bounds each question.
		m.running.Run(ctx, m.Interval, 0, func(ctx context.Context) { m.ask(ctx, dataCenter) })
	}
}

// Stop ends what Start began, and returns once it has ended.
func (m *Monitor) Stop() {
	m.running.Stop()
}

func (m *Monitor) ask(ctx context.Context, dataCenter string) {
	h, err := m.Jumio.Health(ctx, dataCenter)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		h = nil
	}
	m.mu.Lock()
	before, asked := m.latest[dataCenter]
	m.latest[dataCenter] = h
	m.mu.Unlock()
	m.observe(dataCenter, h)
	if was, is := describe(before), describe(h); was != is && (asked || is != jumio.HealthUp) {
		m.Log.Warn("Jumio's health has changed", zap.String("data_center", dataCenter), zap.String("health", is), zap.String("before", was), zap.Error(err))
	}
	if down(before, serviceRetrieval) && !down(h, serviceRetrieval) {
		m.Resumed(dataCenter)
	}
}

// observe sets the samples of the services that Jumio speaks of. While all is up, it
// speaks of none.
func (m *Monitor) observe(dataCenter string, h *jumio.Health) {
	for _, service := range append(jumio.HealthServices(), serviceAll) {
		state := stateOf(h, service)
		value, known := map[string]float64{jumio.HealthUp: 1, jumio.HealthDegraded: 0.5, jumio.HealthDown: 0}[state]
		if !known {
			m.gauge.DeleteLabelValues(dataCenter, service)
			continue
		}
		m.gauge.WithLabelValues(dataCenter, service).Set(value)
	}
}

func stateOf(h *jumio.Health, service string) string {
	switch {
	case h == nil:
		return ""
	case service == serviceAll:
		return h.Status
	}
	state, named := h.Details[service]
	if !named && h.Status == jumio.HealthUp {
		return jumio.HealthUp
	}
	return state
}

func down(h *jumio.Health, service string) bool { return stateOf(h, service) == jumio.HealthDown }

// describe is for people: the state, and the services that are not up.
func describe(h *jumio.Health) string {
	if h == nil {
		return "unknown"
	}
	text := h.Status
	if text == "" {
		text = "unknown"
	}
	var services []string
	for _, service := range jumio.HealthServices() {
		if state := h.Details[service]; state != "" && state != jumio.HealthUp {
			services = append(services, service+" "+state)
		}
	}
	if len(services) > 0 {
		text += " (" + strings.Join(services, ", ") + ")"
	}
	return text
}

// Holds reports whether a data center's retrievals wait: Jumio says that its retrieval
// service is DOWN.
func (m *Monitor) Holds(dataCenter string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return down(m.latest[dataCenter], serviceRetrieval)
}

// CallbacksDown returns the data centers whose callbacks Jumio reports as DOWN or
// DEGRADED.
func (m *Monitor) CallbacksDown() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.DataCenters), func(dataCenter string) bool {
		state := stateOf(m.latest[dataCenter], serviceCallback)
		return state != jumio.HealthDown && state != jumio.HealthDegraded
	})
}

// Summary is one line for each data center that was asked, for people.
func (m *Monitor) Summary() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for _, dataCenter := range m.DataCenters {
		if h, asked := m.latest[dataCenter]; asked {
			lines = append(lines, fmt.Sprintf("Jumio in %s: %s", dataCenter, describe(h)))
		}
	}
	return lines
}
