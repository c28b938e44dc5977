package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"callbackd/bench/questions"
)

const (
	// retainedRows is how many callbacks a month has.
	retainedRows = 100_000
	// postEvery is the pause between callbacks that are posted meanwhile.
	postEvery = 5 * time.Millisecond
	// watchEvery is how often the database is asked what a worker does: the error of the times.
	watchEvery = time.Millisecond
	// lookPatience is how long a worker's look is waited for.
	lookPatience = 5 * time.Minute
	// waitTarget is what no callback may wait for longer, in milliseconds.
	waitTarget = 1000
)

// fillMonth stores callbacks, of as many workflow executions, that came evenly over the
// first 20 days of a month, and were promoted since. $1 is the beginning of the month, $2
// how many they are. Bodies have as many bytes as those of the load.
var fillMonth = []string{
	`CREATE TEMPORARY TABLE month AS
	SELECT $1::timestamptz + n * (interval '20 days' / $2::int) AS at, gen_random_uuid()::text AS id, replace(gen_random_uuid()::text, '-', '') AS noise
	FROM generate_series(1, $2::int) AS n`,
	`INSERT INTO callbackd.workflow_executions (workflow_execution_id, status, definition_key, callback_count, first_callback_at, last_callback_at, retrieval_state)
	SELECT id, 'PROCESSED', '3', 1, at, at, 'retrieved' FROM month WHERE $1::timestamptz < at AND $2::int > 0`,
	`INSERT INTO callbackd.callbacks (callback_id, received_at, callback_sent_at, source_ip, content_type, workflow_execution_id, workflow_status, definition_key, body)
	SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(noise, 14))::uuid, at, at, '127.0.0.1', 'application/json', id,
		'PROCESSED', '3', convert_to(rpad('{"workflowExecution":{"id":"' || id || '"},"filler":"', 480, noise) || '"}', 'UTF8')
	FROM month WHERE $1::timestamptz < at AND $2::int > 0`,
}

// retention compares how a month's callbacks go: as a partition, and, because one of them
// is held, in batches; with callbacks posted beside.
func (b *bench) retention(ctx context.Context) error {
	var dropped, batched looks
	for round := range b.rounds {
		for _, l := range []*looks{&dropped, &batched} {
			if err := b.withDatabase(ctx, func(dsn string) error { return b.look(ctx, dsn, l, l == &batched) }); err != nil {
				return err
			}
		}
		b.progress("retention %d/%d  dropped in %.0f ms, of these locked %.1f ms, longest wait %.1f ms; in batches %.0f ms, longest wait %.1f ms", round+1, b.rounds,
			dropped.took[round], dropped.locked[round], dropped.waited[round], batched.took[round], batched.waited[round])
	}
	b.results.retentionFigures(dropped, batched)
	return nil
}

// looks are how long each of some workers' looks has taken, in milliseconds.
type looks struct {
	// took is from the worker's claim until it has looked through all, locked how long the
	// partition was locked against everybody, and waited the longest answer to a callback.
	took, locked, waited []float64
}

// look has a worker look at a month that is due but, if held, for one callback.
func (b *bench) look(ctx context.Context, dsn string, l *looks, held bool) (err error) {
	if err := makeMonth(ctx, dsn, held); err != nil {
		return fmt.Errorf("store a month: %w", err)
	}
	receiving, err := b.startCallbackd(ctx, dsn, "CALLBACKD_WORKERS=0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, receiving.stop()) }()
	postCtx, cancel := context.WithCancel(ctx)
	group, groupCtx := errgroup.WithContext(postCtx)
	var waited []float64
	group.Go(func() (err error) {
		waited, err = postUntil(groupCtx, receiving)
		return err
	})
	group.Go(func() error {
		defer cancel()
		return query(groupCtx, dsn, func(conn *pgx.Conn) error { return b.watch(groupCtx, dsn, conn, l, held) })
	})
	if err := group.Wait(); err != nil {
		return err
	}
	l.waited = append(l.waited, slices.Max(waited))
	return ctx.Err()
}

// makeMonth fills the last month, the first one with a partition of its own.
func makeMonth(ctx context.Context, dsn string, held bool) error {
	p := questions.Population{Months: 2, Now: time.Now()}
	return query(ctx, dsn, func(conn *pgx.Conn) error {
		if err := p.MakePartitions(ctx, conn); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "SET session_replication_role = replica"); err != nil { // leaves the queue's trigger out
			return err
		}
		now := p.Now.UTC()
		for _, sql := range fillMonth {
			if _, err := conn.Exec(ctx, sql, time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC), retainedRows); err != nil {
				return err
			}
		}
		if held {
			if _, err := conn.Exec(ctx, `INSERT INTO callbackd.holds (workflow_execution_id, reason) SELECT id, 'the benchmark' FROM month LIMIT 1`); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, "ANALYZE; CHECKPOINT")
		return err
	})
}

