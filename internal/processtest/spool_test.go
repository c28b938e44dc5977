package processtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/pgserver"
)

// outage is a private Postgres that a test stops and starts.
type outage struct {
	t      testing.TB
	server *pgserver.Server
	dsn    string
}

func newOutage(t testing.TB) *outage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := pgserver.Start(ctx, pgserver.Options{NoSync: true})
	if err != nil {
		t.Fatalf("a Postgres of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop Postgres: %v", err)
		}
	})
	return &outage{t, server, server.DSN("postgres")}
}

func (o *outage) begin() {
	o.t.Helper()
	if err := o.server.Kill(); err != nil {
		o.t.Fatal(err)
	}
}

func (o *outage) end() {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	if err := o.server.Restart(ctx); err != nil {
		o.t.Fatal(err)
	}
}

// spooling are the settings of a receive-only instance with a spool.
func spooling(dsn, dir string) []string {
	return append(receiving(dsn), "CALLBACKD_SPOOL_DIR="+dir, "CALLBACKD_STORE_TIMEOUT=2s")
}

// postAll posts the callbacks from and up to, one after the other.
func (i *instance) postAll(from, to int) {
	i.t.Helper()
	for n := from; n <= to; n++ {
		i.post(i.t, jumioAddress, "application/json", callbackBody(spooledID(n), "ACQUIRED")).wantCode(i.t, http.StatusOK)
	}
}

func spooledID(n int) string { return fmt.Sprintf("spooled-%03d", n) }

// awaitEmptySpool waits until the spool is drained.
func (i *instance) awaitEmptySpool() {
	i.t.Helper()
	eventually(i.t, patience, func() error {
		m := i.metrics(i.t)
		if m["callbackd_spool_callbacks"] != 0 || m["callbackd_spool_bytes"] != 0 || m["callbackd_spool_since_timestamp_seconds"] != 0 {
			return fmt.Errorf("%v callbacks, %v bytes, since %v", m["callbackd_spool_callbacks"], m["callbackd_spool_bytes"], m["callbackd_spool_since_timestamp_seconds"])
		}
		return nil
	})
}

// wantInOrder demands that the callbacks up to n are stored, each once, in the
// order in which they were sent, and wait for promotion.
func (db *database) wantInOrder(n int) {
	db.t.Helper()
	var want []string
	for i := 1; i <= n; i++ {
		want = append(want, spooledID(i))
	}
	got := db.texts(`SELECT workflow_execution_id FROM jumio.callbacks ORDER BY received_at, callback_id`)
	if diff := cmp.Diff(want, got); diff != "" {
		db.t.Errorf("jumio.callbacks (-want +got):\n%s", diff)
	}
	if got := db.texts(`SELECT workflow_execution_id FROM callbackd.callbacks WHERE workflow_execution_id <> 'spooled-001' ORDER BY ctid`); n > 1 && got[0] > got[len(got)-1] {
		db.t.Errorf("they were not drained in order")
	}
	if queued := db.count(`SELECT count(*) FROM callbackd.inbox`); queued != n {
		db.t.Errorf("%d callbacks wait for promotion, want %d", queued, n)
	}
}

// TestSpoolOutlivesEverything: Postgres goes down, callbacks get 200; the receiver
// is killed, starts again without Postgres and accepts more; once Postgres is back
// it has all of them, each once and in order.
func TestSpoolOutlivesEverything(t *testing.T) {
	t.Parallel()
	postgres := newOutage(t)
	succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
	dir := filepath.Join(t.TempDir(), "spool")
	s := serve(t, spooling(postgres.dsn, dir))
	s.postAll(1, 3)

	postgres.begin()
	s.postAll(4, 20)
	m := s.metrics(t)
	for sample, want := range map[string]float64{
		`callbackd_callbacks_total{outcome="stored"}`:  3,
		`callbackd_callbacks_total{outcome="spooled"}`: 17,
		"callbackd_spool_callbacks":                    17,
	} {
		if m[sample] != want {
			t.Errorf("%s is %v, want %v", sample, m[sample], want)
		}
	}
	for _, name := range []string{"callbackd_spool_bytes", "callbackd_spool_oldest_timestamp_seconds", "callbackd_spool_since_timestamp_seconds"} {
		if m[name] <= 0 {
			t.Errorf("%s is %v", name, m[name])
		}
	}
	if err := wantReady(s, http.StatusOK); err != nil {
		t.Errorf("with room in the spool: %v", err)
	}
	if a, err := get(s.admin + "/readyz"); err != nil || !strings.Contains(a.body, "spooled since") || !strings.Contains(a.body, "17 callbacks") {
		t.Errorf("/readyz of the admin listener says %+v, %v", a, err)
	}
	if a, err := get(s.callback + "/readyz"); err != nil || a.body != "ready\n" {
		t.Errorf("/readyz tells an outsider: %+v, %v", a, err)
	}
	s.kill()

	s = serve(t, spooling(postgres.dsn, dir))
	if m := s.metrics(t); m["callbackd_spool_callbacks"] != 17 {
		t.Errorf("after the kill %v callbacks are in the spool, want 17", m["callbackd_spool_callbacks"])
	}
	s.postAll(21, 40)
	if r := fails(t, spooling(postgres.dsn, dir), "serve"); !strings.Contains(r, dir) || !strings.Contains(r, "another process is using it") {
		t.Errorf("a second instance with the same spool says %q", r)
	}
	wantPrivate(t, dir)

	postgres.end()
	s.awaitEmptySpool()
	s.postAll(41, 42)
	if m := s.metrics(t); m[`callbackd_callbacks_total{outcome="stored"}`] != 2 {
		t.Errorf("after the outage %v callbacks were stored directly, want 2", m[`callbackd_callbacks_total{outcome="stored"}`])
	}
	open(t, postgres.dsn).wantInOrder(42)
}

