package processtest

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/spool"
)

// TestDrain: a spool of many callbacks is drained into Postgres while new ones are
// stored. The process is killed midway, and still each callback is stored once. Its memory does not grow with the spool.
func TestDrain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fillSpool(t, dir, spooled)
	dsn := migrated(t)
	db := open(t, dsn)
	moved := func() int {
		return db.count(`SELECT count(*) FROM callbackd.callbacks WHERE workflow_status = 'SPOOLED'`)
	}

	s := serve(t, spooling(dsn, dir))
	eventually(t, patience, func() error {
		if n := moved(); n < spooled/10 {
			return fmt.Errorf("%d callbacks are drained", n)
		}
		return nil
	})
	s.kill()
	if n := moved(); n >= spooled {
		t.Errorf("killed after all %d had been drained", n)
	}

	s = serve(t, spooling(dsn, dir))
	load := startLoad(s)
	highest := 0.0
	for m := s.metrics(t); ; m = s.metrics(t) {
		highest = max(highest, m["process_resident_memory_bytes"])
		if m["callbackd_spool_callbacks"] == 0 {
			break
		}
		if slow := m[`callbackd_callback_duration_seconds_count`] - m[`callbackd_callback_duration_seconds_bucket{le="2.5"}`]; slow > 0 {
			t.Fatalf("%v fresh callbacks waited for more than 2.5 s", slow)
		}
	}
	fresh := load.stop(t)
	t.Logf("beside the drain %d fresh callbacks were stored; %.0f MiB of memory at most", len(fresh), highest/(1<<20))
	if highest > mostMemory {
		t.Errorf("the process took %.0f MiB of memory, want at most %d MiB", highest/(1<<20), mostMemory>>20)
	}
	if len(fresh) < 10 {
		t.Errorf("%d fresh callbacks were stored beside the drain", len(fresh))
	}
	db.wantCallbacks(fresh)
	if n := moved(); n != spooled {
		t.Errorf("%d callbacks are stored, want %d", n, spooled)
	}
	if n := db.count(`SELECT count(*) FROM callbackd.inbox`); n != spooled+len(fresh) {
		t.Errorf("%d callbacks wait for promotion, want %d", n, spooled+len(fresh))
	}
	if s.metrics(t)[`callbackd_callbacks_total{outcome="spooled"}`] != 0 {
		t.Error("fresh callbacks went into the spool while Postgres was there")
	}
}

// fillSpool does what an instance does in a long outage.
func fillSpool(t *testing.T, dir string, n int) {
	t.Helper()
	began := time.Now()
	s, err := spool.Open(spool.Options{Dir: dir, MaxBytes: 1 << 30, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	const senders = 250
	var sending sync.WaitGroup
	for sender := range senders {
		sending.Go(func() {
			for k := range n / senders {
				id := fmt.Sprintf("spooled-%d-%d", sender, k)
				c := &callback.Callback{
					ID: uuid.Must(uuid.NewV7()), ReceivedAt: began, SourceIP: netip.MustParseAddr(jumioAddress), ContentType: "application/json",
					Body: []byte(callbackBody(id, "SPOOLED")), WorkflowExecutionID: id, WorkflowStatus: "SPOOLED",
				}
				if err := s.Append(t.Context(), c); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	sending.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d callbacks in the spool after %s", n, time.Since(began).Round(time.Millisecond))
}
