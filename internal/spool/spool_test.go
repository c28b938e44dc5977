package spool

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"callbackd/internal/callback"
)

func TestFirstInFirstOut(t *testing.T) {
	s := open(t, t.TempDir(), plenty)
	s.fill(1, 30, 100)
	if got := s.Stats(); got.Callbacks != 30 || got.Bytes < 30*100 || !got.Oldest.Equal(newCallback(1, 0).ReceivedAt) {
		t.Errorf("the figures are %+v", got)
	}
	b, err := s.Next(t.Context(), 10, 1<<20)
	if err != nil || len(b.Callbacks) != 10 {
		t.Fatalf("%d callbacks, %v", len(b.Callbacks), err)
	}
	// Not done yet, so Next returns the same ones again.
	again, err := s.Next(t.Context(), 10, 1<<20)
	if err != nil || again.Callbacks[0].ID != b.Callbacks[0].ID {
		t.Fatalf("the next batch begins elsewhere: %v", err)
	}
	if err := s.Done(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got.Callbacks != 20 || !got.Oldest.Equal(newCallback(11, 0).ReceivedAt) {
		t.Errorf("after the first batch the figures are %+v", got)
	}
	s.fill(31, 35, 100)
	wantIDs(t, s.drain(7), names(11, 35))
	if diff := cmp.Diff(Stats{}, s.Stats()); diff != "" {
		t.Errorf("the figures of an empty spool: %s", diff)
	}
	if files := segmentFiles(t, s.dir); len(files) != 0 {
		t.Errorf("an empty spool has the files %q", files)
	}
}

func TestKeepsWhatACallbackIs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, plenty)
	list := []*callback.Callback{
		newCallback(1, 0),
		newCallback(2, 1<<20),
		{
			ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC), SourceIP: netip.MustParseAddr("2001:db8::1"),
			ContentType: "text/\uFFFDodd", Body: []byte("raw \x00 \xff bytes, cbk1 among them"), WorkflowExecutionID: "w", WorkflowStatus: "S", WorkflowHref: "https://h",
			DefinitionKey: "3", AccountID: "a", AccountHref: "https://a", UserReference: "ref <&> \u2028",
			CallbackSentAt: time.Date(10000, 1, 1, 23, 58, 59, 0, time.UTC),
		},
		{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Unix(0, 1), WorkflowExecutionID: "least"},
	}
	for _, c := range list {
		if err := s.Append(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	b, err := open(t, dir, plenty).Next(t.Context(), 100, 10<<20)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list, b.Callbacks, cmp.Comparer(bytes.Equal), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("the callbacks (-want +got):\n%s", diff)
	}
}

// All who arrive during one fsync share the next one.
func TestOneFsyncForAllWhoWait(t *testing.T) {
	disk := newStallingDisk()
	s := openOnDisk(t, t.TempDir(), disk)
	const n = 400
	done := make(chan error, n)
	enqueue := func(n int) { go func() { done <- s.Append(t.Context(), newCallback(n, 10)) }() }
	disk.stall()
	enqueue(1)
	<-disk.stalled
	for i := 2; i <= n; i++ {
		enqueue(i)
	}
	awaitAppends(t, n)
	disk.goOn()
	for range n {
		if err := <-done; err != nil {
			t.Errorf("append: %v", err)
		}
	}
	if got := commits(readFile(t, segmentFiles(t, s.dir)[0])); got > 2 {
		t.Errorf("%d callbacks took %d commits, want 2", n, got)
	}
	got, want := s.drain(1000), names(1, n)
	slices.Sort(got)
	slices.Sort(want)
	wantIDs(t, got, want)
}

var waitingAppend = regexp.MustCompile(`\[select[^\]]*\]:\n\S*\.\(\*Spool\)\.Append\(`)

// awaitAppends waits until n callers are waiting in Append.
func awaitAppends(t *testing.T, n int) {
	t.Helper()
	stacks := make([]byte, 4<<20)
	eventually(t, fmt.Sprintf("%d callers wait", n), func() bool {
		return len(waitingAppend.FindAll(stacks[:runtime.Stack(stacks, true)], -1)) == n
	})
}

// commits counts the commit frames of a segment.
func commits(content []byte) (n int) {
	const commit = 3
	for at := segmentHeader; at < len(content); {
		if content[at] == commit {
			n++
			at += frameHeader
			continue
		}
		at += frameHeader + int(aligned(uint32At(content, at+4)))
	}
	return n
}