// postUntil posts callbacks, one every five milliseconds, until the context ends, and
// returns the times until the answers in milliseconds.
func postUntil(ctx context.Context, s *server) (waited []float64, err error) {
	client := &http.Client{}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(postEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return waited, nil
		case <-tick.C:
		}
		body := fmt.Sprintf(`{"workflowExecution":{"id":"posted-%d","status":"ACQUIRED"}}`, n)
		began := time.Now()
		_, err := request(ctx, client, http.MethodPost, s.url(), []byte(body), http.StatusOK)
		if ctx.Err() != nil {
			return waited, nil
		}
		if err != nil {
			return nil, fmt.Errorf("post a callback: %w", err)
		}
		waited = append(waited, milliseconds(time.Since(began)))
	}
}

// watch starts a worker, and asks the database what that does.
func (b *bench) watch(ctx context.Context, dsn string, conn *pgx.Conn, l *looks, held bool) (err error) {
	const sql = `SELECT (SELECT count(*) FROM pg_locks WHERE relation = $1::oid AND mode = 'AccessExclusiveLock' AND granted) > 0,
		lease_until IS NOT NULL, looked_at IS NOT NULL, clock_timestamp() FROM callbackd.retention`
	var table uint32
	if err := conn.QueryRow(ctx, `SELECT 'callbackd.callbacks'::regclass::oid`).Scan(&table); err != nil {
		return err
	}
	// Jumio is never asked, so nothing has to listen there.
	env := append(workerSettings("http://127.0.0.1:9"), "CALLBACKD_RETENTION=callbacks=1d")
	ready := make(chan error, 1)
	var s *server
	go func() {
		var err error
		s, err = b.startCallbackd(ctx, dsn, env...)
		ready <- err
	}()
	var claimed, locked, free, now time.Time
	watchErr := poll(ctx, lookPatience, watchEvery, "a worker to look", func() (bool, error) {
		var isLocked, isClaimed, looked bool
		if err := conn.QueryRow(ctx, sql, table).Scan(&isLocked, &isClaimed, &looked, &now); err != nil {
			return false, err
		}
		if isClaimed && claimed.IsZero() {
			claimed = now
		}
		if isLocked && locked.IsZero() {
			locked = now
		}
		if !isLocked && !locked.IsZero() && free.IsZero() {
			free = now
		}
		return looked, nil
	})
	if err := <-ready; err != nil {
		return errors.Join(watchErr, err)
	}
	if err := errors.Join(watchErr, s.stop()); err != nil {
		return err
	}
	if locked.IsZero() != held {
		return fmt.Errorf("locked for a drop: %t, and one callback is held: %t", !locked.IsZero(), held)
	}
	l.took, l.locked = append(l.took, milliseconds(now.Sub(claimed))), append(l.locked, milliseconds(free.Sub(locked)))
	return checkRetained(ctx, conn, held)
}

// checkRetained compares what is left of the month with what had to stay.
func checkRetained(ctx context.Context, conn *pgx.Conn, held bool) error {
	want := 0
	if held {
		want = 1
	}
	var left int
	if err := conn.QueryRow(ctx, `SELECT count(*) FROM callbackd.callbacks WHERE workflow_status = 'PROCESSED'`).Scan(&left); err != nil {
		return err
	}
	if left != want {
		return fmt.Errorf("of %d callbacks %d are left, instead of %d", retainedRows, left, want)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (r *results) retentionFigures(dropped, batched looks) {
	const what = "a month of 100,000 callbacks"
	r.compare(figure{
		What: "locked, dropping " + what, Value: median(dropped.locked), Unit: "ms", OverWhat: "all of the look", Over: median(dropped.took),
		Detail: fmt.Sprintf("at most %.1f ms", slices.Max(dropped.locked)),
	})
	r.compare(figure{
		What: "dropping " + what, Value: median(dropped.took), Unit: "ms", OverWhat: "deleting it in batches", Over: median(batched.took), atMost: 0.5,
	})
	longest := slices.Max(dropped.waited)
	r.judge(figure{
		What: "longest wait of a callback, dropping", Value: longest, Unit: "ms", OverWhat: "the same, deleting in batches", Over: slices.Max(batched.waited),
		Ratio: longest / slices.Max(batched.waited), Target: fmt.Sprintf("<= %d ms", waitTarget),
	}, longest <= waitTarget)
}

// planRules have all rows of all classes counted.
const planRules = "CALLBACKD_RETENTION=images=6mo,biometrics=30d,results=5y,callbacks=1y,rejected=30d,events=90d"

// plan times `callbackd retention plan`.
func (b *bench) plan(ctx context.Context, dsn string, executions int) error {
	cmd := exec.CommandContext(ctx, b.callbackd, "retention", "plan") //nolint:gosec // built before
	cmd.Env = []string{"DATABASE_URL=" + dsn, planRules}
	began := time.Now()
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("plan the retention: %w", err)
	}
	b.results.compare(figure{
		What: fmt.Sprintf("retention plan, %d workflow executions", executions), Value: milliseconds(time.Since(began)), Unit: "ms",
		Detail: fmt.Sprintf("%d lines", strings.Count(string(out), "\n")),
	})
	return nil
}
