package results

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
)

// Reservation asks for slots of a budget of requests, which lie one after another.
type Reservation struct {
	// DataCenter and Class name the budget; either may be empty.
	DataCenter, Class string
	// Takes is how long all the slots together are. Postgres counts in microseconds.
	Takes time.Duration
	// Yields reserves only what nobody wants: the slots must be able to begin now. But a
	// fourth of all slots is for those that yield, whoever waits.
	Yields bool
	// Horizon is further ahead than all instances together ever reserve. A reservation
	// beyond it is of another time, before the server's clock or the rate was changed, and
	// is forgotten.
	Horizon time.Duration
}

// The row is locked until the commit, which therefore does not wait for the disk: a crash of
// the server may forget the reservations of its last moments, but then their slots are over,
// or nearly, when it is back. What is set is evaluated after the lock.
const reserveRequests = `
	INSERT INTO callbackd.request_budgets AS b (data_center, class, taken_until)
	SELECT $1, $2, clock_timestamp() + $3::interval FROM set_config('synchronous_commit', 'off', true)
	ON CONFLICT (data_center, class) DO UPDATE SET
		taken_until = greatest(CASE WHEN b.taken_until < clock_timestamp() + $5::interval THEN b.taken_until END, clock_timestamp()) + $3::interval,
		yielded_until = CASE WHEN $4 THEN clock_timestamp() + 4 * $3::interval ELSE b.yielded_until END
	WHERE NOT $4 OR b.taken_until <= clock_timestamp() OR b.yielded_until <= clock_timestamp()
	RETURNING b.taken_until - $3::interval - clock_timestamp()`

// ReserveRequests reserves slots and returns in how long, by the server's clock, the first
// one begins; if that is past, it is below 0. It reserves nothing, and returns false, if
// the reservation yields to others.
func (s *Store) ReserveRequests(ctx context.Context, r Reservation) (begins time.Duration, reserved bool, err error) {
	err = s.db.Pool().QueryRow(ctx, reserveRequests, r.DataCenter, r.Class, r.Takes, r.Yields, r.Horizon).Scan(&begins)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return begins, err == nil, store.Translate("reserve requests to Jumio", err)
}
