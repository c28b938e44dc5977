package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"callbackd/internal/imagestore/imagestoretest"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// imageRig is a database with two published images, and settings to reach them.
type imageRig struct {
	*testing.T
	store   *storetest.Store
	environ []string
}

func newImageRig(t *testing.T) *imageRig {
	t.Helper()
	dsn := storetest.NewMigrated(t)
	r := &imageRig{t, storetest.Open(t, dsn), []string{"DATABASE_URL=" + dsn}}
	r.retrieve(func(l *results.Lease) {
		storetest.Stage(t, r.store, l, "FRONT", "front")
		storetest.Stage(t, r.store, l, "BACK", "back")
	})
	return r
}

func (r *imageRig) retrieve(stage func(*results.Lease)) {
	r.Helper()
	l := storetest.Claim(r, r.store, "w")
	stage(l)
	o := storetest.Outcome(workflow.Retrieved, "")
	o.Images = 2
	storetest.Finish(r, r.store, l, o)
}

// run wants an exit code, and a text in stdout or stderr.
func (r *imageRig) run(code int, text string, environ []string, args ...string) string {
	r.Helper()
	got := callbackd(r.T, append(r.environ, environ...), append([]string{"image"}, args...)...)
	if got.Code != code || !strings.Contains(got.Stdout+got.Stderr, text) {
		r.Errorf("image %q: got %+v, want exit code %d and %q", args, got, code, text)
	}
	return got.Stdout
}

func (r *imageRig) id(classifier string) string {
	r.Helper()
	return storetest.Scalar[string](r, r.store, `SELECT image_id::text FROM jumio.images WHERE classifier = $1`, classifier)
}

// check wants both images to be readable as they were retrieved.
func (r *imageRig) check(environ []string) {
	r.Helper()
	for classifier, want := range map[string]string{"FRONT": "front", "BACK": "back"} {
		if got := r.run(0, "", environ, "get", "--reason", "a test", r.id(classifier)); got != want {
			r.Errorf("%s is %q, want %q", classifier, got, want)
		}
	}
}

// places says where both images are.
func (r *imageRig) places() string {
	r.Helper()
	return storetest.Scalar[string](r, r.store, `SELECT string_agg(stored_in || CASE WHEN encrypted THEN ' encrypted' ELSE '' END
		|| CASE WHEN data IS NULL THEN '' ELSE ' data' END, ', ' ORDER BY classifier) FROM jumio.images`)
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	return names
}

func newKey(t *testing.T) (recipient, identity string) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key.Recipient().String(), fmt.Sprintf("# created: today, by a test\n# public key: %s\n%s\n", key.Recipient(), key)
}