// wantPrivate: no other user can read the spool.
func wantPrivate(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil // written for a moment, to check the disk
		}
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestStartWithoutPostgres: an instance with a spool starts while Postgres is
// away and receives; migration, worker and the rest follow when it is back.
func TestStartWithoutPostgres(t *testing.T) {
	t.Parallel()
	postgres := newOutage(t)
	postgres.begin()
	jumio := startSandbox(t, "--fast-images")
	environ := append(retrieving(postgres.dsn, jumio), "CALLBACKD_MIGRATE_ON_START=true", "CALLBACKD_STORE_TIMEOUT=2s")
	fails(t, environ, "serve") // as before, without a spool

	s := serve(t, append(environ, "CALLBACKD_SPOOL_DIR="+filepath.Join(t.TempDir(), "spool")))
	id := jumio.sendOne(journeys{Kind: "passed-passport", CallbackURL: s.callbackURL()})
	eventually(t, patience, func() error {
		if s.metrics(t)["callbackd_spool_callbacks"] == 0 {
			return fmt.Errorf("nothing is in the spool")
		}
		return nil
	})
	postgres.end()
	s.awaitEmptySpool()
	open(t, postgres.dsn).awaitState(id, "retrieved")
}

// TestWrongSchemaFoundLater: a schema that is too old is reported clearly, and
// callbacks are spooled until it is right.
func TestWrongSchemaFoundLater(t *testing.T) {
	t.Parallel()
	postgres := newOutage(t)
	postgres.begin()
	dir := filepath.Join(t.TempDir(), "spool")
	s := serve(t, spooling(postgres.dsn, dir))
	s.postAll(1, 3)
	postgres.end()
	eventually(t, patience, func() error {
		a, err := get(s.admin + "/readyz")
		if err != nil || !strings.Contains(a.body, "callbackd migrate up") {
			return fmt.Errorf("/readyz says %+v, %w", a, err)
		}
		return nil
	})
	s.postAll(4, 5)
	if !strings.Contains(s.stderr.String(), "callbackd migrate up") {
		t.Error("the log says nothing of the schema")
	}
	if r := fails(t, spooling(postgres.dsn, t.TempDir()), "serve"); !strings.Contains(r, "callbackd migrate up") {
		t.Errorf("started on a wrong schema that is there: %q", r)
	}
	succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
	s.awaitEmptySpool()
	open(t, postgres.dsn).wantInOrder(5)
}

// TestFullSpool: with Postgres away and the spool full, callbacks get 503 with
// Retry-After, and /readyz is 503; what got 200 before is not lost. It is filled
// with callbacks of the maximum size.
func TestFullSpool(t *testing.T) {
	t.Parallel()
	postgres := newOutage(t)
	succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
	postgres.begin()
	s := serve(t, append(spooling(postgres.dsn, filepath.Join(t.TempDir(), "spool")), "CALLBACKD_SPOOL_MAX_BYTES=10000000"))
	taken, rejections := 0, 0
	for rejections == 0 && taken < 50 {
		a := s.post(t, jumioAddress, "application/json", largest(spooledID(taken+1)))
		switch a.code {
		case http.StatusOK:
			taken++
		case http.StatusServiceUnavailable:
			rejections++
			if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
				t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
			}
		default:
			t.Fatalf("answered %d", a.code)
		}
	}
	if taken != 9 || rejections != 1 {
		t.Errorf("%d callbacks of 1 MiB were taken, want 9", taken)
	}
	for n := 0; ; n++ { // the rest of it
		a := s.post(t, jumioAddress, "application/json", callbackBody(spooledID(taken+1), "ACQUIRED"))
		if a.code == http.StatusServiceUnavailable {
			break
		}
		a.wantCode(t, http.StatusOK)
		if taken++; n > 5000 {
			t.Fatal("the spool does not become full")
		}
	}
	eventually(t, patience, func() error { return wantReady(s, http.StatusServiceUnavailable) })
	postgres.end()
	s.awaitEmptySpool()
	db := open(t, postgres.dsn)
	if n := db.count(`SELECT count(*) FROM jumio.callbacks`); n != taken {
		t.Errorf("%d callbacks are stored, want the %d that got 200", n, taken)
	}
	if n := db.count(`SELECT count(*) FROM jumio.callbacks WHERE length(body) = 1048576`); n != 9 {
		t.Errorf("%d callbacks of 1 MiB are stored, want 9", n)
	}
	eventually(t, patience, func() error { return wantReady(s, http.StatusOK) })
}

