package processtest

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// upgradeRig is two receivers with only their role's rights, one without a spool,
// and a worker.
func upgradeRig(t *testing.T) *chaosRig {
	t.Helper()
	r := newChaosRig(t, migrated(t))
	receiver := []string{"DATABASE_URL=" + storetest.AsMember(t, r.dsn, "callbackd_receiver"), "CALLBACKD_STORE_TIMEOUT=5s"}
	r.serve(roleReceiver, receiver...)
	r.serve(roleReceiver, append(receiver, "CALLBACKD_SPOOL_DIR=")...)
	r.serve(roleWorker)
	return r
}

// wantAllStored demands that every callback was answered with 200 and none went
// into a spool.
func (r *chaosRig) wantAllStored() {
	r.t.Helper()
	codes := r.load.counts()
	if others := maps.Clone(codes); codes[http.StatusOK] == 0 || len(others) > 1 {
		r.t.Errorf("answers by status: %v", codes)
	}
	for _, i := range r.instances {
		if n := i.metrics(r.t)[`callbackd_callbacks_total{outcome="spooled"}`]; n > 0 {
			r.t.Errorf("%.0f callbacks were spooled", n)
		}
	}
}

func (r *chaosRig) wantNoBrokenConnection() {
	r.t.Helper()
	if n := r.load.broken.Load(); n > 0 {
		r.t.Errorf("%d requests had no answer", n)
	}
}

// migrate runs `callbackd migrate`, which may say on stderr that it waits.
func migrate(t *testing.T, dsn string, args ...string) {
	t.Helper()
	r := callbackd(t, []string{"DATABASE_URL=" + dsn}, append([]string{"migrate"}, args...)...)
	t.Logf("migrate %v: %+v", args, r)
	if r.Code != 0 {
		t.Fatalf("exit code %d", r.Code)
	}
}

// previousVersion is the schema before partitions and typed tables.
const previousVersion = 9

// views are the public interface.
var views = []string{"callbacks", "workflow_executions", "capabilities", "extracted_documents", "images", "rejected_callbacks", "events"}

// digests are those of every row of every view, images' bytes included.
func (db *database) digests() []string {
	db.t.Helper()
	var list []string
	for _, view := range views {
		columns := "v"
		if view == "events" { // the schema before has no more
			columns = "(event_id, occurred_at, type, workflow_execution_id)"
		}
		list = append(list, db.texts(fmt.Sprintf(`SELECT '%[1]s ' || md5(%[2]s::text) FROM jumio.%[1]s AS v`, view, columns))...)
	}
	slices.Sort(list)
	return list
}

// wantKept demands that every row of before is there, unchanged.
func (db *database) wantKept(before []string) {
	db.t.Helper()
	now := db.digests()
	lost := map[string]int{}
	for _, row := range before {
		if _, found := slices.BinarySearch(now, row); !found {
			lost[row[:len(row)-33]]++
		}
	}
	if len(lost) > 0 {
		db.t.Errorf("rows that are gone or changed: %v", lost)
	}
}

func (db *database) schemaVersion() int {
	db.t.Helper()
	return db.count(`SELECT version::int FROM callbackd.schema_migrations WHERE NOT dirty`)
}

// TestUpgrade: the previous schema, with data in it and instances that receive
// and retrieve, is brought to the newest one under load, back and up again. Every
// callback is answered with 200, none is lost, every journey is retrieved, and
// earlier data is unchanged.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	r := upgradeRig(t)
	r.warmUp()
	before := r.db.digests()
	if len(before) < 100 {
		t.Errorf("%d rows before the upgrade: the load is not what the test wants", len(before))
	}

	r.load.start()
	r.awaitMore(chaosSenders)
	for _, step := range []struct {
		args []string
		want int
	}{
		{[]string{"down", strconv.Itoa(store.RequiredVersion - previousVersion)}, previousVersion},
		{[]string{"up"}, store.RequiredVersion},
		{[]string{"down", strconv.Itoa(store.RequiredVersion - previousVersion)}, previousVersion},
		{[]string{"up"}, store.RequiredVersion},
	} {
		migrate(t, r.dsn, step.args...)
		if v := r.db.schemaVersion(); v != step.want {
			t.Errorf("the schema's version is %d, want %d", v, step.want)
		}
		r.awaitMore(2 * chaosSenders)
	}
	r.settle()
	r.wantAllStored()
	r.wantNoBrokenConnection()
	// On the older schema no attempt can be stored, so its downloads are repeated.
	r.checkDownloads(false)
	r.db.wantKept(before)
}