func TestManyAtOnce(t *testing.T) {
	s := open(t, t.TempDir(), 8<<20)
	const senders, each = 20, 50
	var sending sync.WaitGroup
	for sender := range senders {
		sending.Go(func() {
			for n := range each {
				if err := s.Append(t.Context(), newCallback(sender*each+n, 500)); err != nil {
					t.Errorf("append: %v", err)
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { sending.Wait(); close(finished) }()
	var got []string
	for more := true; more; {
		select {
		case <-finished:
			more = false
		default:
		}
		got = append(got, s.drain(13)...)
	}
	want := names(0, senders*each-1)
	slices.Sort(got)
	slices.Sort(want)
	wantIDs(t, got, want)
}

func TestBound(t *testing.T) {
	for _, limit := range []int64{10 << 10, 200 << 10} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			s := open(t, t.TempDir(), limit)
			n := 0
			var err error
			for ; err == nil && n < 1000; n++ {
				err = s.Append(t.Context(), newCallback(n+1, 1000))
			}
			if !errors.Is(err, ErrFull) || !errors.Is(s.Room(), ErrFull) {
				t.Fatalf("a full spool says %v and %v", err, s.Room())
			}
			n--
			if size := s.Stats().Bytes; size > limit || size < limit*3/4 {
				t.Errorf("%d bytes in the spool at its limit of %d", size, limit)
			}
			b, err := s.Next(t.Context(), n/2, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Done(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if err := s.Append(t.Context(), newCallback(n+1, 1000)); err != nil || s.Room() != nil {
				t.Errorf("with half of it taken out: %v, %v", err, s.Room())
			}
			wantIDs(t, s.drain(10), names(len(b.Callbacks)+1, n+1))
		})
	}
	s := open(t, t.TempDir(), 100)
	if err := s.Append(t.Context(), newCallback(1, 10)); !errors.Is(err, ErrFull) {
		t.Errorf("a limit below one callback: %v", err)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20) // segments of 64 KiB
	s.fill(1, 100, 2000)
	s.close()
	if err := s.Append(t.Context(), newCallback(0, 0)); !errors.Is(err, ErrClosed) {
		t.Errorf("append to a closed spool: %v", err)
	}

	s = open(t, dir, 1<<20)
	if n := s.logs.Len(); n != 0 {
		t.Errorf("undamaged, and yet logged: %v", s.logs.All())
	}
	if got := s.Stats(); got.Callbacks != 100 || !got.Oldest.Equal(newCallback(1, 0).ReceivedAt) {
		t.Errorf("the figures are %+v", got)
	}
	b, err := s.Next(t.Context(), 20, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Done(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.fill(101, 110, 2000)
	s.close()

	s = open(t, dir, 1<<20)
	wantIDs(t, s.drain(30), names(21, 110))
	s.close()
	if got := open(t, dir, 1<<20).Stats(); got.Callbacks != 0 || got.Bytes != 0 {
		t.Errorf("the figures of an empty spool are %+v", got)
	}
}

// Without the position, callbacks come out again; none is skipped.
func TestLostPosition(t *testing.T) {
	for name, content := range map[string]string{"garbage": "\x00\x00", "another sum": "x 7 00000000\n", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, plenty)
			s.fill(1, 10, 10)
			b, err := s.Next(t.Context(), 5, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Done(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			s.close()
			writeFile(t, filepath.Join(dir, positionFile), []byte(content))
			wantIDs(t, open(t, dir, plenty).drain(100), names(1, 10))
		})
	}
}

func TestLockedAgainstASecond(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, plenty)
	_, err := Open(s.o)
	if err == nil || !strings.Contains(err.Error(), "another process is using it") || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second spool in the directory: %v", err)
	}
	s.close()
	open(t, dir, plenty)
}

func TestPermissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "spool")
	s := open(t, dir, plenty)
	s.fill(1, 3, 10)
	b, err := s.Next(t.Context(), 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Done(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{dir: 0o700, filepath.Dir(dir): 0o700}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("the directory has %d files, want the lock, the position and a segment: %v", len(entries), err)
	}
	for _, e := range entries {
		want[filepath.Join(dir, e.Name())] = 0o600
	}
	for path, mode := range want {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode().Perm(), mode, err)
		}
	}
}

func TestDirectoryThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, nil)
	if _, err := Open(Options{Dir: filepath.Join(file, "spool"), MaxBytes: plenty}); err == nil {
		t.Error("no error")
	}
}

// A failing disk fails only the callbacks that were written to it; later ones are
// taken.
func TestDiskRefuses(t *testing.T) {
	s := open(t, t.TempDir(), plenty)
	s.fill(1, 5, 10)
	if err := s.do(t.Context(), func() { _ = s.active.log.Close() }); err != nil { // every write to it fails from now on
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), newCallback(6, 10)); err == nil || errors.Is(err, ErrFull) {
		t.Fatalf("append to a broken file: %v", err)
	}
	if s.Room() == nil {
		t.Error("there seems to be room on a disk that refuses")
	}
	s.fill(7, 9, 10)
	s.awaitRoom()
	wantIDs(t, s.drain(2), names(1, 9, 6))
}

func BenchmarkAppend(b *testing.B) {
	for _, senders := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			s := open(b, b.TempDir(), 64<<30)
			c := newCallback(1, 600)
			b.SetParallelism(senders)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Append(b.Context(), c); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
