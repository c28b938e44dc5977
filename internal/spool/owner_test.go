package spool

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

// stranger is a user and a group that no test runs as.
const stranger = 54321

// What others may write to or replace is rejected, in one line that names it.
func TestRefusedDirectory(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, base, dir string) error
		want    string // empty: it is used
	}{
		"own":                        {func(*testing.T, string, string) error { return nil }, ""},
		"readable":                   {func(_ *testing.T, _, dir string) error { return os.Chmod(dir, 0o755) }, ""},
		"writable for all":           {func(_ *testing.T, _, dir string) error { return os.Chmod(dir, 0o777) }, "others may write to DIR (mode 0777"},
		"writable for all, sticky":   {func(_ *testing.T, _, dir string) error { return os.Chmod(dir, 0o777|fs.ModeSticky) }, "others may write to DIR (mode 0777"},
		"in one writable for all":    {func(_ *testing.T, base, _ string) error { return os.Chmod(base, 0o777) }, "others may write to BASE (mode 0777"},
		"in one like /tmp":           {func(_ *testing.T, base, _ string) error { return os.Chmod(base, 0o777|fs.ModeSticky) }, ""},
		"of another user":            {func(t *testing.T, _, dir string) error { return chown(t, dir, stranger, -1) }, "DIR belongs to user 54321"},
		"in one of another user":     {func(t *testing.T, base, _ string) error { return chown(t, base, stranger, -1) }, "BASE belongs to user 54321"},
		"writable for another group": {func(t *testing.T, _, dir string) error { return chmodFor(t, dir, stranger, 0o775) }, "others may write to DIR (mode 0775, group 54321)"},
		"the same with setgid":       {func(t *testing.T, _, dir string) error { return chmodFor(t, dir, stranger, 0o775|fs.ModeSetgid) }, "others may write to DIR (mode 0775, group 54321)"},
		"a link to a good one": {func(_ *testing.T, base, dir string) error {
			return relink(dir, filepath.Join(base, "real"), 0o700)
		}, ""},
		"a link to a bad one": {func(_ *testing.T, base, dir string) error {
			return relink(dir, filepath.Join(base, "real"), 0o777)
		}, "others may write to DIR"},
		"a link of another user's": {func(t *testing.T, base, dir string) error {
			if err := relink(dir, filepath.Join(base, "real"), 0o700); err != nil {
				return err
			}
			return chown(t, dir, stranger, -1)
		}, "DIR belongs to user 54321"},
		"a link to itself": {func(_ *testing.T, _, dir string) error {
			if err := os.Remove(dir); err != nil {
				return err
			}
			return os.Symlink(dir, dir)
		}, "too many"},
		"the lock a link": {func(_ *testing.T, base, dir string) error {
			return os.Symlink(filepath.Join(base, "victim"), filepath.Join(dir, lockFile))
		}, "lock is a symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			base := filepath.Join(t.TempDir(), "base")
			dir := filepath.Join(base, "spool")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tc.prepare(t, base, dir); err != nil {
				t.Fatal(err)
			}
			wantOpens(t, dir, strings.NewReplacer("DIR", dir, "BASE", base).Replace(tc.want))
			if _, err := os.Lstat(filepath.Join(base, "victim")); err == nil {
				t.Error("a symbolic link was followed")
			}
		})
	}
}

func wantOpens(t *testing.T, dir, want string) {
	t.Helper()
	s, err := Open(Options{Dir: dir, MaxBytes: plenty, Log: zap.NewNop()})
	if err == nil {
		err = s.Close()
		if want != "" {
			t.Errorf("it was used, want %q", want)
		}
	}
	if (err != nil) != (want != "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
		t.Errorf("it says %v, want %q", err, want)
	}
}

// chown needs root.
func chown(t *testing.T, path string, user, group int) error {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT CHECKED, because this is not root: what belongs to another user")
	}
	return os.Lchown(path, user, group)
}

