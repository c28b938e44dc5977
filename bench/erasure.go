package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"callbackd/bench/questions"
)

const (
	// erasureLoad is the number of connections that post callbacks meanwhile.
	erasureLoad = 64
	// erasureTarget is how many times longer p99 of callbacks may be during erasures: what
	// two runs without any differ by.
	erasureTarget = 1.25
	// erasureSeconds is how long the erasure of an account may take; a worker looks for
	// orders every 2 s.
	erasureSeconds = 10
	// erasePatience is how long one is waited for.
	erasePatience = time.Minute
	// eraseAccounts is how many accounts there are to be erased.
	eraseAccounts = 1000
)

// ingest is a load of callbacks, and what p99 of their answers was, in milliseconds.
type ingest struct {
	what          string
	p99           func(context.Context, *server) (float64, error)
	calm, erasing []float64
}

// erasure lets one instance receive and promote on a full database, by turns without and
// with accounts being erased, one after the other.
func (b *bench) erasure(ctx context.Context) error {
	return b.withDatabase(ctx, func(dsn string) (err error) {
		p := questions.Population{Executions: b.executions, Months: 12, Now: time.Now()}
		if err := b.populate(ctx, dsn, p); err != nil {
			return err
		}
		// Jumio is never asked, so nothing has to listen there.
		s, err := b.startCallbackd(ctx, dsn, append(workerSettings("http://127.0.0.1:9"), "CALLBACKD_ERASURE_KEY=a-key-of-the-benchmark")...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.stop()) }()
		accounts, err := someAccounts(ctx, dsn)
		if err != nil {
			return err
		}
		loads := []*ingest{
			{what: fmt.Sprintf("a callback every %s", postEvery), p99: b.steadily},
			{what: fmt.Sprintf("%d connections", erasureLoad), p99: b.atMost},
		}
		var took []float64
		for round := range b.rounds {
			for _, l := range loads {
				without, err := l.p99(ctx, s)
				if err != nil {
					return err
				}
				with, seconds, err := whileErasing(ctx, s, dsn, l, &accounts)
				if err != nil {
					return err
				}
				l.calm, l.erasing, took = append(l.calm, without), append(l.erasing, with), append(took, seconds...)
				b.progress("erasure %d/%d  %s: p99 %.2f ms without, %.2f ms with %d erasures", round+1, b.rounds, l.what, without, with, len(seconds))
			}
		}
		b.results.erasureFigures(b.executions, loads, took)
		return nil
	})
}

// steadily posts callbacks at a rate that leaves the machine time.
func (b *bench) steadily(ctx context.Context, s *server) (p99 float64, err error) {
	posting, cancel := context.WithTimeout(ctx, b.duration)
	defer cancel()
	waited, err := postUntil(posting, s)
	if err != nil {
		return 0, err
	}
	return percentile(waited, 99), ctx.Err()
}

// atMost posts callbacks as fast as they are answered, so that whatever else works slows
// them down.
func (b *bench) atMost(ctx context.Context, s *server) (p99 float64, err error) {
	l, err := b.wrk(ctx, s, erasureLoad, b.duration, acquired)
	return float64(l.P99) / 1e3, err
}

// someAccounts returns accounts at random.
func someAccounts(ctx context.Context, dsn string) (accounts []string, err error) {
	err = scan(ctx, dsn, `SELECT array_agg(account_id) FROM (
		SELECT DISTINCT account_id FROM callbackd.workflow_executions TABLESAMPLE SYSTEM (1) WHERE account_id IS NOT NULL LIMIT $1) AS a`,
		[]any{eraseAccounts}, &accounts)
	if err == nil && len(accounts) == 0 {
		err = errors.New("there are no accounts to erase")
	}
	return accounts, err
}

// whileErasing erases accounts for as long as the load lasts, and returns how many seconds
// each has taken from its order.
func whileErasing(ctx context.Context, s *server, dsn string, l *ingest, accounts *[]string) (p99 float64, seconds []float64, err error) {
	ended := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		defer close(ended)
		p99, err = l.p99(ctx, s)
		return err
	})
	group.Go(func() error {
		return query(ctx, dsn, func(conn *pgx.Conn) error {
			for len(*accounts) > 0 {
				account := (*accounts)[0]
				*accounts = (*accounts)[1:]
				took, err := erase(ctx, conn, account)
				if err != nil {
					return err
				}
				seconds = append(seconds, took)
				select {
				case <-ended:
					return nil
				default:
				}
			}
			return nil
		})
	})
	return p99, seconds, group.Wait()
}

// erase orders the erasure of an account, and waits until it is done.
func erase(ctx context.Context, conn *pgx.Conn, account string) (seconds float64, err error) {
	var order string
	if err := conn.QueryRow(ctx, `SELECT jumio.request_erasure('account', $1, 'the benchmark')`, account).Scan(&order); err != nil {
		return 0, fmt.Errorf("order an erasure: %w", err)
	}
	err = poll(ctx, erasePatience, 20*time.Millisecond, "an erasure", func() (done bool, err error) {
		var state string
		err = conn.QueryRow(ctx, `SELECT state, coalesce(extract(epoch FROM finished_at - requested_at), 0) FROM jumio.erasures WHERE order_id = $1`, order).Scan(&state, &seconds)
		if state == "failed" {
			err = errors.New("an erasure has failed")
		}
		return state == "done", err
	})
	return seconds, err
}

func (r *results) erasureFigures(executions int, loads []*ingest, took []float64) {
	for _, l := range loads {
		r.compare(figure{
			What: "p99 of callbacks during erasures, " + l.what, Value: median(l.erasing), Unit: "ms",
			OverWhat: "without erasures", Over: median(l.calm), atMost: erasureTarget,
		})
	}
	r.judge(figure{
		What: fmt.Sprintf("erasure of an account of %d workflow executions", executions), Value: median(took), Unit: "s",
		Target: fmt.Sprintf("<= %d s", erasureSeconds), Detail: fmt.Sprintf("%d erased, the slowest in %.1f s", len(took), slices.Max(took)),
	}, slices.Max(took) <= erasureSeconds)
}