// largest is a callback's body of 1 MiB.
func largest(id string) string {
	body := fmt.Sprintf(`{"workflowExecution":{"id":%q,"status":"ACQUIRED"},"x":"`, id)
	return body + strings.Repeat("x", 1<<20-len(body)-2) + `"}`
}

// TestLockedTable: callbacks that wait too long for a lock are spooled under the
// ids of their inserts, and stored once.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	s := serve(t, append(spooling(dsn, filepath.Join(t.TempDir(), "spool")), "CALLBACKD_STORE_TIMEOUT=500ms"))
	lock, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), `LOCK TABLE callbackd.callbacks IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	s.postAll(1, 5)
	if n := s.metrics(t)[`callbackd_callbacks_total{outcome="spooled"}`]; n != 5 {
		t.Errorf("%v callbacks were spooled, want 5", n)
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitEmptySpool()
	db.wantInOrder(5)
}

// TestUnstorableCallback: a callback whose values Postgres rejects is a dead letter
// kept as rejected; one that it rejects even there is kept and tried again at the
// next start. Neither holds back those behind it.
func TestUnstorableCallback(t *testing.T) {
	t.Parallel()
	postgres := newOutage(t)
	succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
	db := open(t, postgres.dsn)
	db.exec(`ALTER TABLE callbackd.callbacks ADD CONSTRAINT picky CHECK (workflow_status NOT IN ('BAD', 'WORSE'))`)
	db.exec(`ALTER TABLE callbackd.rejected_callbacks ADD CONSTRAINT picky CHECK (position('WORSE'::bytea IN body) = 0)`)
	dir := filepath.Join(t.TempDir(), "spool")
	s := serve(t, spooling(postgres.dsn, dir))
	postgres.begin()
	for id, status := range map[string]string{"bad": "BAD", "worse": "WORSE"} {
		s.post(t, jumioAddress, "application/json", callbackBody(id, status)).wantCode(t, http.StatusOK)
	}
	s.postAll(1, 5)
	postgres.end()
	s.awaitEmptySpool()
	db = open(t, postgres.dsn) // the old connections are dead
	db.wantInOrder(5)
	// Without an outage it is the same.
	s.post(t, jumioAddress, "application/json", callbackBody("bad-too", "BAD")).wantCode(t, http.StatusOK)
	eventually(t, patience, func() error {
		if n := db.count(`SELECT count(*) FROM jumio.rejected_callbacks`); n != 2 {
			return fmt.Errorf("%d are rejected", n)
		}
		return nil
	})
	if got := db.texts(`SELECT DISTINCT reason FROM jumio.rejected_callbacks`); len(got) != 1 || got[0] != "not_storable: SQLSTATE 23514" {
		t.Errorf("the reasons of what is rejected are %q", got)
	}
	m := s.metrics(t)
	for outcome, want := range map[string]float64{"rejected": 2, "unstorable": 1} {
		if got := m[fmt.Sprintf("callbackd_spool_moved_total{outcome=%q}", outcome)]; got != want {
			t.Errorf("%v callbacks were drained as %s, want %v", got, outcome, want)
		}
	}
	s.stop(terminate)

	db.exec(`ALTER TABLE callbackd.callbacks DROP CONSTRAINT picky`)
	s = serve(t, spooling(postgres.dsn, dir))
	s.awaitEmptySpool()
	if n := db.count(`SELECT count(*) FROM jumio.callbacks WHERE workflow_status = 'WORSE'`); n != 1 {
		t.Errorf("the unstorable callback is stored %d times after a restart, want once", n)
	}
}

// TestTornSpool: the end of the spool is cut off, as a power cut may do; the
// instance starts, reports it, and every intact callback arrives.
func TestTornSpool(t *testing.T) {
	t.Parallel()
	postgres := newOutage(t)
	succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
	postgres.begin()
	dir := filepath.Join(t.TempDir(), "spool")
	s := serve(t, spooling(postgres.dsn, dir))
	s.postAll(1, 10)
	s.kill()
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the segments are %q, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(files[0], info.Size()-60); err != nil {
		t.Fatal(err)
	}
	postgres.end()
	s = serve(t, spooling(postgres.dsn, dir))
	s.awaitEmptySpool()
	open(t, postgres.dsn).wantInOrder(9)
	if m := s.metrics(t); m["callbackd_spool_damages_total"] != 1 {
		t.Errorf("%v damages are counted, want 1", m["callbackd_spool_damages_total"])
	}
	reported := false
	for _, line := range s.stderr.lines() {
		var entry struct{ Level, Msg, File string }
		if err := json.Unmarshal([]byte(line), &entry); err == nil && entry.Level == "error" && entry.File == files[0] {
			reported = true
		}
	}
	if !reported {
		t.Error("the log does not tell of the damaged file")
	}
}