func chmodFor(t *testing.T, path string, group int, mode fs.FileMode) error {
	t.Helper()
	if err := chown(t, path, -1, group); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func relink(link, target string, mode fs.FileMode) error {
	if err := os.Rename(link, target); err != nil {
		return err
	}
	if err := os.Chmod(target, mode); err != nil {
		return err
	}
	return os.Symlink(target, link)
}

// A record that somebody else put into the directory does not become a callback.
func TestForgedSegment(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, plenty)
	s.fill(1, 3, 10)
	s.close()
	genuine := segmentFiles(t, dir)[0]
	for name, tc := range map[string]struct {
		forge func(path string) error
		want  string
	}{
		"of another user": {func(path string) error {
			return os.Lchown(path, stranger, -1)
		}, "belongs to user 54321"},
		"writable for all": {func(path string) error { return os.Chmod(path, 0o666) }, "others may write to"},
		"a symbolic link": {func(path string) error {
			return rename(path, path+".real", func() error { return os.Symlink(path+".real", path) })
		}, "is not a regular file"},
		"a pipe": {func(path string) error {
			return rename(path, path+".real", func() error { return syscall.Mkfifo(path, 0o600) })
		}, "is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "of another user" && os.Geteuid() != 0 {
				t.Skip("NOT CHECKED, because this is not root: a file of another user")
			}
			forged := copyOf(t, dir)
			path := filepath.Join(forged, filepath.Base(genuine))
			if err := os.Chmod(path, 0o600); err != nil { // a copy's mode is another one
				t.Fatal(err)
			}
			if err := tc.forge(path); err != nil {
				t.Fatal(err)
			}
			wantOpens(t, forged, tc.want)
		})
	}
}

func rename(from, to string, then func() error) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return then()
}

// Whatever is in the place of the position's file, it is not written to.
func TestPositionFollowsNoLink(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	writeFile(t, victim, []byte("precious"))
	for _, name := range []string{positionFile, positionFile + ".new", testFile} {
		if err := os.Symlink(victim, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, plenty)
	s.fill(1, 5, 10)
	b, err := s.Next(t.Context(), 2, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Done(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.close()
	if got := string(readFile(t, victim)); got != "precious" {
		t.Errorf("a file outside the spool was overwritten: %q", got)
	}
	wantIDs(t, open(t, dir, plenty).drain(10), names(3, 5))
}

// Directories as Kubernetes, systemd and ordinary hosts create them are accepted.
func TestGroupsThatMayWrite(t *testing.T) {
	me := identity{user: 65532, groups: []int{65532, 2000, 100}}
	for name, tc := range map[string]struct {
		mode        fs.FileMode
		user, group uint32
		good        bool
	}{
		"a volume with fsGroup":                {fs.ModeDir | fs.ModeSetgid | 0o775, 0, 2000, true},
		"a spool in it, after another mount":   {fs.ModeDir | fs.ModeSetgid | 0o770, 65532, 2000, true},
		"a segment in it, after another mount": {0o660, 65532, 2000, true},
		"the volume of deploy/kubernetes":      {fs.ModeDir | fs.ModeSetgid | 0o775, 0, 65532, true},
		"a user's private group":               {fs.ModeDir | 0o775, 65532, 65532, true},
		"root's group":                         {fs.ModeDir | 0o775, 0, 0, true},
		"systemd's StateDirectory":             {fs.ModeDir | 0o700, 65532, 65532, true},
		"a group that is shared":               {fs.ModeDir | 0o775, 65532, 100, false},
		"a group of others":                    {fs.ModeDir | fs.ModeSetgid | 0o775, 0, 3000, false},
		"an emptyDir":                          {fs.ModeDir | fs.ModeSetgid | 0o777, 0, 2000, false},
		"another user's":                       {fs.ModeDir | 0o700, 1000, 1000, false},
		"a segment of another user's":          {0o600, 1000, 65532, false},
		"a segment for a group of others":      {0o660, 65532, 3000, false},
	} {
		if err := me.check("x", status{tc.mode, tc.user, tc.group}); (err == nil) != tc.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// status is the owner and mode of a file.
type status struct {
	mode        fs.FileMode
	user, group uint32
}

func (s status) Name() string       { return "x" }
func (s status) Size() int64        { return 0 }
func (s status) Mode() fs.FileMode  { return s.mode }
func (s status) ModTime() time.Time { return time.Time{} }
func (s status) IsDir() bool        { return s.mode.IsDir() }
func (s status) Sys() any           { return &syscall.Stat_t{Uid: s.user, Gid: s.group} }
