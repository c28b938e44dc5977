package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/callback"
	"callbackd/internal/store"
	"callbackd/internal/store/receiving"
	"callbackd/internal/store/storetest"
)

func TestReadyReadOnly(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatalf("ready: %v", err)
	}
	readOnly := storetest.Open(t, dsn+"&default_transaction_read_only=on")
	if err := readOnly.Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("read-only database: %v, want ErrUnavailable", err)
	}
	if err := readOnly.InsertCallback(t.Context(), storetest.Callback("w")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("insert into a read-only database: %v, want ErrUnavailable", err)
	}
}

// What a role of the server's sets must not weaken what a 200 promises.
func TestSynchronousCommitIsOn(t *testing.T) {
	s := storetest.Open(t, storetest.NewMigrated(t)+"&synchronous_commit=off")
	if got := storetest.Scalar[string](t, s, `SHOW synchronous_commit`); got != "on" {
		t.Errorf("synchronous_commit is %s, want on", got)
	}
}

func TestRejected(t *testing.T) {
	s := storetest.New(t)
	r := &callback.Rejected{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), Reason: "address_not_allowed", ContentType: "x", Body: []byte("{\x00}")}
	if err := s.InsertRejected(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	got, err := s.GetRejected(t.Context(), r.ID)
	if err != nil || got.SourceIP.IsValid() || !bytes.Equal(got.Body, r.Body) || !got.ReplayedAt.IsZero() {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := s.Replay(t.Context(), r.ID, storetest.Callback("replayed")); err != nil {
		t.Fatal(err)
	}
	if err := s.Replay(t.Context(), r.ID, storetest.Callback("again")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a second replay: %v, want ErrNotFound", err)
	}
	list, err := s.ListRejected(t.Context(), 10)
	if err != nil || len(list) != 1 || list[0].ReplayedAt.IsZero() {
		t.Errorf("list: %+v, %v", list, err)
	}
	if n := storetest.Scalar[int64](t, s, `SELECT count(*) FROM jumio.callbacks`); n != 1 {
		t.Errorf("%d callbacks after the replay, want 1", n)
	}
	if _, err := s.GetRejected(t.Context(), uuid.New()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown id: %v, want ErrNotFound", err)
	}
}

// No text of an error may quote a row.
func TestErrorsHoldNoValues(t *testing.T) {
	s := storetest.New(t)
	c := storetest.Callback("secret-workflow")
	storetest.Insert(t, s, c)
	c.Body = []byte("SECRET-MARK")
	err := s.InsertCallback(t.Context(), c)
	if err == nil || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), c.ID.String()) {
		t.Errorf("error: %v", err)
	}
}

func TestMigrateDownAndUpAgain(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	m, err := store.NewMigrator(t.Context(), store.MigratorOptions{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Down(t.Context(), store.RequiredVersion+1); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("only %d migrations", store.RequiredVersion)) {
		t.Errorf("taking back more than there is: %v", err)
	}
	s := storetest.Open(t, dsn)
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Errorf("after a refused down: %v", err)
	}
	if err := m.Down(t.Context(), store.RequiredVersion); err != nil {
		t.Fatalf("down: %v", err)
	}
	if err := s.CheckSchema(t.Context()); err == nil || !strings.Contains(err.Error(), "callbackd migrate up") {
		t.Errorf("check of an empty schema: %v", err)
	}
	left := storetest.Query(t, s, `SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		WHERE nspname IN ('callbackd', 'jumio') AND relname NOT LIKE 'schema_migrations%'`)
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := m.Up(t.Context()); err != nil {
		t.Fatalf("up again: %v", err)
	}
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	storetest.Insert(t, s, storetest.Callback("w"))
}

func TestRequiredVersionIsTheLatestMigration(t *testing.T) {
	s := storetest.New(t)
	if v, dirty, err := s.SchemaVersion(t.Context()); v != store.RequiredVersion || dirty || err != nil {
		t.Errorf("after migrate up the version is %d (dirty %v, %v), but RequiredVersion is %d", v, dirty, err, store.RequiredVersion)
	}
}

func TestMigrateConcurrently(t *testing.T) {
	dsn := storetest.NewDatabase(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			m, err := store.NewMigrator(context.Background(), store.MigratorOptions{DSN: dsn})
			if err != nil {
				t.Errorf("prepare: %v", err)
				return
			}
			defer m.Close()
			if err := m.Up(t.Context()); err != nil {
				t.Errorf("up: %v", err)
			}
		})
	}
	wg.Wait()
}

