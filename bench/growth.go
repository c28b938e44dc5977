package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// fillChunk stores callbacks as if they had come every 10 ms up to a minute
// ago and been promoted since: replication mode leaves the queue's trigger out.
// $1 and $2 are the first and last number, $3 how many there will be. The ids
// are ordered by time (RFC 9562 section 5.7) and the workflow executions'
// random, so that the indexes look as they would.
const fillChunk = `
INSERT INTO callbackd.callbacks (callback_id, received_at, callback_sent_at, source_ip, content_type, workflow_execution_id,
    workflow_status, workflow_href, definition_key, account_id, account_href, user_reference, body)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(noise, 14))::uuid,
    at, at, '127.0.0.1', 'application/json', id, 'PROCESSED', account || '/workflow-executions/' || id, '3',
    '11111111-1111-4111-8111-111111111111', account, 'user-1',
    convert_to(rpad('{"workflowExecution":{"id":"' || id || '"},"filler":"', 480, id) || '"}', 'UTF8')
FROM (
    SELECT now() - interval '1 minute' - ($3::bigint - n) * interval '10 milliseconds' AS at,
        gen_random_uuid()::text AS id, replace(gen_random_uuid()::text, '-', '') AS noise,
        'https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-1111-4111-8111-111111111111' AS account
    FROM generate_series($1::bigint, $2::bigint) AS n
) AS callbacks`

// growth compares the rate on a database that holds many callbacks with that on
// an empty one.
func (b *bench) growth(ctx context.Context) error {
	return b.withDatabase(ctx, func(full string) error {
		if err := b.fill(ctx, full); err != nil {
			return err
		}
		var onEmpty, onFull []measurement
		for round := range b.rounds {
			empty, err := b.measureFresh(ctx, receiver(), fullLoad)
			if err != nil {
				return err
			}
			// Nobody promotes here: what the last run has queued goes, as it
			// would have by promotion.
			err = query(ctx, full, func(conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, "TRUNCATE callbackd.inbox; CHECKPOINT", pgx.QueryExecModeSimpleProtocol)
				return err
			})
			if err != nil {
				return fmt.Errorf("empty the queue: %w", err)
			}
			filled, err := b.measure(ctx, receiver(), full, fullLoad)
			if err != nil {
				return err
			}
			b.progress("growth %d/%d  empty %.0f/s, filled %.0f/s", round+1, b.rounds, empty.Rate, filled.Rate)
			onEmpty, onFull = append(onEmpty, empty), append(onFull, filled)
		}
		b.results.compare(figure{
			What: fmt.Sprintf("callbacks/s with %d stored", b.fillRows), Value: medians(onFull).Rate, Unit: "/s",
			OverWhat: "the same on an empty database", Over: medians(onEmpty).Rate, atLeast: 0.9,
		})
		return nil
	})
}

// fill stores callbacks, two sessions at a time, each chunk a transaction.
func (b *bench) fill(ctx context.Context, dsn string) error {
	const sessions, chunk = 2, 50_000
	began := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for session := range sessions {
		group.Go(func() error {
			return query(groupCtx, dsn, func(conn *pgx.Conn) error {
				if _, err := conn.Exec(groupCtx, "SET session_replication_role = replica"); err != nil {
					return err
				}
				for first := session*chunk + 1; first <= b.fillRows; first += sessions * chunk {
					last := min(first+chunk-1, b.fillRows)
					if _, err := conn.Exec(groupCtx, fillChunk, first, last, b.fillRows); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("store %d callbacks: %w", b.fillRows, err)
	}
	// Autovacuum would get round to this in the middle of the measurements.
	err := query(ctx, dsn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "VACUUM (ANALYZE) callbackd.callbacks")
		return err
	})
	if err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	b.progress("growth  %d callbacks stored in %.0f s", b.fillRows, time.Since(began).Seconds())
	return nil
}
