package receiving_test

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"callbackd/internal/callback"
	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// What was stored before, in another batch or by itself, is not stored or queued
// again, and the role of a receive-only instance is enough.
func TestInsertSpooledExactlyOnce(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	owner := storetest.Open(t, dsn)
	s := storetest.Open(t, storetest.AsMember(t, dsn, "callbackd_receiver"))
	direct, first, second := storetest.Callback("direct"), storetest.Callback("first"), storetest.Callback("second")
	storetest.Insert(t, s, direct)
	for _, batch := range [][]*callback.Callback{{direct, first}, {direct, first}, {first, second, second}} {
		if err := s.InsertSpooled(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"callbackd.callbacks", "callbackd.inbox"} {
		if n := storetest.Scalar[int64](t, owner, "SELECT count(*) FROM "+table); n != 3 {
			t.Errorf("%d rows in %s, want 3", n, table)
		}
	}
	// The direct insert that comes after all is told of, and changes nothing.
	if err := s.InsertCallback(t.Context(), first); !store.BadRow(err) {
		t.Errorf("a callback that was stored from the spool: %v", err)
	}
}

func TestRejectSpooled(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	owner := storetest.Open(t, dsn)
	storetest.Query(t, owner, `ALTER TABLE callbackd.callbacks ADD CONSTRAINT picky CHECK (workflow_status <> 'BAD')`)
	s := storetest.Open(t, storetest.AsMember(t, dsn, "callbackd_receiver"))
	good, bad := storetest.Callback("good"), storetest.Callback("bad")
	bad.WorkflowStatus, bad.Body = "BAD", bytes.Repeat([]byte("x"), callback.RejectedBodyLimit+1)
	cause := s.InsertSpooled(t.Context(), []*callback.Callback{good, bad})
	if !store.BadRow(cause) || errors.Is(cause, store.ErrUnavailable) {
		t.Fatalf("a row at fault: %v", cause)
	}
	if n := storetest.Scalar[int64](t, owner, "SELECT count(*) FROM callbackd.callbacks"); n != 0 {
		t.Errorf("%d rows are stored beside one at fault", n)
	}
	for range 2 {
		if err := s.RejectSpooled(t.Context(), bad, cause); err != nil {
			t.Fatal(err)
		}
	}
	row, err := owner.GetRejected(t.Context(), bad.ID)
	if err != nil {
		t.Fatal(err)
	}
	if row.Reason != "not_storable: SQLSTATE 23514" || len(row.Body) != callback.RejectedBodyLimit || row.SourceIP != bad.SourceIP || !row.ReceivedAt.Equal(bad.ReceivedAt) {
		t.Errorf("kept with the reason %q and %d bytes", row.Reason, len(row.Body))
	}
	if n := testutil.ToFloat64(s.Metrics.DeadLetters); n != 1 {
		t.Errorf("%v dead letters are counted, want 1", n)
	}
}

// Connections to a server that does not write any more are closed, so that new
// ones may find another one.
func TestReadOnlyConnectionsAreClosed(t *testing.T) {
	dsn, err := url.Parse(storetest.NewMigrated(t))
	if err != nil {
		t.Fatal(err)
	}
	values := dsn.Query()
	values.Set("pool_max_conns", "1")
	dsn.RawQuery = values.Encode()
	s := storetest.Open(t, dsn.String())
	storetest.Insert(t, s, storetest.Callback("before"))
	storetest.Query(t, s, "SET default_transaction_read_only = on") // this session alone
	if err := s.InsertSpooled(t.Context(), []*callback.Callback{storetest.Callback("refused")}); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "25006") {
		t.Fatalf("read-only: %v", err)
	}
	storetest.Eventually(t, "the connection of a read-only session is closed", func() bool {
		return s.InsertSpooled(t.Context(), []*callback.Callback{storetest.Callback("after")}) == nil
	})
}

// A spool is reported while it holds callbacks, with the role of a receive-only instance;
// a schema of before is not asked.
func TestReportSpool(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	owner := storetest.Open(t, dsn)
	s := storetest.Open(t, storetest.AsMember(t, dsn, "callbackd_receiver"))
	id := uuid.New()
	since := func() []time.Time {
		t.Helper()
		var list []time.Time
		for _, row := range storetest.Query(t, owner, `SELECT not_empty_since FROM callbackd.spools WHERE spool_id = $1 AND host = 'receiver-1'`, id) {
			list = append(list, row[0].(time.Time))
		}
		return list
	}
	report := func(empty bool) {
		t.Helper()
		if err := s.ReportSpool(t.Context(), id, "receiver-1", empty); err != nil {
			t.Fatal(err)
		}
	}
	report(true) // nothing to remove
	report(false)
	first := since()
	report(false)
	if again := since(); len(first) != 1 || len(again) != 1 || !first[0].Equal(again[0]) {
		t.Errorf("not empty since %v, then since %v", first, again)
	}
	report(true)
	if got := since(); len(got) != 0 {
		t.Errorf("an empty spool is not empty since %v", got)
	}
	storetest.Query(t, owner, `DROP FUNCTION callbackd.report_spool(uuid, text, boolean)`)
	report(false)
}
