package results_test

import (
	"testing"
	"time"

	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
)

func reserve(t *testing.T, s *storetest.Store, r results.Reservation) (time.Duration, bool) {
	t.Helper()
	begins, reserved, err := s.ReserveRequests(t.Context(), r)
	if err != nil {
		t.Fatalf("reserve %+v: %v", r, err)
	}
	return begins, reserved
}

// takenUntil is when the budget's last slot ends, in microseconds since 1970.
func takenUntil(t *testing.T, s *storetest.Store) int64 {
	t.Helper()
	return storetest.Scalar[int64](t, s, `SELECT (extract(epoch FROM taken_until) * 1000000)::bigint FROM callbackd.request_budgets`)
}

// TestReserveRequests: slots follow one another without a gap, and never begin before the
// reservation.
func TestReserveRequests(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	r := results.Reservation{DataCenter: "amer-1", Class: "retrieval", Takes: 30 * time.Minute, Horizon: 100 * time.Hour}
	if begins, _ := reserve(t, s, r); begins > 0 || begins < -time.Minute {
		t.Errorf("the first slot of all begins in %s, want at once", begins)
	}
	for i := range 3 {
		before := takenUntil(t, s)
		begins, reserved := reserve(t, s, r)
		if want := time.Duration(i+1) * r.Takes; !reserved || begins > want || begins < want-time.Minute {
			t.Errorf("reserved %t, begins in %s, want %s less the time since the first", reserved, begins, want)
		}
		if grown := takenUntil(t, s) - before; grown != r.Takes.Microseconds() {
			t.Errorf("the reservation takes %d µs, want %s", grown, r.Takes)
		}
	}
	r.Takes = time.Microsecond
	storetest.Query(t, s, `UPDATE callbackd.request_budgets SET taken_until = clock_timestamp() - interval '1 hour'`)
	if begins, _ := reserve(t, s, r); begins > 0 || begins < -time.Minute {
		t.Errorf("the first slot in an hour begins in %s, want at once", begins)
	}
}

// TestForgottenReservation: what is beyond the horizon holds nobody up.
func TestForgottenReservation(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	r := results.Reservation{DataCenter: "amer-1", Class: "retrieval", Takes: time.Second, Horizon: time.Hour}
	reserve(t, s, r)
	storetest.Query(t, s, `UPDATE callbackd.request_budgets SET taken_until = clock_timestamp() + interval '2 hours'`)
	if begins, _ := reserve(t, s, r); begins > 0 {
		t.Errorf("begins in %s, want at once", begins)
	}
}

// TestYieldingReservation: those that yield get what nobody has reserved, and otherwise a
// fourth of all slots.
func TestYieldingReservation(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	first := results.Reservation{DataCenter: "amer-1", Class: "retrieval", Takes: time.Hour, Horizon: 1000 * time.Hour}
	yielding := first
	yielding.Yields = true
	want := func(what string, want bool) {
		t.Helper()
		before := int64(0)
		if what != "the first of all" {
			before = takenUntil(t, s)
		}
		if _, reserved := reserve(t, s, yielding); reserved != want {
			t.Errorf("%s: reserved %t, want %t", what, reserved, want)
		}
		if !want && takenUntil(t, s) != before {
			t.Errorf("%s: yielded, but a slot is taken", what)
		}
	}
	want("the first of all", true)
	storetest.Query(t, s, `UPDATE callbackd.request_budgets SET taken_until = clock_timestamp()`)
	want("when the last slot is over", true)
	want("behind itself", false)
	reserve(t, s, first)
	want("behind another", false)
	storetest.Query(t, s, `UPDATE callbackd.request_budgets SET yielded_until = yielded_until - interval '239 minutes'`)
	want("before four slots are over", false)
	storetest.Query(t, s, `UPDATE callbackd.request_budgets SET yielded_until = yielded_until - interval '1 minute'`)
	want("after four slots", true)
	want("after the fifth", false)
}

// TestReservationsLeaveDurability: only the reservation itself is committed without a
// flush.
func TestReservationsLeaveDurability(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	reserve(t, s, results.Reservation{Takes: time.Second, Horizon: time.Hour})
	for _, conn := range s.Pool().AcquireAllIdle(t.Context()) {
		defer conn.Release()
		var commit string
		if err := conn.QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&commit); err != nil || commit != "on" {
			t.Errorf("synchronous_commit is %q (%v) after a reservation, want on", commit, err)
		}
	}
}
