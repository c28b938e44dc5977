package processtest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestErasureOfAnUpload: a worker dies between the upload of an image and its row. The
// account is erased at once, by another worker: the order waits until nothing can be
// uploading any more, and then no object of the account is left.
func TestErasureOfAnUpload(t *testing.T) {
	t.Parallel()
	dsn, images, m := migrated(t), t.TempDir(), newMarks()
	db, jumio := open(t, dsn), startMarkedJumio(t, m)
	environ := append(retrieving(dsn, &jumioSandbox{url: jumio.url}), erasureKey, "CALLBACKD_IMAGE_STORE=file://"+images)
	post := func(i *instance, v *markedVerification) {
		t.Helper()
		i.post(t, jumioAddress, "application/json", v.callback(m, "PROCESSED")).wantCode(t, http.StatusOK)
	}
	killed := serve(t, environ)
	other := jumio.verify(m.newPerson("other"), nil)
	post(killed, other)
	db.awaitState(other.id, "retrieved")
	others := db.texts(`SELECT object_key FROM callbackd.images ORDER BY object_key`)

	db.exec(gateFunction)
	db.exec(`CREATE TRIGGER gate BEFORE INSERT ON callbackd.images FOR EACH STATEMENT EXECUTE FUNCTION public.gate()`)
	open := db.closeGate()
	erased := jumio.verify(m.newPerson("erased"), nil)
	post(killed, erased)
	const atTheGate = ` FROM pg_locks WHERE NOT granted AND relation = 'public.gate'::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	eventually(t, patience, func() error {
		if db.count(`SELECT count(*)`+atTheGate) == 0 {
			return fmt.Errorf("no image is about to get its row")
		}
		return nil
	})
	killed.kill()
	db.exec(`SELECT pg_terminate_backend(pid)` + atTheGate) // as the server does once it notices the death
	open()
	db.exec(`DROP TRIGGER gate ON callbackd.images`)
	uploads := db.texts(`SELECT object_key FROM callbackd.image_uploads WHERE workflow_execution_id = $1`, erased.id)
	if len(uploads) != 1 || db.count(`SELECT count(*) FROM callbackd.images WHERE workflow_execution_id = $1`, erased.id) != 0 {
		t.Fatalf("uploads %q, want one, and no row of an image", uploads)
	}
	uploaded := filepath.Join(images, uploads[0])
	if _, err := os.Stat(uploaded); err != nil {
		t.Fatalf("the object is not uploaded: %v", err)
	}

	order := db.texts(`SELECT jumio.request_erasure('account', $1, 'asked for')::text`, erased.account)[0]
	serve(t, environ)
	awaitOrder := func(want string) {
		t.Helper()
		eventually(t, patience, func() error {
			if is := db.texts(`SELECT concat_ws(' ', state, error) FROM jumio.erasures WHERE order_id::text = $1`, order)[0]; is != want {
				return fmt.Errorf("the order is %q, want %q", is, want)
			}
			return nil
		})
	}
	awaitOrder("running waiting_for_objects: 1 objects are not deleted yet")
	db.exec(`UPDATE callbackd.object_deletions SET not_before = '-infinity'`) // the time that an upload may take is over
	awaitOrder("done")
	if _, err := os.Stat(uploaded); !os.IsNotExist(err) {
		t.Errorf("the object is left: %v", err)
	}
	left := m.searchFiles(t, images)
	if n := len(left.of(erased.id)); n > 0 {
		t.Errorf("%d images of the erased are left", n)
	}
	if n := len(left.of(other.id)); n != len(others) || n != 3 {
		t.Errorf("%d images of the other person are there, want %d", n, len(others))
	}
}

// closeGate makes whoever comes to the gate wait until it is opened.
func (db *database) closeGate() (open func()) {
	db.t.Helper()
	tx, err := db.pool.Begin(db.t.Context())
	if err != nil {
		db.t.Fatal(err)
	}
	if _, err := tx.Exec(db.t.Context(), `LOCK TABLE public.gate IN ACCESS EXCLUSIVE MODE`); err != nil {
		db.t.Fatal(err)
	}
	return func() { _ = tx.Rollback(db.t.Context()) }
}
