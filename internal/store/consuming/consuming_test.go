package consuming_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store"
	"callbackd/internal/store/consuming"
	"callbackd/internal/store/storetest"
)

const consumer = "test"

// rig is a database with events, and a store on it with a consumer's rights.
type rig struct {
	t            *testing.T
	owner, store *storetest.Store
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dsn := storetest.NewMigrated(t)
	member := storetest.AsMember(t, dsn, "jumio_reader, jumio_consumer")
	u, err := url.Parse(member)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t, storetest.Open(t, dsn), storetest.Open(t, member)}
	// so that the owner sees what its sessions do, and can end them
	storetest.Query(t, r.owner, "GRANT "+u.User.Username()+" TO CURRENT_USER")
	return r
}

// add adds an event of each workflow execution, in one transaction, and notifies.
func (r *rig) add(ids ...string) {
	r.t.Helper()
	storetest.Query(r.t, r.owner, `SELECT callbackd.add_events(array_fill('expired'::text, ARRAY[cardinality($1::text[])]), $1)`, ids)
	r.owner.Announce(ids[:1])
}

// next follows until the event of the workflow execution last, and returns all it was given.
func (r *rig) next(o consuming.Options, last string) (got []string) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	o.Outage = func(err error) { r.t.Errorf("an outage: %v", err) }
	o.Handle = func(events []consuming.Event) error {
		for _, e := range events {
			got = append(got, e.WorkflowExecutionID)
		}
		if got[len(got)-1] == last {
			cancel()
		}
		return nil
	}
	if err := consuming.Follow(ctx, r.store.DB, o); err != nil {
		r.t.Fatalf("follow: %v", err)
	}
	return got
}

func (r *rig) want(got []string, want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("workflow executions (-want +got):\n%s", diff)
	}
}

// TestFrom: from the beginning, from a time and from now; a consumer that exists goes on
// from its place, and is moved on even if the end comes while it handles events.
func TestFrom(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add("old")
	// as before schema version 12
	storetest.Query(t, r.owner, `UPDATE callbackd.events SET event_id = 1`)
	r.add("a")
	at := storetest.Scalar[time.Time](t, r.owner, `SELECT to_timestamp((max(event_id) + 1) / 1e6) FROM jumio.events`)
	r.add("b")

	for _, name := range []string{"", consumer} {
		r.want(r.next(consuming.Options{Consumer: name}, "b"), "old", "a", "b")
	}
	r.want(r.next(consuming.Options{From: consuming.At(at)}, "b"), "b")
	r.want(r.next(consuming.Options{Consumer: "of-a-time", From: consuming.At(at)}, "b"), "b")
	r.want(r.next(consuming.Options{Consumer: "later", From: consuming.At(at.Add(-time.Hour))}, "b"), "a", "b")

	r.add("c")
	r.want(r.next(consuming.Options{Consumer: consumer, From: consuming.Now}, "c"), "c")
	r.want(r.next(consuming.Options{Consumer: "of-a-time"}, "c"), "c")
	if lag := storetest.Scalar[int64](t, r.owner, `SELECT sum(lag_events)::bigint FROM jumio.consumers WHERE consumer <> 'later'`); lag != 0 {
		t.Errorf("consumers that have handled everything lag by %d", lag)
	}
}

// TestFromNow: what was there before is not given, what comes once the consumer has its
// place is.
func TestFromNow(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", consumer} {
		t.Run("consumer "+name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.add("before")
			added := make(chan struct{})
			go func() {
				defer close(added)
				storetest.Eventually(t, "it listens", func() bool {
					return storetest.Scalar[bool](t, r.owner, `SELECT EXISTS (SELECT FROM pg_stat_activity
						WHERE datname = current_database() AND usename <> current_user AND query = 'LISTEN jumio_events')`)
				})
				r.add("after")
			}()
			r.want(r.next(consuming.Options{Consumer: name, From: consuming.Now}, "after"), "after")
			<-added
		})
	}
}

// TestInstances: instances of one consumer share its events, none of which is handled twice,
// although more than one batch is there.
func TestInstances(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const events, instances = 3500, 3
	ids := make([]string, events)
	for i := range ids {
		ids[i] = fmt.Sprint("w", i)
	}
	r.add(ids...)
	ctx, cancel := context.WithCancel(t.Context())
	handled, ended := make(chan []consuming.Event), make(chan error)
	for range instances {
		go func() {
			ended <- consuming.Follow(ctx, r.store.DB, consuming.Options{Consumer: consumer, Outage: func(error) {}, Handle: func(events []consuming.Event) error {
				handled <- events
				return nil
			}})
		}()
	}
	var got []string
	for len(got) < events {
		for _, e := range <-handled {
			got = append(got, e.WorkflowExecutionID)
		}
	}
	cancel()
	for range instances {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	r.want(got, ids...)
}

// TestOutage: events whose handling the database has not heard of are not handled again.
func TestOutage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add("a")
	ctx, cancel := context.WithCancel(t.Context())
	var got []string
	var outages []error
	err := consuming.Follow(ctx, r.store.DB, consuming.Options{
		Consumer: consumer,
		Outage: func(err error) {
			if outages = append(outages, err); err == nil {
				r.add("b")
			}
		},
		Handle: func(events []consuming.Event) error {
			for _, e := range events {
				got = append(got, e.WorkflowExecutionID)
			}
			if got[len(got)-1] == "b" {
				cancel()
				return nil
			}
			// before the commit
			storetest.Query(t, r.owner, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND usename <> current_user`)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.want(got, "a", "b")
	if len(outages) != 2 || !errors.Is(outages[0], store.ErrUnavailable) || outages[1] != nil {
		t.Errorf("outages: %v, want one and its end", outages)
	}
	if place := storetest.Scalar[int64](t, r.owner, `SELECT lag_events FROM jumio.consumers`); place != 0 {
		t.Errorf("the consumer lags by %d", place)
	}
}

// TestHandleFails: the error is returned, and the consumer stays where it was.
func TestHandleFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add("a", "b")
	failure := errors.New("no")
	err := consuming.Follow(t.Context(), r.store.DB, consuming.Options{Consumer: consumer, Handle: func([]consuming.Event) error { return failure }})
	if !errors.Is(err, failure) {
		t.Errorf("error %v, want %v", err, failure)
	}
	r.want(r.next(consuming.Options{Consumer: consumer}, "b"), "a", "b")
}

// TestCannotStart: the error says what to do.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	wantError := func(s *storetest.Store, name, want string) {
		t.Helper()
		err := consuming.Follow(t.Context(), s.DB, consuming.Options{Consumer: name})
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, store.ErrUnavailable) && want != "unavailable" {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	r := newRig(t)
	storetest.Query(t, r.owner, `SELECT jumio.handled('c' || n, 0) FROM generate_series(1, 100) AS n`)
	wantError(r.store, "c101", "remove those that are gone")
	empty := storetest.Open(t, storetest.NewDatabase(t))
	for _, name := range []string{"", consumer} {
		wantError(empty, name, "callbackd migrate up")
	}
	wantError(storetest.Open(t, "postgres://127.0.0.1:1/none?sslmode=disable"), "", "unavailable")
}

// TestForbidden: a role without the rights is told apart.
func TestForbidden(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	reader := storetest.Open(t, storetest.AsMember(t, dsn, "jumio_reader"))
	if err := consuming.Follow(t.Context(), reader.DB, consuming.Options{Consumer: consumer}); !store.Forbidden(err) {
		t.Errorf("error %v, want a lack of rights", err)
	}
}
