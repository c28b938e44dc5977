package intake

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/store/storetest"
)

// An erasure waits for a spool from before its first callback is drained until nothing of
// a callback is on disk any more, dead letters and damaged files included.
func TestReportSpool(t *testing.T) {
	s := storetest.New(t)
	dir := t.TempDir()
	i, err := New(Options{
		Store: s.Receiving(), SpoolDir: dir, SpoolMaxBytes: 1 << 20, StoreTimeout: time.Minute,
		Check: func(context.Context) error { return nil }, Log: zap.NewNop(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	reported := func() int64 { return storetest.Scalar[int64](t, s, `SELECT count(*) FROM callbackd.spools`) }
	want := func(when string, n int64) {
		t.Helper()
		if got := reported(); got != n {
			t.Errorf("%s: %d spools are reported, want %d", when, got, n)
		}
	}
	stored := func() int64 { return storetest.Scalar[int64](t, s, `SELECT count(*) FROM callbackd.callbacks`) }
	spool := func(status string) {
		t.Helper()
		c := newCallback()
		c.Body, c.WorkflowStatus = fmt.Appendf(nil, "{%q}", status), status
		if err := i.spool.Append(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}

	// The table of callbacks takes nothing: it is reported, and not drained.
	storetest.Query(t, s, `CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '57P03'; END $$`)
	storetest.Query(t, s, `CREATE TRIGGER away BEFORE INSERT ON callbackd.callbacks FOR EACH ROW EXECUTE FUNCTION away()`)
	spool("ACQUIRED")
	i.step(t.Context())
	want("before it is drained", 1)
	storetest.Query(t, s, `DROP TRIGGER away ON callbackd.callbacks`)
	for range 2 {
		i.step(t.Context())
	}
	want("once it is drained", 0)
	if n := stored(); n != 1 {
		t.Errorf("%d callbacks are stored, want 1", n)
	}

	// What the database rejects even as a dead letter stays on disk.
	storetest.Query(t, s, `ALTER TABLE callbackd.callbacks ADD CONSTRAINT picky CHECK (workflow_status <> 'WORSE')`)
	storetest.Query(t, s, `ALTER TABLE callbackd.rejected_callbacks ADD CONSTRAINT picky CHECK (position('WORSE'::bytea IN body) = 0)`)
	spool("WORSE")
	for range 2 {
		i.step(t.Context())
	}
	want("with a dead letter on disk", 1)

	// A spool that was reported by a process that has died.
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "unstorable")); err != nil {
		t.Fatal(err)
	}
	if i, err = New(Options{
		Store: s.Receiving(), SpoolDir: dir, SpoolMaxBytes: 1 << 20, StoreTimeout: time.Minute,
		Check: func(context.Context) error { return nil }, Log: zap.NewNop(), Registerer: prometheus.NewRegistry(),
	}); err != nil {
		t.Fatal(err)
	}
	i.step(t.Context())
	want("after a restart with an empty spool", 0)
}
