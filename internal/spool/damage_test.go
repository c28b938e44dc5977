package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// damagedSpool returns a spool of n callbacks in one segment, which the test has
// changed while it was closed.
func damagedSpool(t *testing.T, n int, damage func(content []byte) []byte) *opened {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, plenty)
	s.fill(1, n, 200)
	s.close()
	path := segmentFiles(t, dir)[0]
	writeFile(t, path, damage(readFile(t, path)))
	return open(t, dir, plenty)
}

// wantDamage checks that a damage was reported, and that its file is kept after all
// its callbacks are done.
func (o *opened) wantDamage() {
	o.t.Helper()
	if o.Stats().Damages == 0 || o.logs.Len() == 0 {
		o.t.Errorf("the damage is not reported: %+v", o.Stats())
	}
	kept, err := filepath.Glob(filepath.Join(o.dir, "*"+damagedSuffix))
	if err != nil || len(kept) != 1 {
		o.t.Errorf("kept are %q, %v, want the damaged file", kept, err)
	}
}

// record returns the offset of the n-th record in a segment.
func record(content []byte, n int) int {
	at := 0
	for range n {
		at += bytes.Index(content[at+1:], []byte(recordMagic)) + 1
	}
	return at
}

func TestTornEnd(t *testing.T) {
	const last = 10
	zero := func(b []byte) { clear(b) }
	garbage := func(b []byte) {
		for i := range b {
			b[i] = byte(i*7 + 1)
		}
	}
	for name, damage := range map[string]func([]byte) []byte{
		"last byte cut off":            func(c []byte) []byte { return c[:len(c)-1] },
		"commit cut off":               func(c []byte) []byte { return c[:len(c)-frameHeader] },
		"last record cut in its body":  func(c []byte) []byte { return c[:len(c)-100] },
		"last record cut in its frame": func(c []byte) []byte { return c[:record(c, last)-3] },
		"last block zeroed":            func(c []byte) []byte { zero(c[len(c)-120:]); return c },
		"last block garbage":           func(c []byte) []byte { garbage(c[len(c)-120:]); return c },
		"last body damaged":            func(c []byte) []byte { c[len(c)-50] ^= 1; return c },
		"garbage behind the end":       func(c []byte) []byte { return append(c, "some garbage that was never written"...) },
		"zeros behind the end":         func(c []byte) []byte { return append(c, make([]byte, 4096)...) },
		"record without its end":       func(c []byte) []byte { return append(c, c[record(c, 1)-frameHeader:record(c, 1)+100]...) },
		"commit's sum damaged":         func(c []byte) []byte { c[len(c)-1] ^= 1; return c },
	} {
		t.Run(name, func(t *testing.T) {
			s := damagedSpool(t, last, damage)
			// What comes after the crash is not mixed up with what was before.
			s.fill(last+1, last+5, 200)
			want := names(1, last+5, last)
			ids := s.drain(4)
			switch name {
			case "last byte cut off", "commit cut off", "garbage behind the end", "zeros behind the end", "record without its end", "commit's sum damaged":
				want = names(1, last+5) // the record itself is whole
			}
			wantIDs(t, ids, want)
			s.wantDamage()
		})
	}
}

func TestDamageInTheMiddle(t *testing.T) {
	const n, hit = 20, 7
	for name, tc := range map[string]struct {
		damage func(c []byte)
		lost   []int
	}{
		"a body":            {func(c []byte) { c[record(c, hit)+300] ^= 1 }, []int{hit}},
		"the fields":        {func(c []byte) { c[record(c, hit)+recordHeader+2] ^= 1 }, []int{hit}},
		"a record's length": {func(c []byte) { c[record(c, hit)+13] ^= 1 }, []int{hit}},
		"a frame's type":    {func(c []byte) { c[record(c, hit)-frameHeader] ^= 0x40 }, nil},
		"a frame's length":  {func(c []byte) { c[record(c, hit)-2] ^= 1 }, nil},
		"a zeroed block":    {func(c []byte) { clear(c[record(c, hit)-frameHeader : record(c, hit+2)+10]) }, []int{hit, hit + 1, hit + 2}},
		"the file's header": {func(c []byte) { clear(c[:segmentHeader]) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := damagedSpool(t, n, func(c []byte) []byte { tc.damage(c); return c })
			wantIDs(t, s.drain(3), names(1, n, tc.lost...))
			s.wantDamage()
		})
	}
}

// If one of several segments is truncated, emptied, missing or garbage, the others are
// not affected.
func TestDamagedFile(t *testing.T) {
	whole := t.TempDir()
	s := open(t, whole, 1<<20) // segments of 64 KiB
	s.fill(1, 100, 3000)
	s.close()
	files := segmentFiles(t, whole)
	if len(files) < 4 {
		t.Fatalf("%d segments", len(files))
	}
	all := names(1, 100)
	for name, damage := range map[string]func(t *testing.T, path string){
		"truncated to nothing": func(t *testing.T, path string) { writeFile(t, path, nil) },
		"truncated to 20 bytes": func(t *testing.T, path string) {
			writeFile(t, path, readFile(t, path)[:20])
		},
		"missing": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"garbage": func(t *testing.T, path string) { writeFile(t, path, bytes.Repeat([]byte("junk"), 5000)) },
	} {
		for hit := range files {
			t.Run(fmt.Sprintf("%s, segment %d", name, hit), func(t *testing.T) {
				dir := copyOf(t, whole)
				damage(t, segmentFiles(t, dir)[hit])
				s := open(t, dir, 1<<20)
				s.fill(101, 101, 10)
				got := s.drain(30)
				lost := len(all) + 1 - len(got)
				if lost < 1 || lost > 25 || got[len(got)-1] != "w-101" {
					t.Errorf("%d callbacks are lost with one segment", lost)
				}
				if name != "missing" && s.Stats().Damages == 0 {
					t.Error("the damage is not reported")
				}
			})
		}
	}
}

// Wherever a crash cuts the file, nothing before that is lost and nothing fails.
func TestCutAnywhere(t *testing.T) {
	whole := t.TempDir()
	s := open(t, whole, plenty)
	s.fill(1, 5, 40)
	s.close()
	content := readFile(t, segmentFiles(t, whole)[0])
	var ends []int
	for n := range 5 {
		at := record(content, n+1)
		ends = append(ends, at+recordLength(content[at:]))
	}
	dir := t.TempDir()
	for length := 0; length < len(content); length += 3 {
		writeFile(t, filepath.Join(dir, filepath.Base(segmentFiles(t, whole)[0])), content[:length])
		complete := 0
		for complete < 5 && ends[complete] <= length {
			complete++
		}
		s := open(t, dir, plenty)
		got := s.drain(10)
		if len(got) != complete {
			t.Errorf("cut to %d bytes: %d callbacks, want %d", length, len(got), complete)
		}
		s.close()
	}
}
