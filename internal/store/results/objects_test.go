package results_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// queued is the objects that are to be deleted.
const queued = `SELECT coalesce(string_agg(object_key, ' ' ORDER BY object_key), '') FROM callbackd.object_deletions`

// TestObjectsOfReplacedImages: each object is that of an image, or is deleted.
func TestObjectsOfReplacedImages(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	for _, step := range []struct {
		name            string
		front, back     string // content
		frontKey        string
		backKey         string
		missing         bool
		objects, delete string
	}{
		{"first", "front", "back", "f1", "b1", false, "BACK b1 back FRONT f1 front", ""},
		{"unchanged", "front", "back", "f2", "b2", false, "BACK b1 back FRONT f1 front", "b2 f2"},
		{"one changed", "other", "back", "f3", "b3", false, "BACK b1 back FRONT f3 other", "b2 b3 f1 f2"},
		{"missing", "other", "back", "f4", "b4", true, "BACK b4 back FRONT f4 other", "b1 b2 b3 f1 f2 f3"},
	} {
		if step.missing {
			storetest.Query(t, s, `UPDATE callbackd.images SET missing_since = now()`)
		}
		l := storetest.Claim(t, s, "w")
		storetest.StageObject(t, s, l, "FRONT", step.front, step.frontKey)
		storetest.StageObject(t, s, l, "BACK", step.back, step.backKey)
		o := storetest.Outcome(workflow.Retrieved, "")
		o.Images = 2
		storetest.Finish(t, s, l, o)
		objects := storetest.Scalar[string](t, s, `SELECT string_agg(classifier || ' ' || object_key || ' ' || c, ' ' ORDER BY classifier)
			FROM jumio.images JOIN unnest(ARRAY['front', 'back', 'other']) AS c ON sha256 = sha256(convert_to(c, 'UTF8'))`)
		if got := storetest.Scalar[string](t, s, queued); objects != step.objects || got != step.delete {
			t.Errorf("%s: images in %q, want %q; to delete %q, want %q", step.name, objects, step.objects, got, step.delete)
		}
		if n := storetest.Scalar[int](t, s, `SELECT count(*)::int FROM callbackd.image_uploads`); n != 0 {
			t.Errorf("%s: %d uploads are left", step.name, n)
		}
	}
	storetest.Query(t, s, `DELETE FROM callbackd.workflow_executions`)
	if got := storetest.Scalar[string](t, s, queued); got != "b1 b2 b3 b4 f1 f2 f3 f4" {
		t.Errorf("without the workflow execution, %q are to be deleted, want all", got)
	}
}

// TestObjectsMoveIntoAndOutOfTheDatabase: content that is replaced takes the new one's
// place, wherever that is.
func TestObjectsMoveIntoAndOutOfTheDatabase(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	retrieve := func(stage func(l *results.Lease)) {
		l := storetest.Claim(t, s, "w")
		stage(l)
		o := storetest.Outcome(workflow.Retrieved, "")
		o.Images = 1
		storetest.Finish(t, s, l, o)
	}
	check := func(place, data, deleted string) {
		t.Helper()
		got := storetest.Scalar[string](t, s, `SELECT stored_in || coalesce(' ' || object_key, '') FROM jumio.images`)
		content := storetest.Scalar[string](t, s, `SELECT coalesce(convert_from(data, 'UTF8'), '') FROM jumio.images`)
		if q := storetest.Scalar[string](t, s, queued); got != place || content != data || q != deleted {
			t.Errorf("%s, data %q, to delete %q; want %s, %q, %q", got, content, q, place, data, deleted)
		}
	}
	retrieve(func(l *results.Lease) { storetest.Stage(t, s, l, "FRONT", "one") })
	check("database", "one", "")
	retrieve(func(l *results.Lease) { storetest.StageObject(t, s, l, "FRONT", "two", "k2") })
	check("file k2", "", "")
	retrieve(func(l *results.Lease) { storetest.Stage(t, s, l, "FRONT", "three") })
	check("database", "three", "k2")
}

