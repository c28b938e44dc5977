package spool

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
)

// A spool keeps its id over restarts, and gets a new one if the file is damaged.
func TestID(t *testing.T) {
	dir := t.TempDir()
	id := func() uuid.UUID {
		t.Helper()
		s := open(t, dir, plenty)
		defer s.close()
		id, err := s.ID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := id()
	if again := id(); first == uuid.Nil || again != first {
		t.Errorf("the ids of the same spool are %s and %s", first, again)
	}
	writeFile(t, filepath.Join(dir, idFile), []byte("damaged"))
	second := id()
	if again := id(); second == first || again != second {
		t.Errorf("after a damage the ids are %s and %s", second, again)
	}
}

// A drained spool leaves nothing of a callback on disk, however it was drained.
func TestDrainedSpoolHoldsNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 64<<10) // several segments
	s.fill(1, 20, 2000)
	if n := s.Stats().Files; n < 2 {
		t.Fatalf("%d segments, want several", n)
	}
	s.drain(3)
	s.fill(21, 21, 2000) // the segment that is being written
	s.drain(3)
	if n := s.Stats().Files; n != 0 {
		t.Errorf("%d files, want none", n)
	}
	wantOnly(t, dir, lockFile, positionFile)
	for n := range 5 { // an earlier process's
		s.fill(n, n, 2000)
	}
	s.close()
	s = open(t, dir, 64<<10)
	s.drain(100)
	wantOnly(t, dir, lockFile, positionFile)
}

// wantOnly: a spool's directory holds no files but these, which hold no callbacks.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{testFile: true} // for a moment
	for _, name := range names {
		allowed[name] = true
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.Name() == testFile {
			continue
		}
		if !allowed[e.Name()] || info.Size() > 100 {
			t.Errorf("%s is left, with %d bytes", e.Name(), info.Size())
		}
	}
}

// What is kept of a damaged segment counts until an operator has deleted it.
func TestDamagedFilesCount(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, plenty)
	s.fill(1, 3, 500)
	s.close()
	path := segmentFiles(t, dir)[0]
	content := readFile(t, path)
	writeFile(t, path, content[:len(content)-60])
	s = open(t, dir, plenty)
	s.drain(100)
	if n := s.Stats().Files; n != 1 {
		t.Errorf("%d files after draining, want the damaged one", n)
	}
	s.close()
	s = open(t, dir, plenty)
	if n := s.Stats().Files; n != 1 {
		t.Errorf("%d files after a restart, want the damaged one", n)
	}
	if err := os.Remove(path + damagedSuffix); err != nil {
		t.Fatal(err)
	}
	s.checkNow(t)
	if n := s.Stats().Files; n != 0 {
		t.Errorf("%d files after the damaged one was deleted, want none", n)
	}
}

// checkNow does what the spool does every ten seconds.
func (s *Spool) checkNow(t *testing.T) {
	t.Helper()
	if err := s.do(t.Context(), s.check); err != nil {
		t.Fatal(err)
	}
}
