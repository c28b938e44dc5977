// Package disposer deletes the objects of images that are gone: whoever deletes or replaces
// the row of an image queues its object in the same transaction, and a worker deletes it
// here, again and again until the store says that it is gone.
//
// It decides nothing: what is queued is deleted. Without an image store it only counts.
package disposer

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"callbackd/internal/imagestore"
	"callbackd/internal/periodic"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

const (
	interval      = 2 * time.Second
	staleInterval = time.Minute
	countInterval = 15 * time.Second
	// batch is how many objects are taken together, and atOnce how many requests for them
	// are made at a time.
	batch, atOnce = 100, 8
)

// Options are a Disposer's settings.
type Options struct {
	DB *store.DB
	// Store has the objects; nil if images are in the database.
	Store      imagestore.Store
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Disposer runs from Start until Stop.
type Disposer struct {
	Options
	results         *results.Store
	waiting, oldest prometheus.Gauge

	running periodic.Group
}

// New creates a Disposer; nothing runs before Start.
func New(o Options) *Disposer {
	registered := promauto.With(o.Registerer)
	return &Disposer{
		Options: o, results: results.New(o.DB),
		waiting: registered.NewGauge(prometheus.GaugeOpts{
			Name: "callbackd_object_deletions_waiting",
			Help: "Objects of the image store that are to be deleted, in the whole database.",
		}),
		oldest: registered.NewGauge(prometheus.GaugeOpts{
			Name: "callbackd_object_deletions_oldest_timestamp_seconds",
			Help: "Unix time since which the object waits that has waited longest to be deleted, in the whole database; 0 if none does.",
		}),
	}
}

// Start begins to delete.
func (d *Disposer) Start(ctx context.Context) {
	ctx = d.running.Begin(ctx)
	d.running.Run(ctx, countInterval, countInterval, d.count)
	d.running.Run(ctx, staleInterval, staleInterval, d.abandonStale)
	if d.Store != nil {
		d.running.Run(ctx, interval, 0, d.delete)
	}
}

// Stop ends it, and returns once it has ended.
func (d *Disposer) Stop() {
	d.running.Stop()
}

func (d *Disposer) count(ctx context.Context) {
	waiting, oldest, err := d.results.DeletionsWaiting(ctx)
	if err != nil {
		return // the metrics stay
	}
	d.waiting.Set(float64(waiting))
	d.oldest.Set(0)
	if !oldest.IsZero() {
		d.oldest.Set(float64(oldest.Unix()))
	}
}

func (d *Disposer) abandonStale(ctx context.Context) {
	if err := d.results.AbandonStaleUploads(ctx); err != nil && ctx.Err() == nil {
		d.Log.Warn("could not look for uploads that crashes have left; it will be retried", zap.Error(err))
	}
}

func (d *Disposer) delete(ctx context.Context) {
	if _, err := DeleteDue(ctx, d.results, d.Store); err != nil && ctx.Err() == nil {
		d.Log.Warn("could not delete objects of images; it will be retried", zap.Error(err))
	}
}

// DeleteDue deletes the objects that are to be deleted now, and returns how many are gone.
// After an error, those that are not come back after a while, as do those of a process
// that dies meanwhile.
func DeleteDue(ctx context.Context, r *results.Store, s imagestore.Store) (deleted int, err error) {
	for {
		keys, err := r.TakeDeletions(ctx, s.Kind(), batch)
		if err != nil || len(keys) == 0 {
			return deleted, err
		}
		gone, failed := deleteAll(ctx, s, keys)
		if len(gone) > 0 {
			if err := r.DeletionsDone(ctx, gone); err != nil {
				return deleted, err
			}
		}
		deleted += len(gone)
		if failed != nil {
			return deleted, failed
		}
	}
}

// deleteAll returns the keys whose objects are gone, and one of the errors of the others.
func deleteAll(ctx context.Context, s imagestore.Store, keys []string) (gone []string, err error) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	var mu sync.Mutex
	for _, key := range keys {
		group.Go(func() error {
			if err := s.Delete(ctx, key); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			gone = append(gone, key)
			return nil
		})
	}
	err = group.Wait()
	return gone, err
}
