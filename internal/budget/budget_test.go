package budget_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/budget"
	"callbackd/internal/jumio"
	"callbackd/internal/pgserver"
	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// TestRate: one instance or six, with few requests a second or many, keep to the rate and
// use it.
func TestRate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		instances int
		senders   int // on each instance
		rps       float64
		want      int
		class     jumio.Class
	}{
		{"one instance", 1, 8, 10, 40, jumio.ClassRetrieval},
		{"six instances", 6, 8, 10, 40, jumio.ClassRetrieval},
		{"one instance, fast", 1, 50, 200, 600, jumio.ClassRetrieval},
		{"six instances, fast", 6, 50, 200, 600, jumio.ClassRetrieval},
		{"one instance, reconciliation alone", 1, 8, 5, 20, jumio.ClassReconciliation},
		{"six instances, reconciliation alone", 6, 8, 5, 20, jumio.ClassReconciliation},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dsn := storetest.NewMigrated(t)
			budgets := make([]*budget.Budget, test.instances)
			for i := range budgets {
				budgets[i] = open(t, dsn, test.rps)
			}
			traffic := startTraffic(t, test.want)
			for _, b := range budgets {
				traffic.by(b, test.senders, test.class)
			}
			traffic.await()
			traffic.wantBound(test.rps)
			traffic.wantUse(test.rps)
		})
	}
}

// TestFairness: six instances get about the same, however many requests wait on one.
func TestFairness(t *testing.T) {
	t.Parallel()
	const rps, want = 20, 120
	dsn := storetest.NewMigrated(t)
	traffic := startTraffic(t, want)
	var counts []int64
	var count []func() int64
	for i := range 6 {
		count = append(count, traffic.by(open(t, dsn, rps), 4+20*(i%2), jumio.ClassRetrieval).Load)
	}
	traffic.await()
	for _, load := range count {
		counts = append(counts, load())
	}
	if least := slices.Min(counts); least < want/6/3 {
		t.Errorf("the instances sent %v requests, want about %d each", counts, want/6)
	}
}

// TestManyRequestsOfOneReservation: where the rate is no limit, few statements serve many
// requests, although each is made only after the one before.
func TestManyRequestsOfOneReservation(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	b := budget.New(budget.Options{DB: s.DB, RetrievalRPS: 1_000_000, Log: zap.NewNop()})
	t.Cleanup(b.Close)
	statements := func() int64 { return s.Pool().Stat().AcquireCount() }
	before := statements()
	const requests = 20_000
	for range requests {
		wait(t, b, jumio.ClassRetrieval)
	}
	if n := statements() - before; n > requests/100 {
		t.Errorf("%d statements for %d requests", n, requests)
	}
}

// TestDataCentersAndClasses: retrieval at one data center takes nothing from another, nor
// from accounts.
func TestDataCentersAndClasses(t *testing.T) {
	t.Parallel()
	b := open(t, storetest.NewMigrated(t), 0.001)
	wait(t, b, jumio.ClassRetrieval)
	wait(t, b, jumio.ClassAccount)
	if err := b.Wait(t.Context(), "emea-1", jumio.ClassRetrieval); err != nil {
		t.Errorf("another data center: %v", err)
	}
	if err := b.Wait(t.Context(), "", jumio.ClassRetrieval); err != nil {
		t.Errorf("an unknown data center: %v", err)
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.Wait(soon, dataCenter, jumio.ClassReconciliation); err == nil {
		t.Error("reconciliation has a budget of its own")
	}
}

// TestAccounts: one account request a second, over all instances.
func TestAccounts(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	traffic := startTraffic(t, 4)
	for range 2 {
		traffic.by(open(t, dsn, 1000), 2, jumio.ClassAccount)
	}
	traffic.await()
	traffic.wantBound(1)
}

// TestDeadline: whoever cannot be served before a deadline learns it at once.
func TestDeadline(t *testing.T) {
	t.Parallel()
	b := open(t, storetest.NewMigrated(t), 0.001)
	wait(t, b, jumio.ClassRetrieval)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	err := b.Wait(ctx, dataCenter, jumio.ClassRetrieval)
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("got %v, and the context %v; want the first only to say that the deadline is exceeded", err, ctx.Err())
	}
}