// TestStaleObjects: what an earlier retrieval has staged is deleted with its object.
func TestStaleObjects(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	storetest.StageObject(t, s, storetest.Claim(t, s, "w"), "FRONT", "front", "f1")
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET lease_until = now() - interval '1 second'`)
	storetest.Claim(t, s, "w")
	if got := storetest.Scalar[string](t, s, queued); got != "f1" {
		t.Errorf("to delete %q, want f1", got)
	}
}

// TestUploadWithoutLease: an attempt that has lost its lease begins no upload, and its
// object gets no row.
func TestUploadWithoutLease(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	place := results.ImagePlace{StoredIn: "file", ObjectKey: "f1"}
	if err := s.BeginUpload(t.Context(), l, place); err != nil {
		t.Fatal(err)
	}
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET lease_token = gen_random_uuid()`)
	img := &results.Image{PartKey: results.PartKey{CredentialID: "c", Classifier: "FRONT"}, ContentType: "image/jpeg", ImagePlace: place}
	id, _ := results.NewImageID()
	if err := s.StageObject(t.Context(), l, id, img); !errors.Is(err, results.ErrBusy) {
		t.Errorf("stage: %v, want ErrBusy", err)
	}
	if err := s.AbandonUpload(t.Context(), "f1"); err != nil {
		t.Fatal(err)
	}
	if err := s.BeginUpload(t.Context(), l, results.ImagePlace{StoredIn: "file", ObjectKey: "f2"}); !errors.Is(err, results.ErrBusy) {
		t.Errorf("begin: %v, want ErrBusy", err)
	}
	if got := storetest.Scalar[string](t, s, queued+` WHERE not_before > now() + interval '4 minutes'`); got != "f1" {
		t.Errorf("to delete in a while %q, want f1", got)
	}
	if n := storetest.Scalar[int](t, s, `SELECT count(*)::int FROM callbackd.images`) + storetest.Scalar[int](t, s, `SELECT count(*)::int FROM callbackd.image_uploads`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// TestErasureBesideUpload: whoever has the workflow execution's row to erase it is waited
// for, and then there is no row for the object.
func TestErasureBesideUpload(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	place := results.ImagePlace{StoredIn: "file", ObjectKey: "f1"}
	if err := s.BeginUpload(t.Context(), l, place); err != nil {
		t.Fatal(err)
	}
	tx, err := s.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `DELETE FROM callbackd.workflow_executions`); err != nil {
		t.Fatal(err)
	}
	staged := make(chan error, 1)
	go func() {
		id, _ := results.NewImageID()
		staged <- s.StageObject(context.Background(), l, id,
			&results.Image{PartKey: results.PartKey{CredentialID: "c", Classifier: "FRONT"}, ContentType: "image/jpeg", ImagePlace: place})
	}()
	storetest.Eventually(t, "the attempt waits for the erasure", func() bool {
		return storetest.Scalar[bool](t, s, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-staged; !errors.Is(err, results.ErrSuperseded) {
		t.Errorf("stage: %v, want ErrSuperseded", err)
	}
	if got := storetest.Scalar[string](t, s, queued); got != "f1" {
		t.Errorf("to delete %q, want f1", got)
	}
}

// TestDeletions: an object comes back, later each time, until it is gone; what crashes have
// left behind is deleted after an hour.
func TestDeletions(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	storetest.Query(t, s, `INSERT INTO callbackd.image_uploads (object_key, stored_in, workflow_execution_id, started_at)
		VALUES ('old', 'file', 'w', now() - interval '61 minutes'), ('young', 'file', 'w', now() - interval '59 minutes')`)
	if err := s.AbandonStaleUploads(t.Context()); err != nil {
		t.Fatal(err)
	}
	take := func(kind, want string) {
		t.Helper()
		keys, err := s.TakeDeletions(t.Context(), kind, 10)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(keys) == 1 && keys[0] == want; got != (want != "") || want == "" && len(keys) > 0 {
			t.Errorf("take %q, want %q", keys, want)
		}
	}
	take("s3", "")
	take("file", "old")
	take("file", "")
	for _, seconds := range []int{10, 20, 40} {
		wait := storetest.Scalar[float64](t, s, `SELECT extract(epoch FROM not_before - now())::float8 FROM callbackd.object_deletions`)
		if wait > float64(seconds) || wait < float64(seconds)-9 {
			t.Errorf("comes back in %.0f s, want about %d", wait, seconds)
		}
		storetest.Query(t, s, `UPDATE callbackd.object_deletions SET not_before = now()`)
		take("file", "old")
	}
	if n, oldest, err := s.DeletionsWaiting(t.Context()); n != 1 || time.Since(oldest) > time.Minute || err != nil {
		t.Errorf("%d waiting since %v, %v", n, oldest, err)
	}
	if err := s.DeletionsDone(t.Context(), []string{"old"}); err != nil {
		t.Fatal(err)
	}
	if n, oldest, err := s.DeletionsWaiting(t.Context()); n != 0 || !oldest.IsZero() || err != nil {
		t.Errorf("%d waiting since %v, %v; want none", n, oldest, err)
	}
}