func TestEveryViewAndColumnHasAComment(t *testing.T) {
	s := storetest.New(t)
	missing := storetest.Query(t, s, `
		SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'jumio'::regnamespace AND c.relkind = 'v' AND a.attnum >= 0
			AND col_description(c.oid, a.attnum) IS NULL
		UNION ALL
		SELECT relname, '' FROM pg_class WHERE relnamespace = 'jumio'::regnamespace AND relkind = 'v' AND obj_description(oid) IS NULL`)
	if len(missing) != 0 {
		t.Errorf("without a COMMENT: %v", missing)
	}
}

func TestRoleReader(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	storetest.SeedDetails(t, s, "w", `{"createdAt":"2021-03-12T15:47:17.234Z","capabilities":{"extraction":[{"data":{"dateOfBirth":"1990-01-01"}}]}}`)
	reader := storetest.Open(t, storetest.AsMember(t, dsn, "jumio_reader"))
	for _, view := range []string{"callbacks", "workflow_executions", "capabilities", "extracted_documents", "images", "rejected_callbacks", "events"} {
		if _, err := reader.Pool().Exec(t.Context(), `SELECT * FROM jumio.`+view); err != nil {
			t.Errorf("read jumio.%s: %v", view, err)
		}
	}
	for _, sql := range []string{
		`SELECT * FROM callbackd.images`, `SELECT * FROM callbackd.callbacks`, `DELETE FROM jumio.callbacks`,
		`UPDATE jumio.workflow_executions SET status = 'x'`, `SELECT callbackd.append_events('{expired}', '{w}')`,
		`SELECT * FROM callbackd.river_job`, `CREATE TABLE jumio.x ()`,
	} {
		if _, err := reader.Pool().Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: allowed", sql)
		}
	}
}

func TestRoleReceiver(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	r := storetest.Open(t, storetest.AsMember(t, dsn, "callbackd_receiver"))
	if err := r.CheckSchema(t.Context()); err != nil {
		t.Errorf("check the schema: %v", err)
	}
	if err := r.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	storetest.Insert(t, r, storetest.Callback("w"))
	if err := r.InsertRejected(t.Context(), &callback.Rejected{ID: uuid.New(), ReceivedAt: time.Now(), Reason: "x"}); err != nil {
		t.Errorf("keep a rejected callback: %v", err)
	}
	addresses := []receiving.Address{{Host: "h", Addr: netip.MustParseAddr("192.0.2.1"), LastSeen: time.Now()}}
	for range 2 {
		if err := r.SaveAddresses(t.Context(), addresses); err != nil {
			t.Errorf("remember addresses: %v", err)
		}
	}
	if list, err := r.LoadAddresses(t.Context(), []string{"h"}); err != nil || len(list) != 1 {
		t.Errorf("load addresses: %v, %v", list, err)
	}
	for _, sql := range []string{
		`SELECT * FROM callbackd.callbacks`, `SELECT * FROM callbackd.inbox`, `SELECT * FROM callbackd.workflow_details`,
		`SELECT * FROM callbackd.images`, `SELECT * FROM callbackd.rejected_callbacks`, `SELECT * FROM jumio.images`,
		`SELECT * FROM callbackd.events`, `SELECT * FROM callbackd.workflow_executions`, `SELECT * FROM callbackd.river_job`,
		`UPDATE callbackd.callbacks SET body = ''`, `DELETE FROM callbackd.callbacks`, `DELETE FROM callbackd.allowlist_addresses`,
		`INSERT INTO callbackd.inbox VALUES (gen_random_uuid())`, `INSERT INTO callbackd.events (occurred_at, type, workflow_execution_id) VALUES (now(), 'expired', 'w')`,
	} {
		if _, err := r.Pool().Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: allowed", sql)
		}
	}
}

func TestListenIsWoken(t *testing.T) {
	s := storetest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	inbox, jobs := make(chan struct{}, 100), make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Listen(ctx, func() { inbox <- struct{}{} }, func() { jobs <- struct{}{} })
	}()
	<-inbox // it listens now
	<-jobs
	storetest.Insert(t, s, storetest.Callback("w"))
	<-inbox
	s.Wake(store.Jobs)
	<-jobs
	cancel()
	<-done
}
