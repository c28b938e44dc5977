package receiving_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"callbackd/internal/callback"
	"callbackd/internal/store"
	"callbackd/internal/store/receiving"
	"callbackd/internal/store/storetest"
)

var callbackRow = store.RowOf[callback.Callback]()

func TestInsertCallbackStoresEveryColumn(t *testing.T) {
	s := storetest.New(t)
	want := &callback.Callback{
		ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now().UTC().Truncate(time.Microsecond), SourceIP: netip.MustParseAddr("2001:db8::1"),
		ContentType: "text/\xffodd\x00", Body: []byte("raw \x00 \xff bytes"), WorkflowExecutionID: "w-1",
		WorkflowStatus: "PRO\x00CESSED", WorkflowHref: "https://h", DefinitionKey: "3", AccountID: "a", AccountHref: "https://a",
		UserReference: "ref", CallbackSentAt: time.Date(2021, 1, 21, 14, 55, 1, 917e6, time.UTC),
	}
	storetest.Insert(t, s, want)
	want.ContentType, want.WorkflowStatus = "text/\uFFFDodd\uFFFD", "PRO\uFFFDCESSED" // what text cannot hold is replaced
	rows, _ := s.Pool().Query(t.Context(), `SELECT `+callbackRow.Columns("")+` FROM jumio.callbacks`)
	got, err := pgx.CollectExactlyOneRow(rows, callbackRow.Scan)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(*want, got, cmpopts.EquateApproxTime(0), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for i := range reflect.TypeOf(got).NumField() {
		if reflect.ValueOf(got).Field(i).IsZero() {
			t.Errorf("the test leaves %s empty", reflect.TypeOf(got).Field(i).Name)
		}
	}
}

func TestInsertCallbackGroupsCommits(t *testing.T) {
	s := storetest.New(t)
	const n = 400
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := s.InsertCallback(context.Background(), storetest.Callback(fmt.Sprintf("w-%d", i))); err != nil {
				t.Errorf("insert: %v", err)
			}
		})
	}
	wg.Wait()
	if got := storetest.Scalar[int64](t, s, `SELECT count(*) FROM jumio.callbacks`); got != n {
		t.Errorf("%d callbacks are stored, want %d", got, n)
	}
	if got := storetest.Scalar[int64](t, s, `SELECT count(*) FROM callbackd.inbox`); got != n {
		t.Errorf("%d callbacks wait for promotion, want %d", got, n)
	}
	if txs := storetest.Scalar[int64](t, s, `SELECT count(DISTINCT xmin::text) FROM callbackd.callbacks`); txs >= n {
		t.Errorf("%d callbacks took %d transactions", n, txs)
	}
}

// A batch that fails because of one row must not take the others with it.
func TestInsertCallbackBadRowFailsAlone(t *testing.T) {
	s := storetest.New(t)
	taken := storetest.Callback("first")
	storetest.Insert(t, s, taken)
	const n = 50
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c := storetest.Callback(fmt.Sprintf("w-%d", i))
			if i == n/2 {
				c.ID = taken.ID
			}
			errs[i] = s.InsertCallback(context.Background(), c)
		})
	}
	wg.Wait()
	for i, err := range errs {
		var sqlErr *store.SQLError
		if i == n/2 {
			if !errors.As(err, &sqlErr) || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("the bad row's error is %v, want an SQLError", err)
			}
		} else if err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
}

