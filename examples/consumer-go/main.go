// Command consumer-go is a whole consumer (docs/consumers.md): it keeps a table of decided users.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	for ; ; <-time.After(time.Second) { // each time until the connection is lost; it may be killed at any moment
		fmt.Fprintln(os.Stderr, consume(context.Background()))
	}
}

func consume(ctx context.Context) error { // LISTEN, then read: so no event falls between the two
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `LISTEN jumio_events;
		CREATE TABLE IF NOT EXISTS decided_users (event_id bigint, workflow_execution_id text, user_reference text, decision_type text)`)
	for n := 0; err == nil; {
		if err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) { n, err = handle(ctx, tx); return err }); err != nil || n > 0 {
			continue
		}
		wait, cancel := context.WithTimeout(ctx, 5*time.Second) // a notification may be lost
		if _, err = conn.WaitForNotification(wait); wait.Err() != nil {
			err = nil
		}
		cancel()
	}
	return err
}

// handle handles the next events. What it does, and how far it is, are one transaction.
func handle(ctx context.Context, tx pgx.Tx) (n int, err error) {
	// The lock keeps other instances from the same events. 0 moves a consumer nowhere.
	if _, err := tx.Exec(ctx, `SELECT jumio.handled('consumer-go', 0)`); err != nil {
		return 0, err
	}
	rows, _ := tx.Query(ctx, `SELECT event_id, type, workflow_execution_id, user_reference, decision_type FROM jumio.events
		WHERE event_id > (SELECT last_event_id FROM jumio.consumers WHERE consumer = 'consumer-go') ORDER BY event_id LIMIT 1000`)
	events, err := pgx.CollectRows(rows, pgx.RowToMap) // reports the query's error, too
	if n = len(events); err != nil || n == 0 {
		return 0, err
	}
	work := &pgx.Batch{}
	for _, e := range events {
		switch e["type"] {
		case "details_retrieved":
			work.Queue(`INSERT INTO decided_users VALUES ($1, $2, $3, $4)`, e["event_id"], e["workflow_execution_id"], e["user_reference"], e["decision_type"])
		case "erased": // the person is to be forgotten here, too
			work.Queue(`DELETE FROM decided_users WHERE workflow_execution_id = $1`, e["workflow_execution_id"])
		}
	}
	work.Queue(`SELECT jumio.handled('consumer-go', $1)`, events[n-1]["event_id"])
	return n, tx.SendBatch(ctx, work).Close()
}
