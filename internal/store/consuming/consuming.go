// Package consuming follows jumio.events with what members of the roles jumio_reader and
// jumio_consumer may execute: it reads the events, and keeps a named consumer's place in
// them.
//
// It knows only schema jumio, reads nothing but events, and decides nothing.
package consuming

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
	"callbackd/internal/workflow"
)

// Event is a row of jumio.events.
type Event struct {
	ID         int64     `db:"event_id"`
	OccurredAt time.Time `db:"occurred_at"`
	workflow.Event
}

// Types are all event types, also those that only later versions of callbackd record.
var Types = []workflow.EventType{
	workflow.EventCallbackReceived, workflow.EventDetailsRetrieved, workflow.EventRetrieved,
	workflow.EventRetrievalFailed, workflow.EventExpired,
	"missed_callback_recovered", "overdue", "erased",
}

// From is where a new consumer starts: with the first event whose id is From or greater.
type From int64

// Where to start, besides At.
const (
	Beginning From = 0
	Now       From = math.MaxInt64
)

// At starts with the events of a time. Event ids are the microseconds since 1970, so a time
// is an id. Before schema version 12 they were counted from 1: those events come before
// every time.
func At(t time.Time) From { return From(max(t.UnixMicro(), 0)) }

var consumerName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// ValidConsumer reports whether a consumer may have that name.
func ValidConsumer(name string) bool { return consumerName.MatchString(name) }

// batchSize is how many events are handled at a time.
const batchSize = 1000

var (
	eventRow   = store.RowOf[Event]()
	readEvents = `SELECT ` + eventRow.Columns("") + ` FROM jumio.events WHERE event_id > $1 ORDER BY event_id LIMIT $2`
)

// querier is the pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// read returns the next events after a place. Like the next three it returns the driver's
// error, for the caller to translate.
func read(ctx context.Context, q querier, place int64) ([]Event, error) {
	rows, err := q.Query(ctx, readEvents, place, batchSize)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, eventRow.Scan)
}

// before returns the id of the last event before from; 0 if there is none.
func before(ctx context.Context, q querier, from From) (id int64, err error) {
	err = q.QueryRow(ctx, `SELECT coalesce(max(event_id), 0) FROM jumio.events WHERE event_id < $1`, from).Scan(&id)
	return id, err
}

// lock locks a consumer, which it creates at 0 if it is new, until the transaction ends, and
// returns its place.
func lock(ctx context.Context, tx pgx.Tx, consumer string) (place int64, err error) {
	if err := handled(ctx, tx, consumer, 0); err != nil {
		return 0, err
	}
	// A statement of its own: it sees what the previous holder of the lock has committed.
	err = tx.QueryRow(ctx, `SELECT last_event_id FROM jumio.consumers WHERE consumer = $1`, consumer).Scan(&place)
	return place, err
}

// handled moves a consumer on.
func handled(ctx context.Context, tx pgx.Tx, consumer string, id int64) error {
	_, err := tx.Exec(ctx, `SELECT jumio.handled($1, $2)`, consumer, id)
	return err
}

// place returns where a consumer stands. A new one is created before from.
func place(ctx context.Context, db *store.DB, consumer string, from From) (place int64, err error) {
	err = db.InTx(ctx, "start a consumer", func(tx *store.Tx) error {
		var exists bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM jumio.consumers WHERE consumer = $1)`, consumer).Scan(&exists); err != nil {
			return err
		}
		if place, err = lock(ctx, tx, consumer); err != nil {
			return err
		}
		if exists || place > 0 { // another instance has just created it
			return nil
		}
		if place, err = before(ctx, tx, from); err != nil {
			return err
		}
		return handled(ctx, tx, consumer, place)
	})
	return place, explain(err)
}

// translate is store.Translate, explained.
func translate(doing string, err error) error { return explain(store.Translate(doing, err)) }

// explain says what to do where the schema or the number of consumers is at fault.
func explain(err error) error {
	e, ok := errors.AsType[*store.SQLError](err)
	if !ok {
		return err
	}
	switch e.Code {
	case pgerrcode.UndefinedTable, pgerrcode.UndefinedColumn, pgerrcode.UndefinedFunction, pgerrcode.InvalidSchemaName:
		return fmt.Errorf("%w: the schema is older than this callbackd needs: run `callbackd migrate up`", err)
	case pgerrcode.ConfigurationLimitExceeded: // raised by jumio.handled; store.Translate takes it for an outage
		return errors.New("start a consumer: there are as many as there may be: remove those that are gone (docs/consumers.md)")
	}
	return err
}