// nextSchema are the embedded migrations and some of a schema to come, which
// change the tables that callbacks, promotion and retrieval write to.
func nextSchema(t *testing.T) fs.FS {
	t.Helper()
	files := storetest.Migrations(t)
	add := func(name string, text string) { files[name] = &fstest.MapFile{Data: []byte(text)} }
	version := store.RequiredVersion
	for _, table := range []string{"callbacks", "inbox", "workflow_executions", "workflow_details", "images", "events", "river_job"} {
		version++
		add(fmt.Sprintf("%06d_%s.up.sql", version, table), "ALTER TABLE callbackd."+table+" ADD COLUMN next text;")
		add(fmt.Sprintf("%06d_%s.down.sql", version, table), "ALTER TABLE callbackd."+table+" DROP COLUMN next;")
	}
	add(fmt.Sprintf("%06d_index.up.sql", version+1), "CREATE INDEX CONCURRENTLY IF NOT EXISTS next_idx ON callbackd.callbacks_1 (received_at);")
	add(fmt.Sprintf("%06d_index.down.sql", version+1), "DROP INDEX CONCURRENTLY IF EXISTS callbackd.next_idx;")
	return files
}

// TestUpgradeToNextSchema: migrations that need every table for themselves run
// under load while a backup reads those tables, and hold no callback up. This
// version then goes on with the newer schema, also when its instances are
// started on it, one after the other.
func TestUpgradeToNextSchema(t *testing.T) {
	t.Parallel()
	r := upgradeRig(t)
	r.warmUp()
	before := r.db.texts(`SELECT md5(data) FROM jumio.images ORDER BY 1`)
	r.load.start()
	r.awaitMore(chaosSenders)

	backup, err := r.db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = backup.Rollback(context.Background()) }()
	if _, err := backup.Exec(t.Context(), `LOCK TABLE callbackd.callbacks, callbackd.inbox, callbackd.images, callbackd.river_job IN ACCESS SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	waits := make(chan string, 100)
	m, err := store.NewMigrator(t.Context(), store.MigratorOptions{DSN: r.dsn, Files: nextSchema(t), OnWait: func(who string) { waits <- who }})
	if err != nil {
		t.Fatal(err)
	}
	migrated := make(chan error, 1)
	go func() {
		defer m.Close()
		migrated <- m.Up(t.Context())
	}()
	for range 2 {
		select {
		case err := <-migrated:
			t.Fatalf("the migration has not waited for the backup: %v", err)
		case who := <-waits:
			t.Logf("the migration waits for %s", who)
		case <-time.After(patience):
			r.wantAllStored()
			t.Fatal("the migration neither ends nor gives way")
		}
		r.awaitMore(2 * chaosSenders)
	}
	if err := backup.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Fatal(err)
	}
	if v := r.db.schemaVersion(); v != store.RequiredVersion+8 {
		t.Errorf("the schema's version is %d", v)
	}
	r.awaitMore(2 * chaosSenders)
	r.wantAllStored()
	r.wantNoBrokenConnection()

	for _, i := range r.instances {
		i.stop(terminate)
		r.restart(i)
		r.awaitMore(chaosSenders)
	}
	serve(t, append(receiving(r.dsn), "CALLBACKD_MIGRATE_ON_START=true")).stop(terminate)
	r.settle()
	r.wantAllStored()
	if after := r.db.texts(`SELECT md5(data) FROM jumio.images ORDER BY 1`); len(after) < len(before) {
		t.Errorf("%d images, %d before", len(after), len(before))
	}
}

// TestUpgradeBackWithoutTables is what a receiver does when its tables go: it
// spools, and goes on when they are back.
func TestUpgradeBackWithoutTables(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	s := serve(t, append(receiving(storetest.AsMember(t, dsn, "callbackd_receiver")), "CALLBACKD_SPOOL_DIR="+t.TempDir()))
	load := startLoad(s)
	load.awaitMore(t, loadSenders)
	const tables = 3 // is the version that makes the tables
	for _, step := range [][]string{{"down", fmt.Sprint(store.RequiredVersion - tables + 1)}, {"up"}} {
		migrate(t, dsn, step...)
		load.awaitMore(t, loadSenders)
	}
	load.stop(t)
	s.awaitEmptySpool()
	stored := query(db, pgx.RowTo[int], `SELECT count(*)::int FROM jumio.callbacks`)[0]
	if spooled := s.metrics(t)[`callbackd_callbacks_total{outcome="spooled"}`]; spooled == 0 || float64(stored) < spooled {
		t.Errorf("%v callbacks were spooled, %d are stored", spooled, stored)
	}
}
