// Package retention deletes what has been kept for long enough, as CALLBACKD_RETENTION
// says: when a worker starts, and then at least every five minutes, by one worker at a
// time. What goes together, by month, it drops as a partition; the rest it deletes in
// small batches.
//
// It decides nothing: what is due, and what is spared, is in internal/store/results. It
// erases nobody: internal/eraser does.
package retention

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/periodic"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

const (
	// tick is how often a worker asks whether it is time to look; pause is how long ago the
	// last look must be. Together they are less than five minutes.
	tick, pause = 15 * time.Second, 4 * time.Minute
	// A partition of more rows than one statement looks at is looked through whole only after
	// wholePause times as long as that has taken, so that what is spared for years costs
	// little, but at least once in mostWhole; in between, only as far as time has moved on.
	wholePause, mostWhole = 500, 24 * time.Hour
)

// Options are a Keeper's settings.
type Options struct {
	DB *store.DB
	// Rules are those of CALLBACKD_RETENTION; none deletes nothing.
	Rules []results.RetentionRule
	// Classes are all that there are, for the metric.
	Classes []string
	// Now is time.Now, but in tests.
	Now        func() time.Time
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Keeper runs from Start until Stop.
type Keeper struct {
	Options
	results *results.Store
	behind  *prometheus.GaugeVec
	// looked reports whether this process has looked since it started.
	looked bool
	// seen is how far partitions have been looked through, by their names.
	seen map[string]seen

	running periodic.Group
}

// seen is how far a partition has been looked through.
type seen struct {
	// whole is when it is to be looked through whole again.
	whole time.Time
	// until is the time of ids up to which it has been.
	until time.Time
}

// New creates a Keeper; nothing runs before Start.
func New(o Options) *Keeper {
	k := &Keeper{
		Options: o, results: results.New(o.DB), seen: map[string]seen{},
		behind: newBehind(o.Registerer),
	}
	for _, class := range o.Classes {
		k.behind.WithLabelValues(class).Set(0)
	}
	return k
}

// Start begins to look.
func (k *Keeper) Start(ctx context.Context) {
	if len(k.Rules) == 0 {
		return
	}
	ctx = k.running.Begin(ctx)
	k.running.Run(ctx, tick, 0, k.tick)
	k.running.Run(ctx, tick, tick, k.measure)
}

// Stop ends what Start began, and returns once it has ended.
func (k *Keeper) Stop() {
	k.running.Stop()
}

func (k *Keeper) tick(ctx context.Context) {
	if err := k.Look(ctx); err != nil && ctx.Err() == nil {
		k.Log.Warn("could not carry out the retention; it will be retried", zap.Error(err))
	}
}

func (k *Keeper) measure(ctx context.Context) {
	since, err := k.results.RetentionBehind(ctx, k.ruled())
	if err != nil {
		return // the metric stays
	}
	for class, at := range since {
		behind := time.Duration(0)
		if !at.IsZero() {
			behind = max(k.Now().Sub(at), 0)
		}
		k.behind.WithLabelValues(class).Set(behind.Seconds())
	}
}

// ruled returns the classes that have a rule.
func (k *Keeper) ruled() (classes []string) {
	for _, rule := range k.Rules {
		classes = append(classes, rule.Class)
	}
	slices.Sort(classes)
	return slices.Compact(classes)
}

// Look deletes what is due, unless another worker does so now, or one has less than four
// minutes ago, since this process has started.
func (k *Keeper) Look(ctx context.Context) error {
	since := pause
	if !k.looked {
		since = 0
	}
	lease, err := k.results.ClaimRetention(ctx, since)
	if err != nil || lease == nil {
		return err
	}
	l := &look{Keeper: k, lease: lease, now: k.Now(), late: map[string]time.Time{}}
	complete, err := l.all(ctx)
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	k.looked = k.looked || complete
	return errors.Join(err, k.results.EndRetention(endCtx, lease, l.oldest(), complete))
}

// endTimeout bounds giving the lease back.
const endTimeout = 2 * time.Second

// look is one look at all partitions.
type look struct {
	*Keeper
	lease *results.RetentionLease
	now   time.Time
	// late is, by class, since when the oldest row is due that could not be deleted; found
	// that of those that are being deleted.
	late, found map[string]time.Time
}

// all looks at the partitions, and goes on when something in one cannot be deleted now. It
// reports whether it has seen all that is due.
func (l *look) all(ctx context.Context) (complete bool, err error) {
	if err := l.countImages(ctx); err != nil { // of a look that was cut short
		return false, err
	}
	r := results.Retention{Rules: l.Rules, Now: l.now}
	list, err := l.results.RetainedPartitions(ctx, r)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, p := range list {
		err := l.partition(ctx, r, p)
		if err == nil {
			continue
		}
		errs = append(errs, err)
		if l.found == nil || l.renew(ctx) != nil {
			return false, errors.Join(errs...)
		}
		l.late = l.oldest()
	}
	return true, errors.Join(errs...)
}

// partition deletes what is due in one. After an error, found is nil if it is not known what
// is due.
func (l *look) partition(ctx context.Context, r results.Retention, p *results.RetainedPartition) error {
	was, began := l.seen[p.Name], time.Now()
	until := r.Until(p)
	whole, scan := !began.Before(was.whole), results.Scan{}
	if !whole {
		if scan = (results.Scan{From: was.until, Before: until}); !scan.From.Before(scan.Before) {
			return nil
		}
	}
	taken := map[string]int64{}
	defer func() { l.report(p, taken, false) }()
	statements := 0
	for ; statements == 0 || scan.After != ""; statements++ {
		l.found = nil
		due, err := l.results.FindDue(ctx, r, p, scan)
		if err != nil {
			return err
		}
		l.found = due.Oldest
		if statements == 0 && whole && due.All {
			dropped, err := l.results.DropDue(ctx, r, p, func() error { return l.rest(ctx, 0) })
			if err != nil {
				return err
			}
			if dropped != nil {
				l.report(p, dropped, true)
				l.found = map[string]time.Time{}
				return l.countImages(ctx)
			}
		}
		if err := l.take(ctx, r, p, due, taken); err != nil {
			return err
		}
		scan.After = due.Last
	}
	l.found = nil
	if whole && statements > 1 {
		was.whole = time.Now().Add(min(wholePause*time.Since(began), mostWhole))
	}
	was.until = until
	l.seen[p.Name] = was
	return nil
}

// take deletes rows in batches, and rests after each for as long as it took.
func (l *look) take(ctx context.Context, r results.Retention, p *results.RetainedPartition, due *results.Due, taken map[string]int64) error {
	for ids := range slices.Chunk(due.IDs, results.RetentionBatch) {
		began := time.Now()
		n, err := l.results.TakeDue(ctx, r, p, ids)
		if err != nil {
			return err
		}
		for class, rows := range n {
			taken[class] += rows
		}
		if err := l.rest(ctx, time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// rest keeps the lease, and waits, at most a second.
func (l *look) rest(ctx context.Context, pause time.Duration) error {
	if err := l.renew(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(pause, time.Second)):
		return nil
	}
}

func (l *look) renew(ctx context.Context) error {
	return l.results.RenewRetention(ctx, l.lease, l.oldest())
}

// oldest returns, by class, since when the oldest row that is still there is due.
func (l *look) oldest() map[string]time.Time {
	oldest := maps.Clone(l.late)
	for class, at := range l.found {
		if was, ok := oldest[class]; !ok || at.Before(was) {
			oldest[class] = at
		}
	}
	return oldest
}

func (l *look) countImages(ctx context.Context) error {
	for {
		n, err := l.results.CountImages(ctx)
		if err != nil || n == 0 {
			return err
		}
	}
}

// report logs what has gone.
func (l *look) report(p *results.RetainedPartition, taken map[string]int64, dropped bool) {
	for _, class := range slices.Sorted(maps.Keys(taken)) {
		if taken[class] > 0 {
			l.Log.Info("deleted what was kept for long enough", zap.String("class", class), zap.String("month", p.Month()),
				zap.Int64("rows", taken[class]), zap.Bool("whole_partition", dropped))
		}
	}
}
