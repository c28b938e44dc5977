package eraser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/disposer"
	"callbackd/internal/imagestore"
	"callbackd/internal/store/storetest"
)

// awaitError has the eraser look until the order waits for what its error says.
func (r *rig) awaitError(order uuid.UUID, want string) {
	r.Helper()
	var state, text string
	storetest.Eventually(r, want, func() bool {
		r.look()
		state, text = r.state(order)
		return strings.Contains(text, want) || state == "done"
	})
	if state != "running" || !strings.Contains(text, want) {
		r.Fatalf("the order is %s: %q, want it to be running: %q", state, text, want)
	}
}

// lookAgain has the eraser look now, and not after the order's pause.
func (r *rig) lookAgain() {
	r.Helper()
	storetest.Query(r, r.store, `UPDATE callbackd.erasures SET next_at = clock_timestamp()`)
	r.look()
}

// An order waits for an object that cannot be deleted, and for one that may still be
// uploaded, says so, and ends when they are gone.
func TestWaitsForObjects(t *testing.T) {
	r := newRig(t)
	r.verify(alice)
	r.verify(bob)
	const stored, uploading = "aa/stored.jpg", "aa/uploading.jpg"
	storetest.Query(t, r.store, `UPDATE callbackd.images SET data = NULL, stored_in = 'file', object_key = $2 WHERE workflow_execution_id = $1`, alice.execution, stored)
	storetest.Query(t, r.store, `INSERT INTO callbackd.image_uploads (object_key, stored_in, workflow_execution_id) VALUES ($2, 'file', $1)`, alice.execution, uploading)
	dir := t.TempDir()
	objects, err := imagestore.Open(imagestore.Options{Location: imagestore.Location{Directory: dir}, Metrics: imagestore.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	// A directory with something in it is deleted by nobody who wants to delete a file.
	obstacle := filepath.Join(dir, stored, "obstacle")
	if err := os.MkdirAll(filepath.Dir(obstacle), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dispose := func() error {
		storetest.Query(t, r.store, `UPDATE callbackd.object_deletions SET not_before = '-infinity' WHERE object_key = $1`, stored)
		_, err := disposer.DeleteDue(t.Context(), r.store.Results(), objects)
		return err
	}

	order := r.order("account", alice.account)
	r.awaitError(order, "2 objects are not deleted yet")
	if err := dispose(); err == nil {
		t.Fatal("the object can be deleted")
	}
	r.lookAgain()
	r.awaitError(order, "2 objects are not deleted yet")
	r.checkErasedRow(alice.execution) // all else is gone

	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	if err := dispose(); err != nil {
		t.Fatal(err)
	}
	r.lookAgain()
	r.awaitError(order, "1 objects are not deleted yet")
	if early := storetest.Scalar[bool](t, r.store, `SELECT not_before < clock_timestamp() + interval '1 minute' FROM callbackd.object_deletions`); early {
		t.Error("an object that is being uploaded is deleted at once: its upload may not have ended")
	}
	storetest.Query(t, r.store, `UPDATE callbackd.object_deletions SET not_before = '-infinity'`)
	if err := dispose(); err != nil {
		t.Fatal(err)
	}
	r.done(order)
	if got := r.deleted(order); got["objects"] != 1. || got["images"] != 1. {
		t.Errorf("deleted %v, want one image and its object", got)
	}
	r.allOf(bob)
}

// An order waits for a spool that was not empty before it, says so, and ends when that is
// drained and promoted; not for one that has filled since.
func TestWaitsForSpools(t *testing.T) {
	r := newRig(t)
	r.verify(alice)
	report := func(spool uuid.UUID, host string, empty bool) {
		t.Helper()
		storetest.Query(t, r.store, `SELECT callbackd.report_spool($1, $2, $3)`, spool, host, empty)
	}
	before, since := uuid.New(), uuid.New()
	report(before, "receiver-1", false)
	order := r.order("account", alice.account)
	const waits = `1 spools are not drained yet, such as that of the host "receiver-1"`
	r.awaitError(order, waits)
	report(since, "receiver-2", false)
	report(before, "receiver-1", false) // it says so again: it was not empty meanwhile
	r.lookAgain()
	r.awaitError(order, waits)
	r.checkErasedRow(alice.execution)

	// What was in it is drained, and promoted only later.
	r.promoter.Stop()
	late := storetest.Callback(alice.execution)
	late.AccountID = alice.account
	storetest.Insert(t, r.store, late)
	report(before, "receiver-1", true)
	r.lookAgain()
	r.awaitError(order, "1 callbacks in the inbox name it")
	r.promoter.Start(t.Context())
	r.done(order)
	r.noneOf(alice)
	if n := storetest.Scalar[int64](t, r.store, `SELECT count(*) FROM callbackd.spools`); n != 1 {
		t.Errorf("%d spools are not empty, want the one that has filled since", n)
	}
}

// Anybody can send any number of callbacks of a workflow execution: they are deleted in
// transactions of bounded size, and counted exactly.
func TestManyCallbacks(t *testing.T) {
	const many, mostInTransaction = 12_000, 5_000
	r := newRig(t)
	r.verify(alice)
	r.verify(bob)
	ids := make([]uuid.UUID, many)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
	}
	storetest.Query(t, r.store, `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, body, workflow_execution_id, workflow_status, account_id, user_reference)
		SELECT id, now(), 'application/json', '{}', $1, 'PROCESSED', $2, $3 FROM unnest($4::uuid[]) AS id`, alice.execution, alice.account, alice.reference, ids)
	r.promoted()
	want := map[string]int64{}
	for _, table := range []string{"callbacks", "events", "images", "extracted_documents"} {
		want[table] = storetest.Scalar[int64](t, r.store, `SELECT count(*) FROM callbackd.`+table+` WHERE workflow_execution_id = $1`, alice.execution)
	}
	want["river_job"] = storetest.Scalar[int64](t, r.store, `SELECT count(*) FROM callbackd.river_job WHERE args ->> 'workflow_execution_id' = $1`, alice.execution)
	for _, table := range []string{"details", "credentials", "capabilities"} {
		want[table] = 1
	}
	if want["callbacks"] != many+1 {
		t.Fatalf("%d callbacks are stored", want["callbacks"])
	}
	storetest.Query(t, r.store, `CREATE TABLE public.deletions (transaction xid8 DEFAULT pg_current_xact_id(), n bigint)`)
	storetest.Query(t, r.store, `CREATE FUNCTION public.note_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO public.deletions (n) SELECT count(*) FROM gone; RETURN NULL; END $$`)
	storetest.Query(t, r.store, `CREATE TRIGGER note_deletion AFTER DELETE ON callbackd.callbacks REFERENCING OLD TABLE AS gone
		FOR EACH STATEMENT EXECUTE FUNCTION public.note_deletion()`)

	order := r.order("account", alice.account)
	r.done(order)
	r.noneOf(alice)
	r.allOf(bob)
	r.checkErasedRow(alice.execution)
	if got := r.deleted(order); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("deleted %v, want %v", got, want)
	}
	sizes := storetest.Query(t, r.store, `SELECT sum(n)::bigint FROM public.deletions WHERE n > 0 GROUP BY transaction ORDER BY transaction`)
	total := int64(0)
	for _, size := range sizes {
		n := size[0].(int64)
		if total += n; n > mostInTransaction {
			t.Errorf("a transaction has deleted %d callbacks, want at most %d", n, mostInTransaction)
		}
	}
	if total != many+1 || len(sizes) < 3 {
		t.Errorf("%d callbacks are deleted in %d transactions", total, len(sizes))
	}
}