// TestAbandoned: what an instance has reserved when it stops is less than a second, so
// that the others go on.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	traffic := startTraffic(t, 10)
	b := budget.New(budget.Options{DB: s.DB, RetrievalRPS: 10, Log: zap.NewNop()})
	traffic.by(b, 50, jumio.ClassRetrieval)
	traffic.await()
	b.Close()
	if ahead := storetest.Scalar[bool](t, s, `SELECT max(taken_until) > clock_timestamp() + interval '1 second' FROM callbackd.request_budgets`); ahead {
		t.Error("more than a second is reserved")
	}
}

// TestDatabaseAway: without the database an instance uses what it has reserved, then
// nothing more, and says so at once; and it goes on when the database is back.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	server, err := pgserver.Start(t.Context(), pgserver.Options{NoSync: true})
	if err != nil {
		t.Fatalf("start a Postgres: %v", err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	dsn := server.DSN("postgres")
	if err := store.MigrateUp(t.Context(), store.MigratorOptions{DSN: dsn}); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	const rps, inHand = 100, 2 * 10
	b := open(t, dsn, rps)
	wait(t, b, jumio.ClassRetrieval)
	if err := server.Kill(); err != nil {
		t.Fatalf("kill Postgres: %v", err)
	}
	refused := 0
	for passed := 0; refused < 100; {
		err := b.Wait(t.Context(), dataCenter, jumio.ClassRetrieval)
		switch {
		case errors.Is(err, store.ErrUnavailable):
			refused++
		case err != nil:
			t.Fatalf("wait: %v, want %v", err, store.ErrUnavailable)
		default:
			if passed++; passed > inHand {
				t.Fatalf("%d requests without the database", passed)
			}
		}
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatalf("restart Postgres: %v", err)
	}
	storetest.Eventually(t, "a slot after the restart", func() bool {
		return b.Wait(t.Context(), dataCenter, jumio.ClassRetrieval) == nil
	})
}

// TestPriority: while retrievals wait on one instance, the five on which only
// reconciliation waits get a fourth of the rate, and so does one that does both.
func TestPriority(t *testing.T) {
	t.Parallel()
	for _, reconciling := range []int{1, 5} {
		const rps, want = 20, 100
		dsn := storetest.NewMigrated(t)
		traffic := startTraffic(t, want)
		first := open(t, dsn, rps)
		retrievals := traffic.by(first, 20, jumio.ClassRetrieval)
		for i := range reconciling {
			b := first
			if i > 0 {
				b = open(t, dsn, rps)
			}
			traffic.by(b, 8, jumio.ClassReconciliation)
		}
		traffic.await()
		traffic.wantBound(rps)
		if n := want - retrievals.Load(); n < want/10 || n > want*4/10 {
			t.Errorf("%d of %d requests were of reconciliation on %d instances, want about a fourth", n, want, reconciling)
		}
	}
}

// TestResume: for a time after Resume an instance uses little more than a tenth of the rate,
// at that data center alone.
func TestResume(t *testing.T) {
	t.Parallel()
	const rps, requests = 100, 20
	b := open(t, storetest.NewMigrated(t), rps)
	resumed := time.Now()
	b.Resume("emea-1")
	wait(t, b, jumio.ClassRetrieval)
	started := time.Now()
	for range requests {
		if err := b.Wait(t.Context(), "emea-1", jumio.ClassRetrieval); err != nil {
			t.Fatalf("wait: %v", err)
		}
	}
	took := time.Since(started)
	share := min(1, 0.1+0.9*time.Since(resumed).Minutes()) // of the last one, which is the most
	if least := time.Duration(float64(requests-1) / rps / share * float64(time.Second)); took < least {
		t.Errorf("%d requests in %s after the start of a resumption, want at least %s", requests, took, least)
	}
}

func BenchmarkWait(b *testing.B) {
	budgets := open(b, storetest.NewMigrated(b), 1_000_000)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := budgets.Wait(b.Context(), dataCenter, jumio.ClassRetrieval); err != nil {
				b.Fatal(err)
			}
		}
	})
}
