package spool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A stalled disk delays no caller beyond its deadline.
func TestStalledDisk(t *testing.T) {
	disk := newStallingDisk()
	s := openOnDisk(t, t.TempDir(), disk)
	s.fill(1, 3, 10)
	disk.stall()
	defer func() {
		if disk.release.Load() != nil {
			disk.goOn()
		}
	}()
	first := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { first <- s.Append(ctx, newCallback(4, 10)) }()
	<-disk.stalled
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("append while the disk stalls: %v", err)
	}
	// This one was never on its way to the disk, and leaves nothing behind.
	brief, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for name, err := range map[string]error{
		"append": s.Append(brief, newCallback(5, 10)),
		"next":   func() error { _, err := s.Next(brief, 10, 1<<20); return err }(),
		"done":   s.Done(brief, &Batch{}),
	} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s while the disk stalls: %v", name, err)
		}
	}
	if got := s.Stats().Callbacks; got != 3 {
		t.Errorf("%d callbacks in the spool, want 3", got)
	}
	eventually(t, "the spool notices that its disk stalls", func() bool { return errors.Is(s.Room(), errStalled) })
	disk.goOn()
	s.awaitRoom()
	wantIDs(t, s.drain(10), names(1, 4))
}

// Close gives up on a stalled disk.
func TestCloseOfAStalledDisk(t *testing.T) {
	disk := newStallingDisk()
	s, err := openOn(Options{Dir: t.TempDir(), MaxBytes: plenty, Log: zap.NewNop()}, disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), newCallback(1, 10)); err != nil {
		t.Fatal(err)
	}
	disk.stall()
	waiting := make(chan error, 1)
	go func() { waiting <- s.Append(t.Context(), newCallback(2, 10)) }()
	<-disk.stalled
	if err := s.Close(); err == nil {
		t.Error("closed, although the disk does not answer")
	}
	disk.goOn()
	if err := <-waiting; err != nil {
		t.Errorf("the append that the disk took late: %v", err)
	}
	<-s.ended
}

// The position is only a hint: if it cannot be saved, everything else works.
func TestPositionCannotBeSaved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20) // segments of 64 KiB
	s.fill(1, 100, 3000)
	s.close()
	// Now a file of that name can be neither created nor deleted.
	if err := os.MkdirAll(filepath.Join(dir, positionFile+".new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 1<<20)
	wantIDs(t, s.drain(7), names(1, 100))
	if files := segmentFiles(t, dir); len(files) != 0 {
		t.Errorf("moved segments are left: %q", files)
	}
	if n := s.logs.FilterMessageSnippet("could not save the position").Len(); n != 1 {
		t.Errorf("that the position cannot be saved was logged %d times, want once", n)
	}
}

// A segment that cannot be deleted comes out once only, and is deleted later.
func TestSegmentCannotBeDeleted(t *testing.T) {
	s := open(t, t.TempDir(), plenty)
	s.fill(1, 5, 10)
	b, err := s.Next(t.Context(), 10, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	path := segmentFiles(t, s.dir)[0]
	aside := path + ".aside"
	if err := errors.Join(os.Rename(path, aside), os.MkdirAll(filepath.Join(path, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Done(t.Context(), b); err != nil {
			t.Errorf("done: %v", err)
		}
	}
	if n := s.logs.FilterMessageSnippet("could not delete").Len(); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	if err := errors.Join(os.RemoveAll(path), os.Rename(aside, path)); err != nil {
		t.Fatal(err)
	}
	s.fill(6, 7, 10)
	wantIDs(t, s.drain(10), names(6, 7))
	if files := segmentFiles(t, s.dir); len(files) != 0 {
		t.Errorf("left are %q", files)
	}
}