// TestImageGet: who reads an image leaves a row first, and nobody else reads the file.
func TestImageGet(t *testing.T) {
	r := newImageRig(t)
	output := filepath.Join(t.TempDir(), "image.jpg")
	if err := os.WriteFile(output, []byte("something longer that was there"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.run(0, "", nil, "get", r.id("FRONT"), "--reason", "ticket 7", "--output", output)
	content, err := os.ReadFile(output)
	if err != nil || string(content) != "front" {
		t.Errorf("the file has %q, %v", content, err)
	}
	if info, err := os.Stat(output); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v; want 0600", info.Mode(), err)
	}
	got := storetest.Scalar[string](t, r.store, `SELECT concat_ws(' ', reader = session_user, image_id, workflow_execution_id, reason, way) FROM jumio.image_reads`)
	if want := "t " + r.id("FRONT") + " w ticket 7 command"; got != want {
		t.Errorf("read %q, want %q", got, want)
	}
	unknown := "0198c0de-0000-7000-8000-0000000000ab"
	r.run(1, "image "+unknown+": look up an image: not found", nil, "get", unknown, "--reason", "a test")
	r.run(2, "is not the id of an image", nil, "get", "w", "--reason", "a test")
	r.run(2, "--reason", nil, "get", r.id("FRONT"))
	if n := storetest.Scalar[int](t, r.store, `SELECT count(*)::int FROM jumio.image_reads`); n != 1 {
		t.Errorf("%d reads, want the one", n)
	}
}

// TestImageMove: images go to the store and can be read from there; the second time there
// is nothing to do.
func TestImageMove(t *testing.T) {
	t.Run("directory", func(t *testing.T) {
		dir := t.TempDir()
		testImageMove(t, []string{"CALLBACKD_IMAGE_STORE=file://" + dir}, dir, "file")
	})
	t.Run("s3", func(t *testing.T) {
		server := imagestoretest.NewServer(t)
		testImageMove(t, []string{
			"CALLBACKD_IMAGE_STORE=" + server.URL(), "CALLBACKD_IMAGE_STORE_ACCESS_KEY=" + imagestoretest.AccessKey,
			"CALLBACKD_IMAGE_STORE_SECRET_KEY=" + imagestoretest.SecretKey,
		}, server.Directory, "s3")
	})
}

func testImageMove(t *testing.T, environ []string, dir, kind string) {
	r := newImageRig(t)
	r.run(1, "CALLBACKD_IMAGE_STORE is empty", nil, "move")
	r.run(0, "moved 2 images, 9 bytes", environ, "move")
	r.run(0, "moved 0 images", environ, "move", "--vacuum")
	if got := r.places(); got != kind+", "+kind {
		t.Errorf("images are in %s", got)
	}
	r.check(environ)
	r.run(1, "CALLBACKD_IMAGE_STORE is empty", nil, "get", "--reason", "a test", r.id("FRONT"))
	r.run(0, "2 objects, 0 orphans (0 bytes), 0 missing", environ, "sweep")

	// A retrieval that replaces one of them leaves its object to be deleted.
	r.retrieve(func(l *results.Lease) {
		storetest.Stage(t, r.store, l, "FRONT", "new")
		storetest.Stage(t, r.store, l, "BACK", "back")
	})
	r.run(0, "0 orphans", environ, "sweep")
	r.run(0, "deleted 1 objects", environ, "sweep", "--fix")
	if n := len(files(t, dir)); n != 1 {
		t.Errorf("%d objects are left, want 1", n)
	}
}

// TestImageReencrypt: encrypted in the database, moved, and encrypted to other keys, an
// image is always the same; what was encrypted to the old keys is deleted.
func TestImageReencrypt(t *testing.T) {
	r := newImageRig(t)
	dir := t.TempDir()
	store := "CALLBACKD_IMAGE_STORE=file://" + dir
	oldRecipient, oldIdentity := newKey(t)
	newRecipient, newIdentity := newKey(t)
	recipients := func(keys ...string) string { return "CALLBACKD_IMAGE_RECIPIENTS=" + strings.Join(keys, ", ") }
	identity := func(keys ...string) string { return "CALLBACKD_IMAGE_IDENTITY=" + strings.Join(keys, "") }

	r.run(1, "CALLBACKD_IMAGE_RECIPIENTS is empty", nil, "move", "--reencrypt")
	r.run(0, "moved 2 images", []string{recipients(oldRecipient)}, "move", "--reencrypt")
	if got := r.places(); got != "database encrypted data, database encrypted data" {
		t.Errorf("images are in %s", got)
	}
	r.check([]string{identity(oldIdentity)})
	r.run(1, "CALLBACKD_IMAGE_IDENTITY is empty", nil, "get", "--reason", "a test", r.id("FRONT"))
	r.run(1, "encrypted to other keys", []string{identity(newIdentity)}, "get", "--reason", "a test", r.id("FRONT"))

	r.run(0, "moved 2 images", []string{store}, "move")
	if got := r.places(); got != "file encrypted, file encrypted" {
		t.Errorf("images are in %s", got)
	}
	r.check([]string{store, identity(oldIdentity)})

	r.run(1, "CALLBACKD_IMAGE_IDENTITY is empty", []string{store, recipients(newRecipient)}, "move", "--reencrypt")
	r.run(1, "stays where it is: the image is encrypted to other keys", []string{store, recipients(newRecipient), identity(newIdentity)}, "move", "--reencrypt")
	both := []string{store, recipients(newRecipient, oldRecipient), identity(oldIdentity)}
	r.run(0, "moved 2 images", both, "move", "--reencrypt")
	r.run(0, "moved 0 images", both, "move", "--reencrypt")
	r.check([]string{store, identity(newIdentity)})
	r.check([]string{store, identity(oldIdentity)})
	r.run(0, "moved 2 images", []string{store, recipients(newRecipient), identity(oldIdentity, newIdentity)}, "move", "--reencrypt")
	r.check([]string{store, identity(newIdentity)})
	r.run(1, "encrypted to other keys", []string{store, identity(oldIdentity)}, "get", "--reason", "a test", r.id("FRONT"))
	if n := storetest.Scalar[int](t, r.store, `SELECT count(*)::int FROM callbackd.object_deletions`); n != 4 {
		t.Errorf("%d objects are to be deleted, want the 4 of before", n)
	}
	r.run(0, "deleted 4 objects", []string{store}, "sweep", "--fix")
	if n := len(files(t, dir)); n != 2 {
		t.Errorf("%d objects are left, want 2", n)
	}
}

// TestImageMoveDamaged: an image that is not what was retrieved stays, and does not hold up
// the others.
func TestImageMoveDamaged(t *testing.T) {
	r := newImageRig(t)
	environ := []string{"CALLBACKD_IMAGE_STORE=file://" + t.TempDir()}
	storetest.Query(t, r.store, `UPDATE callbackd.images SET data = 'fromt' WHERE classifier = 'FRONT'`)
	r.run(1, "image "+r.id("FRONT")+" stays where it is: the stored bytes are not the image's", environ, "move")
	if got := r.places(); got != "file, database data" {
		t.Errorf("images are in %s", got)
	}
	r.run(1, "the stored bytes are not the image's", environ, "get", r.id("FRONT"), "--reason", "a test", "--output", filepath.Join(t.TempDir(), "x"))
}

// TestImageSweep: orphans are reported, and deleted if asked for, unless they are young or
// somebody needs them; missing objects are an error until they are retrieved anew.
func TestImageSweep(t *testing.T) {
	r := newImageRig(t)
	dir := t.TempDir()
	environ := []string{"CALLBACKD_IMAGE_STORE=file://" + dir}
	r.run(0, "moved 2 images", environ, "move")
	objects := files(t, dir)
	put := func(name string, age time.Duration) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("orphan"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	put("aa/old.jpg", 61*time.Minute)
	put("aa/.cut-off.jpg.part", 61*time.Minute)
	put("aa/young.jpg", 59*time.Minute)
	put("aa/uploading.jpg", 2*time.Hour)
	put("aa/waiting.jpg", 2*time.Hour)
	storetest.Query(t, r.store, `INSERT INTO callbackd.image_uploads VALUES ('aa/uploading.jpg', 'file', 'w')`)
	storetest.Query(t, r.store, `INSERT INTO callbackd.object_deletions (object_key, stored_in, not_before) VALUES ('aa/waiting.jpg', 'file', 'infinity')`)
	got := r.run(0, "7 objects, 2 orphans (12 bytes), 0 missing", environ, "sweep")
	if !strings.Contains(got, `orphan "aa/.cut-off.jpg.part" 6 bytes`+"\n"+`orphan "aa/old.jpg" 6 bytes`) {
		t.Errorf("reported %q", got)
	}
	r.run(0, "deleted 2 objects", environ, "sweep", "--fix")
	if n := len(files(t, dir)); n != 5 {
		t.Errorf("%d objects, want 5", n)
	}

	if err := os.Remove(objects[0]); err != nil {
		t.Fatal(err)
	}
	missing := storetest.Scalar[string](t, r.store, `SELECT image_id::text FROM jumio.images WHERE $1 LIKE '%' || object_key`, objects[0])
	r.run(1, "image "+missing+" workflow execution w", environ, "sweep")
	r.run(1, "1 missing", environ, "sweep", "--fix")
	r.run(1, "the object is missing", environ, "get", missing, "--reason", "a test")
	r.retrieve(func(l *results.Lease) {
		storetest.Stage(t, r.store, l, "FRONT", "front")
		storetest.Stage(t, r.store, l, "BACK", "back")
	})
	r.run(0, "0 missing", environ, "sweep")
	r.check(environ)
}
