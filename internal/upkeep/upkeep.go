// Package upkeep is what workers do for the database besides their work: it makes the
// partitions of coming months, reads details that a previous version has stored, and
// measures both, and how far consumers are behind.
//
// It neither promotes nor retrieves. Whatever it cannot do now it does later: nothing
// waits for it.
package upkeep

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"callbackd/internal/periodic"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

const (
	partitionInterval = 10 * time.Minute
	// partitionTimeout bounds the check of a partition's rows.
	partitionTimeout = 9 * time.Minute
	moveInterval     = time.Minute
	consumerInterval = 15 * time.Second
	// mostCounted bounds what is read to measure a consumer's lag.
	mostCounted = 100_000
)

// Options are an Upkeep's settings.
type Options struct {
	DB  *store.DB
	Log *zap.Logger
	// UserReferenceKey is that of signed user references; empty for none.
	UserReferenceKey string
	Registerer       prometheus.Registerer
}

// Upkeep runs from Start until Stop.
type Upkeep struct {
	Options
	results *results.Store
	ahead   *prometheus.GaugeVec
	lag     *prometheus.GaugeVec

	running periodic.Group
}

// New creates an Upkeep; nothing runs before Start.
func New(o Options) *Upkeep {
	registered := promauto.With(o.Registerer)
	return &Upkeep{
		Options: o, results: results.New(o.DB),
		ahead: registered.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_partitions_ahead",
			Help: "Whole months after the current one that have a partition of their own, by table.",
		}, []string{"table"}),
		lag: registered.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_consumer_lag_events",
			Help: "Events that a consumer has not handled, at most 100,000.",
		}, []string{"consumer"}),
	}
}

// Start begins the upkeep.
func (u *Upkeep) Start(ctx context.Context) {
	ctx = u.running.Begin(ctx)
	for _, task := range []struct {
		interval, timeout time.Duration
		do                func(context.Context)
	}{
		{partitionInterval, partitionTimeout, u.partitions},
		{moveInterval, moveInterval, u.move},
		{consumerInterval, consumerInterval, u.consumers},
	} {
		u.running.Run(ctx, task.interval, task.timeout, task.do)
	}
}

// Stop ends the upkeep, and returns once it has ended.
func (u *Upkeep) Stop() {
	u.running.Stop()
}

func (u *Upkeep) partitions(ctx context.Context) {
	err := u.results.EnsurePartitions(ctx, time.Now())
	if err != nil && ctx.Err() == nil {
		u.Log.Warn("could not make partitions; it will be retried", zap.Error(err))
	}
	ahead, err := u.results.PartitionsAhead(ctx, time.Now())
	if err != nil {
		return // the metric stays
	}
	for table, months := range ahead {
		u.ahead.WithLabelValues(table).Set(float64(months))
	}
}

func (u *Upkeep) move(ctx context.Context) {
	if err := u.results.MoveDetails(ctx, u.UserReferenceKey, nil); err != nil && ctx.Err() == nil {
		u.Log.Warn("could not read details of the previous version; it will be retried", zap.Error(err))
	}
}

func (u *Upkeep) consumers(ctx context.Context) {
	lag, err := u.results.ConsumerLag(ctx, mostCounted)
	if err != nil {
		return // the metric stays
	}
	u.lag.Reset() // consumers can be deleted
	for consumer, events := range lag {
		u.lag.WithLabelValues(consumer).Set(float64(events))
	}
}
