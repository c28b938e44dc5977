package imagestore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/imagestore"
	"callbackd/internal/imagestore/imagestoretest"
)

func openDirectory(t *testing.T) (imagestore.Store, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return open(t, imagestore.Options{Location: imagestore.Location{Directory: dir}}), dir
}

func openS3(t *testing.T, s *imagestoretest.Server, bucket, secret string) imagestore.Store {
	t.Helper()
	return open(t, imagestore.Options{
		Location:  imagestore.Location{Bucket: bucket, Prefix: "of-callbackd/", Endpoint: s.Endpoint, PathStyle: "true"},
		AccessKey: imagestoretest.AccessKey, SecretKey: secret,
	})
}

func open(t *testing.T, o imagestore.Options) imagestore.Store {
	t.Helper()
	o.Metrics = imagestore.NewMetrics(prometheus.NewRegistry())
	s, err := imagestore.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exercise is what every store does.
func exercise(t *testing.T, s imagestore.Store) {
	t.Helper()
	ctx := t.Context()
	if warning, err := s.Check(ctx); warning != "" || err != nil {
		t.Errorf("check: %q, %v", warning, err)
	}
	contents := map[string][]byte{}
	for _, size := range []int{1, 1 << 20, 17 << 20} { // the last one beyond the size of S3's parts
		data := make([]byte, size)
		_, _ = rand.Read(data)
		key := imagestore.NewKey(uuid.Must(uuid.NewV7()), "image/jpeg", false)
		contents[key] = data
		if err := s.Put(ctx, key, bytes.NewReader(data), int64(size)); err != nil {
			t.Fatalf("put %d bytes: %v", size, err)
		}
	}
	var listed []string
	err := s.List(ctx, func(o imagestore.Object) error {
		if o.Size != int64(len(contents[o.Key])) || time.Since(o.ModifiedAt).Abs() > time.Minute {
			t.Errorf("listed %+v", o)
		}
		listed = append(listed, o.Key)
		return nil
	})
	if err != nil || len(listed) != len(contents) || !slices.IsSorted(listed) {
		t.Errorf("listed %q, %v", listed, err)
	}
	for key, want := range contents {
		r, err := s.Get(ctx, key)
		if err != nil {
			t.Fatalf("get: %v", err)
		}
		if got, err := io.ReadAll(r); !bytes.Equal(got, want) || err != nil {
			t.Errorf("got %d bytes, %v; want those that were put", len(got), err)
		}
		_ = r.Close()
		for range 2 { // the second time there is nothing to delete
			if err := s.Delete(ctx, key); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
		if _, err := s.Get(ctx, key); !errors.Is(err, imagestore.ErrNotFound) {
			t.Errorf("get what is deleted: %v", err)
		}
	}
	stop := errors.New("stop")
	key := imagestore.NewKey(uuid.Must(uuid.NewV7()), "image/png", true)
	if err := s.Put(ctx, key, strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.List(ctx, func(imagestore.Object) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a listing that is to stop: %v", err)
	}
	if err := s.Put(ctx, key, strings.NewReader("short"), 10); err == nil {
		t.Error("content that is too short was accepted")
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	s, dir := openDirectory(t)
	exercise(t, s)
	// The file that was cut short is gone, and what there is is the owner's alone.
	files := 0
	_ = filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		info, _ := e.Info()
		if info.Mode().Perm()&0o077 != 0 || strings.Contains(name, ".part") {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		if !e.IsDir() {
			files++
		}
		return err
	})
	if files != 1 {
		t.Errorf("%d files, want the one that was whole", files)
	}
}

// TestDirectoryThatCannotBeUsed: what is not mounted is not made.
func TestDirectoryThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "absent")
	s := open(t, imagestore.Options{Location: imagestore.Location{Directory: dir}})
	if _, err := s.Check(t.Context()); !errors.Is(err, imagestore.ErrRefused) {
		t.Errorf("check: %v, want ErrRefused", err)
	}
	if err := s.Put(t.Context(), "aa/b.jpg", strings.NewReader("x"), 1); err == nil {
		t.Error("an object was put into a directory that is not there")
	}
	if err := s.Delete(t.Context(), "aa/b.jpg"); err == nil {
		t.Error("an object counts as gone although its directory is not there")
	}
}

// TestDirectoryKeepsToItself: a key leads nowhere else.
func TestDirectoryKeepsToItself(t *testing.T) {
	t.Parallel()
	s, dir := openDirectory(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = s.Delete(t.Context(), "../outside")
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("deleted: %v", err)
	}
	if _, err := s.Get(t.Context(), "../outside"); err == nil {
		t.Error("read a file outside")
	}
}

func TestS3(t *testing.T) {
	t.Parallel()
	server := imagestoretest.NewServer(t)
	exercise(t, openS3(t, server, imagestoretest.Bucket, imagestoretest.SecretKey))
}

// TestS3Refused: what waiting does not mend is told apart, without the keys.
func TestS3Refused(t *testing.T) {
	t.Parallel()
	server := imagestoretest.NewServer(t)
	for name, s := range map[string]imagestore.Store{
		"no bucket":    openS3(t, server, "another", imagestoretest.SecretKey),
		"wrong secret": openS3(t, server, imagestoretest.Bucket, "not-the-secret"),
	} {
		_, err := s.Check(t.Context())
		if !errors.Is(err, imagestore.ErrRefused) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
}

// TestS3Faults: a request that fails is an error, and the next one succeeds.
func TestS3Faults(t *testing.T) {
	t.Parallel()
	server := imagestoretest.NewServer(t)
	s := openS3(t, server, imagestoretest.Bucket, imagestoretest.SecretKey)
	const key = "aa/b.jpg"
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"500": imagestoretest.InternalError, "cut off": imagestoretest.CutOff, "silent": imagestoretest.Silent,
	} {
		server.Fail(fault)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		data := bytes.Repeat([]byte("x"), 1<<20)
		if err := s.Put(ctx, key, bytes.NewReader(data), int64(len(data))); err == nil || errors.Is(err, imagestore.ErrRefused) {
			t.Errorf("%s: put: %v", name, err)
		}
		if _, err := s.Get(ctx, key); err == nil || errors.Is(err, imagestore.ErrNotFound) {
			t.Errorf("%s: get: %v", name, err)
		}
		if err := s.Delete(ctx, key); err == nil {
			t.Errorf("%s: counts as deleted", name)
		}
		cancel()
		server.Fail(nil)
		if err := s.Put(t.Context(), key, bytes.NewReader(data), int64(len(data))); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

// TestSeal: the size is known before, and only those read it whom it is encrypted to.
func TestSeal(t *testing.T) {
	t.Parallel()
	one, _ := age.GenerateX25519Identity()
	two, _ := age.GenerateX25519Identity()
	other, _ := age.GenerateX25519Identity()
	sealer, err := imagestore.NewSealer([]age.Recipient{one.Recipient(), two.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20} {
		plain := make([]byte, n)
		_, _ = rand.Read(plain)
		content, size, err := sealer.Seal(plain)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := io.ReadAll(content)
		if err != nil || int64(len(sealed)) != size || n > 64 && bytes.Contains(sealed, plain[:64]) {
			t.Errorf("%d bytes become %d, said to be %d, %v", n, len(sealed), size, err)
		}
		for _, key := range []age.Identity{one, two} {
			r, err := imagestore.Unseal(bytes.NewReader(sealed), []age.Identity{key})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); !bytes.Equal(got, plain) || err != nil {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		}
		if _, err := imagestore.Unseal(bytes.NewReader(sealed), []age.Identity{other}); err == nil {
			t.Error("read by somebody else")
		}
	}
	reversed, _ := imagestore.NewSealer([]age.Recipient{two.Recipient(), one.Recipient(), two.Recipient()})
	fewer, _ := imagestore.NewSealer([]age.Recipient{two.Recipient()})
	if sealer.Keys() != reversed.Keys() || sealer.Keys() == fewer.Keys() || len(sealer.Keys()) != 16 {
		t.Errorf("keys %q, %q, %q", sealer.Keys(), reversed.Keys(), fewer.Keys())
	}
}

// TestKeys: the extension says what it is, and keys are spread.
func TestKeys(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("0198c0de-0000-7000-8000-0000000000ab")
	for want, key := range map[string]string{
		"ab/" + id.String() + ".jpg":     imagestore.NewKey(id, "image/jpeg", false),
		"ab/" + id.String() + ".png.age": imagestore.NewKey(id, "image/png", true),
		"ab/" + id.String() + ".bin":     imagestore.NewKey(id, "application/zip", false),
	} {
		if key != want {
			t.Errorf("key %q, want %q", key, want)
		}
	}
}