// lockCallbacks lets nobody write callbacks until the function it returns is
// called.
func lockCallbacks(t *testing.T, pool *pgxpool.Pool) (unlock func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE callbackd.callbacks`); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// waitFor waits until n statements wait for a lock.
func waitFor(t *testing.T, s *storetest.Store, n int) {
	t.Helper()
	storetest.Eventually(t, fmt.Sprintf("%d statements wait for a lock", n), func() bool {
		return storetest.Scalar[int](t, s, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == n
	})
}

// odd are callbacks with every column in its different shapes.
func odd() []*callback.Callback {
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	callbacks := []*callback.Callback{
		{WorkflowExecutionID: "all-absent", ReceivedAt: at},
		{WorkflowExecutionID: "IPv4", ReceivedAt: at, SourceIP: netip.MustParseAddr("192.0.2.1"), Body: []byte{}},
		{WorkflowExecutionID: "IPv6", ReceivedAt: at, SourceIP: netip.MustParseAddr("2001:db8::1")},
		{WorkflowExecutionID: "zone", ReceivedAt: at, SourceIP: netip.MustParseAddr("fe80::1%eth0")},
		{WorkflowExecutionID: "IPv4-mapped", ReceivedAt: at, SourceIP: netip.MustParseAddr("::ffff:192.0.2.1")},
		{WorkflowExecutionID: "before-2000", ReceivedAt: at, CallbackSentAt: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)},
		{WorkflowExecutionID: "late", ReceivedAt: at, CallbackSentAt: time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{
			WorkflowExecutionID: "all-there", ReceivedAt: at, CallbackSentAt: at.Add(-time.Second), ContentType: "text/\xffodd\x00",
			WorkflowStatus: "PRO\x00CESSED", WorkflowHref: "h", DefinitionKey: "\xc3\x28", AccountID: "\u00e9", AccountHref: "a", UserReference: "r",
			Body: bytes.Repeat([]byte("\x00\xff\\x"), 300_000),
		},
	}
	for _, c := range callbacks {
		c.ID = uuid.Must(uuid.NewV7())
	}
	return callbacks
}

// A callback looks the same whether it came alone, by INSERT, or with others, by
// COPY.
func TestInsertCallbackAloneAndInABatch(t *testing.T) {
	alone, together := storetest.New(t), storetest.New(t)
	for _, c := range odd() {
		storetest.Insert(t, alone, c)
	}

	unlock := lockCallbacks(t, together.Pool())
	var wg sync.WaitGroup
	insert := func(c *callback.Callback) {
		wg.Go(func() {
			if err := together.InsertCallback(context.Background(), c); err != nil {
				t.Errorf("insert %s: %v", c.WorkflowExecutionID, err)
			}
		})
	}
	for i := range 2 { // who comes first goes alone
		insert(storetest.Callback("first"))
		waitFor(t, together, i+1)
	}
	for _, c := range odd() {
		insert(c)
	}
	storetest.Eventually(t, "all others wait together", func() bool { return receiving.Waiting(together.Receiving()) == len(odd()) })
	unlock()
	wg.Wait()

	rows := func(s *storetest.Store) []map[string]any {
		rows, _ := s.Pool().Query(t.Context(), `SELECT to_jsonb(c) - 'callback_id' FROM jumio.callbacks AS c
			WHERE workflow_execution_id <> 'first' ORDER BY workflow_execution_id`)
		list, err := pgx.CollectRows(rows, pgx.RowTo[map[string]any])
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	want, got := rows(alone), rows(together)
	if len(want) != len(odd()) {
		t.Errorf("%d rows, want %d", len(want), len(odd()))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in a batch, callbacks are stored differently (-alone +together):\n%.2000s", diff)
	}
	if txs := storetest.Scalar[int](t, together, `SELECT count(DISTINCT xmin::text) FROM callbackd.callbacks`); txs != 3 {
		t.Errorf("%d transactions, want 3: two alone, and those who waited together", txs)
	}
}

// Those who are being written and those who wait for their turn are given up
// after the time-out alike.
func TestInsertCallbackUnavailable(t *testing.T) {
	s := storetest.OpenWithTimeout(t, storetest.NewMigrated(t), 200*time.Millisecond)
	unlock := lockCallbacks(t, s.Pool())
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			err := s.InsertCallback(context.Background(), storetest.Callback(fmt.Sprintf("w-%d", i)))
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("while the table is locked: %v, want ErrUnavailable", err)
			}
		})
	}
	wg.Wait()
	unlock()
	storetest.Eventually(t, "the last batch that timed out lets go of its writer", func() bool {
		err := s.InsertCallback(t.Context(), storetest.Callback("after"))
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("after the lock is gone: %v", err)
		}
		return err == nil
	})
}

// Whatever a callback holds, bounding it makes it fit the table.
func TestBoundFitsTheTable(t *testing.T) {
	s := storetest.New(t)
	for i, text := range []string{strings.Repeat("\U0001F600", 3000), strings.Repeat("\xff", 3000), strings.Repeat("x\x00", 3000)} {
		c := storetest.Callback(fmt.Sprint("w", i))
		c.WorkflowStatus, c.WorkflowHref, c.AccountHref, c.AccountID = text, text, text, text
		c.DefinitionKey, c.UserReference, c.ContentType = text, text, text
		storetest.Insert(t, s, c)
		short := storetest.Callback(fmt.Sprint("s", i))
		short.WorkflowHref, short.AccountHref, short.UserReference = text[:4*100], text[:4*100], text[:4*60]
		storetest.Insert(t, s, short)
	}
}
