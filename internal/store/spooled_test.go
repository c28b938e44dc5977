package store_test

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"

	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// What was stored before, in another batch or by itself, is not stored or queued
// again, and the role of a receive-only instance is enough.
func TestInsertSpooledExactlyOnce(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	owner := storetest.Open(t, dsn)
	s := storetest.Open(t, storetest.AsMember(t, dsn, "callbackd_receiver"))
	direct, first, second := callback("direct"), callback("first"), callback("second")
	mustInsert(t, s, direct)
	for _, batch := range [][]*store.Callback{{direct, first}, {direct, first}, {first, second, second}} {
		if err := s.InsertSpooled(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"callbackd.callbacks", "callbackd.inbox"} {
		if n := scalar[int64](t, owner, "SELECT count(*) FROM "+table); n != 3 {
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
	query(t, owner, `ALTER TABLE callbackd.callbacks ADD CONSTRAINT picky CHECK (workflow_status <> 'BAD')`)
	s := storetest.Open(t, storetest.AsMember(t, dsn, "callbackd_receiver"))
	good, bad := callback("good"), callback("bad")
	bad.WorkflowStatus, bad.Body = "BAD", bytes.Repeat([]byte("x"), store.RejectedBodyLimit+1)
	cause := s.InsertSpooled(t.Context(), []*store.Callback{good, bad})
	if !store.BadRow(cause) || errors.Is(cause, store.ErrUnavailable) {
		t.Fatalf("a row at fault: %v", cause)
	}
	if n := scalar[int64](t, owner, "SELECT count(*) FROM callbackd.callbacks"); n != 0 {
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
	if row.Reason != "not_storable: SQLSTATE 23514" || len(row.Body) != store.RejectedBodyLimit || row.SourceIP != bad.SourceIP || !row.ReceivedAt.Equal(bad.ReceivedAt) {
		t.Errorf("kept with the reason %q and %d bytes", row.Reason, len(row.Body))
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
	mustInsert(t, s, callback("before"))
	query(t, s, "SET default_transaction_read_only = on") // this session alone
	if err := s.InsertSpooled(t.Context(), []*store.Callback{callback("refused")}); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "25006") {
		t.Fatalf("read-only: %v", err)
	}
	storetest.Eventually(t, "the connection of a read-only session is closed", func() bool {
		return s.InsertSpooled(t.Context(), []*store.Callback{callback("after")}) == nil
	})
}
