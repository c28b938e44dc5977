package disposer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap/zaptest"

	"callbackd/internal/imagestore"
	"callbackd/internal/store/storetest"
)

// flaky is a store whose deletions fail as long as it is broken.
type flaky struct {
	imagestore.Store
	broken atomic.Bool
}

func (f *flaky) Delete(ctx context.Context, key string) error {
	if f.broken.Load() {
		return errors.New("broken")
	}
	return f.Store.Delete(ctx, key)
}

// TestDisposer: what is queued, and what a crash between upload and row has left, is
// deleted; what could not be deleted waits and is counted.
func TestDisposer(t *testing.T) {
	s := storetest.New(t)
	dir := t.TempDir()
	directory, err := imagestore.Open(imagestore.Options{Location: imagestore.Location{Directory: dir}, Metrics: imagestore.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"aa/queued.jpg", "aa/crashed.jpg", "aa/uploading.jpg", "aa/kept.jpg"} {
		if err := directory.Put(t.Context(), key, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	storetest.Query(t, s, `INSERT INTO callbackd.object_deletions (object_key, stored_in) VALUES ('aa/queued.jpg', 'file'), ('aa/elsewhere.jpg', 's3')`)
	storetest.Query(t, s, `INSERT INTO callbackd.image_uploads (object_key, stored_in, workflow_execution_id, started_at)
		VALUES ('aa/crashed.jpg', 'file', 'w', now() - interval '2 hours'), ('aa/uploading.jpg', 'file', 'w', now())`)
	store := &flaky{Store: directory}
	store.broken.Store(true)
	d := New(Options{DB: s.DB, Store: store, Log: zaptest.NewLogger(t), Registerer: prometheus.NewRegistry()})
	d.Start(context.Background())
	t.Cleanup(d.Stop)
	storetest.Eventually(t, "a deletion fails", func() bool {
		return storetest.Scalar[bool](t, s, `SELECT count(*) = 2 FROM callbackd.object_deletions WHERE attempts > 0`)
	})
	store.broken.Store(false)
	storetest.Query(t, s, `UPDATE callbackd.object_deletions SET not_before = now()`)
	storetest.Eventually(t, "both are deleted", func() bool {
		return storetest.Scalar[bool](t, s, `SELECT count(*) = 1 FROM callbackd.object_deletions`)
	})
	left, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	if len(left) != 2 || filepath.Base(left[0]) != "kept.jpg" || filepath.Base(left[1]) != "uploading.jpg" {
		t.Errorf("left are %q", left)
	}
	d.count(t.Context())
	if n := testutil.ToFloat64(d.waiting); n != 1 {
		t.Errorf("%v are waiting, want the one in another store", n)
	}
	if testutil.ToFloat64(d.oldest) == 0 {
		t.Error("no time since which it waits")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}
