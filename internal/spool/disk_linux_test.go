package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// smallDisk returns a file system of one megabyte, for a spool and what fills it.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"+options); err != nil {
		t.Skipf("NOT CHECKED: what the spool does on a full disk, because no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fillUp leaves no byte free. It returns the path of a file that can be deleted.
func fillUp(t *testing.T, disk string) string {
	t.Helper()
	path := filepath.Join(disk, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, endless{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	return path
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

const (
	refuses = "the spool's disk does not take callbacks"
	takes   = "the spool's disk takes callbacks again"
	noPlace = "could not save the position of the spool: after a restart callbacks are drained again, which stores none twice"
)

// A spool opens on a full disk and returns its callbacks, which frees space.
func TestFullDisk(t *testing.T) {
	for name, held := range map[string]int{"empty": 0, "in use": 100} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t, "")
			dir := filepath.Join(disk, "spool")
			s := open(t, dir, 800<<10) // segments of 50 KiB
			s.fill(1, held, 4000)
			s.close()
			filler := fillUp(t, disk)

			s = open(t, dir, 800<<10)
			if got := s.Stats().Callbacks; got != held {
				t.Errorf("%d callbacks are in the spool, want %d", got, held)
			}
			if err := s.Append(t.Context(), newCallback(held+1, 100)); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("append on a full disk: %v", err)
			}
			if err := s.Room(); !errors.Is(err, syscall.ENOSPC) || s.logged(refuses) != 1 {
				t.Errorf("the spool says %v, and logs it %d times", err, s.logged(refuses))
			}
			if held == 0 {
				remove(t, filler)
			}
			wantIDs(t, s.drain(7), names(1, held))
			if held > 0 && s.logged(noPlace) > 1 {
				t.Errorf("that the position could not be saved was logged %d times", s.logged(noPlace))
			}
			s.awaitRoom()
			s.fill(held+1, held+5, 100)
			wantIDs(t, s.drain(7), names(held+1, held+5))
			if s.logged(takes) != 1 {
				t.Errorf("it was logged %d times that the disk takes callbacks again", s.logged(takes))
			}
		})
	}
}

// A spool can open later if at first not even its lock or directory can be created.
func TestNoRoomForTheLock(t *testing.T) {
	for name, there := range map[string]bool{"directory": true, "no directory": false} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t, ",nr_inodes=20")
			dir := filepath.Join(disk, "spool")
			if there {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			var files []string
			for n := range 20 {
				path := filepath.Join(disk, fmt.Sprint(n))
				if f, err := os.Create(path); err == nil {
					files = append(files, path)
					_ = f.Close()
				}
			}
			s := open(t, dir, plenty)
			if err := s.Append(t.Context(), newCallback(1, 10)); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("append: %v", err)
			}
			wantIDs(t, s.drain(10), nil)
			if err := s.Failing(); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("the spool says %v", err)
			}
			for _, path := range files {
				remove(t, path)
			}
			s.awaitRoom()
			s.fill(1, 3, 10)
			wantIDs(t, s.drain(10), names(1, 3))
		})
	}
}
