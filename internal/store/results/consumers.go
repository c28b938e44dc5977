package results

import (
	"context"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
)

// ConsumerLag returns how many events each consumer has not handled; it counts at most
// limit of them.
func (s *Store) ConsumerLag(ctx context.Context, limit int) (map[string]int64, error) {
	const doing = "count the events that consumers have not handled"
	rows, err := s.db.Pool().Query(ctx, `
		SELECT c.consumer, (SELECT count(*) FROM (SELECT FROM callbackd.events AS e WHERE e.event_id > c.last_event_id LIMIT $1) AS e)
		FROM callbackd.consumers AS c`, limit)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	lag := make(map[string]int64)
	var consumer string
	var events int64
	_, err = pgx.ForEachRow(rows, []any{&consumer, &events}, func() error {
		lag[consumer] = events
		return nil
	})
	return lag, store.Translate(doing, err)
}
