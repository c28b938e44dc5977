package spool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/hashicorp/raft-wal/types"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/callback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plenty is a limit that no test reaches.
const plenty = 1 << 30

// opened is a spool with its log, closed with the test.
type opened struct {
	*Spool
	t     testing.TB
	dir   string
	logs  *observer.ObservedLogs
	close func()
}

func open(t testing.TB, dir string, maxBytes int64) *opened {
	t.Helper()
	return openWith(t, dir, maxBytes, vfs{})
}

func openOnDisk(t testing.TB, dir string, disk *stallingDisk) *opened {
	t.Helper()
	return openWith(t, dir, plenty, disk)
}

func openWith(t testing.TB, dir string, maxBytes int64, files types.VFS) *opened {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	s, err := openOn(Options{Dir: dir, MaxBytes: maxBytes, Log: zap.New(core)}, files)
	if err != nil {
		t.Fatalf("open the spool: %v", err)
	}
	o := &opened{Spool: s, t: t, dir: dir, logs: logs}
	o.close = sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the spool: %v", err)
		}
	})
	t.Cleanup(o.close)
	return o
}

// awaitRoom waits until the spool has found out that its disk takes callbacks.
func (o *opened) awaitRoom() {
	o.t.Helper()
	eventually(o.t, "the spool has room", func() bool { return o.Room() == nil })
}

// eventually polls until the condition, which another goroutine brings about,
// holds, and ends the test when it does not within a minute.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}

// logged counts the lines with a message.
func (o *opened) logged(message string) int { return o.logs.FilterMessage(message).Len() }

// stallingDisk is a disk whose fsync does not return while it stalls.
type stallingDisk struct {
	vfs
	release atomic.Pointer[chan struct{}]
	stalled chan struct{} // gets a value for each fsync that is held up
}

func newStallingDisk() *stallingDisk { return &stallingDisk{stalled: make(chan struct{}, 100)} }

func (d *stallingDisk) stall() {
	release := make(chan struct{})
	d.release.Store(&release)
}

func (d *stallingDisk) goOn() { close(*d.release.Swap(nil)) }

func (d *stallingDisk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := d.vfs.Create(dir, name, size)
	return &stallingFile{f, d}, err
}

type stallingFile struct {
	types.WritableFile
	disk *stallingDisk
}

func (f *stallingFile) Sync() error {
	if release := f.disk.release.Load(); release != nil {
		f.disk.stalled <- struct{}{}
		<-*release
	}
	return f.WritableFile.Sync()
}

// newCallback returns the n-th callback, with a body of this many bytes.
func newCallback(n, body int) *callback.Callback {
	b := make([]byte, body)
	for i := range b {
		b[i] = byte(n + i)
	}
	id := fmt.Sprintf("w-%d", n)
	return &callback.Callback{
		ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, n*1000, time.UTC), SourceIP: netip.MustParseAddr("34.202.241.227"),
		ContentType: "application/json", Body: b, WorkflowExecutionID: id, WorkflowStatus: "PROCESSED",
	}
}

// fill appends the callbacks from and up to, one after the other.
func (o *opened) fill(from, to, body int) {
	o.t.Helper()
	for n := from; n <= to; n++ {
		if err := o.Append(o.t.Context(), newCallback(n, body)); err != nil {
			o.t.Fatalf("append callback %d: %v", n, err)
		}
	}
}

// drain removes everything, in batches of at most this size, and returns the ids.
func (o *opened) drain(most int) (ids []string) {
	o.t.Helper()
	for {
		b, err := o.Next(o.t.Context(), most, 1<<20)
		if err != nil {
			o.t.Fatalf("take out: %v", err)
		}
		if b.Empty() {
			return ids
		}
		for _, c := range b.Callbacks {
			ids = append(ids, c.WorkflowExecutionID)
		}
		if err := o.Done(o.t.Context(), b); err != nil {
			o.t.Fatalf("drop: %v", err)
		}
	}
}

// names returns w-from to w-to, without some.
func names(from, to int, without ...int) (ids []string) {
	for n := from; n <= to; n++ {
		if !slices.Contains(without, n) {
			ids = append(ids, fmt.Sprintf("w-%d", n))
		}
	}
	return ids
}

func wantIDs(t testing.TB, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the callbacks (-want +got):\n%s", diff)
	}
}

// segmentFiles returns the paths of the segments, oldest first.
func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// copyOf returns a copy of a spool's directory as it is now.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return copied
}
