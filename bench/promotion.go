package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// promotion lets one instance receive at full rate and promote at the same time:
// once with callbacks that lead to no retrieval, once with callbacks that each
// lead to a job, due only after the end of the benchmark.
func (b *bench) promotion(ctx context.Context) error {
	for _, status := range []string{acquired, processed} {
		err := b.withDatabase(ctx, func(dsn string) error {
			p, err := b.promote(ctx, dsn, status)
			if err != nil {
				return fmt.Errorf("status %s: %w", status, err)
			}
			b.results.addPromotion(p)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// promoted is how promotion kept up. Rates are callbacks a second.
type promoted struct {
	Status       string
	Seconds      float64 // of receiving
	ReceivedRate float64
	PromotedRate float64
	Backlog      []int   // each second while receiving
	EmptyAfter   float64 // seconds after receiving ended; if not Emptied, how long it was watched
	Emptied      bool
}

const (
	// drainWanted is how long the backlog may take to become empty.
	drainWanted = 10 * time.Second
	// drainPatience is how long it is watched.
	drainPatience = 20 * time.Second
)

func (b *bench) promote(ctx context.Context, dsn, status string) (p promoted, err error) {
	// Jumio is never asked, so nothing has to listen there.
	env := append(workerSettings("http://127.0.0.1:9"), "CALLBACKD_RETRIEVAL_DELAYS=1h")
	s, err := b.startCallbackd(ctx, dsn, env...)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return p, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(ctx) // only read from
	l, backlog, err := b.loadAndSample(ctx, s, conn, status)
	if err != nil {
		return p, err
	}
	ended := time.Now()
	atEnd, err := countBacklog(ctx, conn)
	if err != nil {
		return p, err
	}
	wall := time.Duration(l.Duration) * time.Microsecond
	p = promoted{
		Status: status, Seconds: wall.Seconds(), ReceivedRate: l.rate(),
		PromotedRate: float64(l.Requests-atEnd) / wall.Seconds(), Backlog: backlog,
	}
	err = poll(ctx, drainPatience, 50*time.Millisecond, "the backlog to become empty", func() (bool, error) {
		n, err := countBacklog(ctx, conn)
		return n == 0, err
	})
	if err != nil && !errors.Is(err, errPatience) {
		return p, err
	}
	p.Emptied = err == nil
	p.EmptyAfter = time.Since(ended).Seconds()
	b.progress("promotion %s  received %.0f/s, promoted %.0f/s, %s", status, p.ReceivedRate, p.PromotedRate, p.drained())
	if !p.Emptied {
		return p, nil // the figure reports it
	}
	return p, checkPromoted(ctx, conn, status, l.Requests)
}

// loadAndSample looks at the backlog each second while the load lasts.
func (b *bench) loadAndSample(ctx context.Context, s *server, conn *pgx.Conn, status string) (load, []int, error) {
	var l load
	var backlog []int
	ended := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		defer close(ended)
		l, err = b.wrk(ctx, s, fullLoad, b.promoteFor, status)
		return err
	})
	group.Go(func() error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return nil
			case <-tick.C:
			}
			n, err := countBacklog(ctx, conn)
			if err != nil {
				return err
			}
			backlog = append(backlog, n)
		}
	})
	return l, backlog, group.Wait()
}

// countBacklog counts the callbacks that are stored and not promoted yet.
func countBacklog(ctx context.Context, conn *pgx.Conn) (n int, err error) {
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM callbackd.inbox").Scan(&n); err != nil {
		return 0, fmt.Errorf("count the backlog: %w", err)
	}
	return n, nil
}

// checkPromoted: every stored callback has reached its workflow execution, and,
// if it asks for one, a retrieval is pending.
func checkPromoted(ctx context.Context, conn *pgx.Conn, status string, answered int) error {
	var stored, counted, pending int
	err := conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM jumio.callbacks), coalesce(sum(callback_count), 0)::bigint,
		count(*) FILTER (WHERE retrieval_state = 'pending') FROM jumio.workflow_executions`).Scan(&stored, &counted, &pending)
	if err != nil {
		return fmt.Errorf("count what was promoted: %w", err)
	}
	if err := checkStored("callbackd", answered, stored, fullLoad); err != nil {
		return err
	}
	wanted := 0
	if status == processed {
		wanted = stored
	}
	if counted != stored || pending != wanted {
		return fmt.Errorf("of %d callbacks, %d were promoted, with %d pending retrievals instead of %d", stored, counted, pending, wanted)
	}
	return nil
}

// bounded reports whether a backlog has stopped growing: in the second half it
// stays below one and a half times the first half's maximum (steady growth would
// double it), or below one second's callbacks.
func bounded(backlog []int, perSecond float64) bool {
	half := len(backlog) / 2
	first, second := highestOf(backlog[:half]), highestOf(backlog[half:])
	return float64(second) <= max(1.5*float64(first), perSecond)
}

// highestOf is 0 for none.
func highestOf(list []int) int { return slices.Max(append([]int{0}, list...)) }

// drained says what became of the backlog.
func (p *promoted) drained() string {
	if !p.Emptied {
		return fmt.Sprintf("backlog at most %d, not empty after %.0f s", highestOf(p.Backlog), p.EmptyAfter)
	}
	return fmt.Sprintf("backlog at most %d, empty after %.1f s", highestOf(p.Backlog), p.EmptyAfter)
}

func (r *results) addPromotion(p promoted) {
	what := "promoted/s while receiving, no retrieval follows"
	if p.Status == processed {
		what = "promoted/s while receiving, with a job for each"
	}
	r.judge(figure{
		What: what, Value: p.PromotedRate, Unit: "/s", OverWhat: "received at the same time", Over: p.ReceivedRate, Ratio: p.PromotedRate / p.ReceivedRate,
		Target: fmt.Sprintf("bounded for %.0f s, empty in %.0f s", p.Seconds, drainWanted.Seconds()),
		Detail: p.drained(),
	}, bounded(p.Backlog, p.ReceivedRate) && p.Emptied && p.EmptyAfter <= drainWanted.Seconds())
}
