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

// fillChunk stores callbacks as if they had come evenly over the last year and been
// promoted since: replication mode leaves the queue's trigger out. $1 and $2 are the first
// and last number, $3 how many there will be. The ids are ordered by time (RFC 9562 section
// 5.7) and the workflow executions' random, so that the indexes look as they would. Bodies
// have 200 bytes and no href is stored, so that a hundred million fit on a small disk.
const fillChunk = `
INSERT INTO callbackd.callbacks (callback_id, received_at, callback_sent_at, source_ip, content_type, workflow_execution_id,
    workflow_status, definition_key, account_id, body)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(noise, 14))::uuid,
    at, at, '127.0.0.1', 'application/json', id, 'PROCESSED', '3', '11111111-1111-4111-8111-111111111111',
    convert_to(rpad('{"workflowExecution":{"id":"' || id || '"},"filler":"', 198, id) || '"}', 'UTF8')
FROM (
    SELECT now() - interval '1 minute' - ($3::bigint - n) * (interval '365 days' / $3::bigint) AS at,
        gen_random_uuid()::text AS id, replace(gen_random_uuid()::text, '-', '') AS noise
    FROM generate_series($1::bigint, $2::bigint) AS n
) AS callbacks`

// lookups are timed on the filled database; $1 is an id that is stored.
var lookups = []struct{ what, sql string }{
	{"look-up by id", `SELECT body FROM jumio.callbacks WHERE callback_id = $1`},
	{"newest first", `SELECT callback_id, received_at, workflow_status FROM jumio.callbacks WHERE callback_id < $1 ORDER BY callback_id DESC LIMIT 100`},
}

// growth compares the rates and times on a database that holds ever more callbacks with
// those on an empty one.
func (b *bench) growth(ctx context.Context) error {
	return b.withDatabase(ctx, func(full string) error {
		// Those of a year and what workers would have made since.
		months := questions.Population{Months: 14, Now: time.Now()}
		if err := query(ctx, full, func(conn *pgx.Conn) error { return months.MakePartitions(ctx, conn) }); err != nil {
			return err
		}
		stored := 0
		var onLeast [2]time.Duration
		for level := min(1_000_000, b.fillRows); level <= b.fillRows; level *= 10 {
			if err := b.fill(ctx, full, stored, level); err != nil {
				return err
			}
			stored = level
			if err := b.compareGrown(ctx, full, level); err != nil {
				return err
			}
			for i, l := range lookups {
				took, err := timeLookup(ctx, full, l.sql)
				if err != nil {
					return err
				}
				if onLeast[i] == 0 {
					onLeast[i] = took
				}
				b.results.compare(figure{
					What: fmt.Sprintf("callbacks, %s with %d stored, p50", l.what, level), Value: float64(took.Microseconds()), Unit: " µs",
					OverWhat: "the same with the fewest stored", Over: float64(onLeast[i].Microseconds()), atMost: 1.5,
				})
			}
		}
		return nil
	})
}

// compareGrown compares the rates of receiving with those on an empty database.
func (b *bench) compareGrown(ctx context.Context, full string, level int) error {
	var onEmpty, onFull []measurement
	for round := range b.rounds {
		empty, err := b.measureFresh(ctx, receiver(), fullLoad)
		if err != nil {
			return err
		}
		// Nobody promotes here: what the last run has queued goes, as it
		// would have by promotion.
		if err := simple(ctx, full, "TRUNCATE callbackd.inbox; CHECKPOINT"); err != nil {
			return fmt.Errorf("empty the queue: %w", err)
		}
		filled, err := b.measure(ctx, receiver(), full, fullLoad)
		if err != nil {
			return err
		}
		b.progress("growth %d/%d  empty %.0f/s, with %d stored %.0f/s", round+1, b.rounds, empty.Rate, level, filled.Rate)
		onEmpty, onFull = append(onEmpty, empty), append(onFull, filled)
	}
	b.results.compare(figure{
		What: fmt.Sprintf("callbacks/s with %d stored", level), Value: medians(onFull).Rate, Unit: "/s",
		OverWhat: "the same on an empty database", Over: medians(onEmpty).Rate, atLeast: 0.9,
	})
	return nil
}

// timeLookup returns the median time of a thousand look-ups of random callbacks, warm.
func timeLookup(ctx context.Context, dsn, sql string) (time.Duration, error) {
	const times = 1000
	var took []time.Duration
	err := query(ctx, dsn, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT callback_id FROM callbackd.callbacks TABLESAMPLE SYSTEM (1) LIMIT $1`, times)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
		if err == nil && len(ids) == 0 {
			err = errors.New("the sample of callbacks is empty")
		}
		if err != nil {
			return err
		}
		for range 2 { // the first time warms up
			took = took[:0]
			for _, id := range ids {
				began := time.Now()
				rows, err := conn.Query(ctx, sql, id)
				if err != nil {
					return err
				}
				rows.Close()
				took = append(took, time.Since(began))
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("look callbacks up: %w", err)
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// simple runs statements without parameters.
func simple(ctx context.Context, dsn, sql string) error {
	return query(ctx, dsn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

// fill stores callbacks until there are as many as level, two sessions at a time, each
// chunk a transaction. stored says how many there are.
func (b *bench) fill(ctx context.Context, dsn string, stored, level int) error {
	const sessions, chunk = 2, 50_000
	began := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for session := range sessions {
		group.Go(func() error {
			return query(groupCtx, dsn, func(conn *pgx.Conn) error {
				if _, err := conn.Exec(groupCtx, "SET session_replication_role = replica"); err != nil {
					return err
				}
				for first := stored + session*chunk + 1; first <= level; first += sessions * chunk {
					last := min(first+chunk-1, level)
					if _, err := conn.Exec(groupCtx, fillChunk, first, last, level); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("store %d callbacks: %w", level, err)
	}
	// Autovacuum would get round to this in the middle of the measurements.
	err := query(ctx, dsn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "VACUUM (ANALYZE) callbackd.callbacks")
		return err
	})
	if err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	b.progress("growth  %d callbacks stored in %.0f s", level, time.Since(began).Seconds())
	return nil
}
