package processtest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestFullDiskAtTheStart: a receiver starts on a full disk, with and without
// Postgres, with an empty spool and with one that filled the disk. It says that its
// spool is unusable, takes callbacks while Postgres is up, drains what it holds,
// and works again without a restart once there is room.
func TestFullDiskAtTheStart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ away, held bool }{
		"PostgresThereSpoolEmpty": {false, false},
		"PostgresThereSpoolFull":  {false, true},
		"PostgresAwaySpoolEmpty":  {true, false},
		"PostgresAwaySpoolFull":   {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t)
			postgres := newOutage(t)
			succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
			postgres.begin()
			environ := append(spooling(postgres.dsn, filepath.Join(disk, "spool")), "CALLBACKD_SPOOL_MAX_BYTES=1600000")
			n := 0
			s := serve(t, environ)
			if tc.held {
				n = s.postUntilRejected()
			}
			s.kill()
			filler := filepath.Join(disk, "filler")
			if err := fill(filler); err != nil {
				t.Fatal(err)
			}
			if !tc.away {
				postgres.end()
			}

			s = serve(t, environ)
			if !tc.held || tc.away {
				s.wantSpoolFailing(tc.away)
			}
			if tc.away {
				a := s.post(t, jumioAddress, "application/json", callbackBody("refused", "ACQUIRED")).wantCode(t, http.StatusServiceUnavailable)
				if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
					t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
				}
			} else {
				s.postAll(n+1, n+3)
				n += 3
			}
			if tc.away && tc.held {
				postgres.end()
			}
			if !tc.held { // else what leaves the spool makes room
				if err := os.Remove(filler); err != nil {
					t.Fatal(err)
				}
			}
			s.awaitSpoolWorking()
			if tc.away && !tc.held {
				s.postAll(n+1, n+3)
				n += 3
				postgres.end()
			}
			s.awaitEmptySpool()
			postgres.begin()
			s.postAll(n+1, n+3)
			postgres.end()
			s.awaitEmptySpool()
			open(t, postgres.dsn).wantInOrder(n + 3)
		})
	}
}

// smallDisk is a file system of a megabyte.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mount(dir, 1<<20); err != nil {
		t.Skipf("NOT CHECKED: what a receiver does on a full disk, because no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// postUntilRejected fills the disk with callbacks and returns how many were accepted.
func (i *instance) postUntilRejected() (taken int) {
	i.t.Helper()
	for ; taken < 100; taken++ {
		body := strings.Replace(callbackBody(spooledID(taken+1), "ACQUIRED"), "{", `{"x":"`+strings.Repeat("x", 40_000)+`",`, 1)
		a := i.post(i.t, jumioAddress, "application/json", body)
		if a.code == http.StatusServiceUnavailable {
			return taken
		}
		a.wantCode(i.t, http.StatusOK)
	}
	i.t.Fatal("the disk does not fill up")
	return 0
}

// wantSpoolFailing demands that the log, the metric and /readyz say that the
// spool's disk is full.
func (i *instance) wantSpoolFailing(unready bool) {
	i.t.Helper()
	code := http.StatusOK
	if unready {
		code = http.StatusServiceUnavailable
	}
	eventually(i.t, patience, func() error {
		if i.metrics(i.t)["callbackd_spool_failing"] != 1 {
			return fmt.Errorf("callbackd_spool_failing is not 1")
		}
		a, err := get(i.admin + "/readyz")
		if err != nil {
			return err
		}
		if a.code != code || !unready && !strings.Contains(a.body, "no space left on device") {
			return fmt.Errorf("/readyz says %d %s", a.code, a.body)
		}
		return nil
	})
	if !strings.Contains(i.stderr.String(), "the spool's disk does not take callbacks") {
		i.t.Error("the log says nothing of the full disk")
	}
}

func (i *instance) awaitSpoolWorking() {
	i.t.Helper()
	eventually(i.t, patience, func() error {
		if i.metrics(i.t)["callbackd_spool_failing"] != 0 {
			return fmt.Errorf("the spool's disk still takes no callbacks: %s", tail(i.stderr.String()))
		}
		return wantReady(i, http.StatusOK)
	})
}

// TestRefusedSpoolDirectory: a directory that others may write to stops the start
// with one line.
func TestRefusedSpoolDirectory(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	r := fails(t, spooling(dsn, dir), "serve")
	if !strings.Contains(r, "others may write to "+dir+" (mode 0777") || !strings.Contains(r, "chmod go-w") || strings.Count(strings.TrimSpace(r), "\n") != 0 {
		t.Errorf("it says %q", r)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the directory was used: %v, %v", entries, err)
	}
}

// TestSpoolOnKubernetesVolume: a volume with fsGroup belongs to root, and the
// pod's group may write to it; its files are given to that group at a mount.
func TestSpoolOnKubernetesVolume(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || gnuChroot() == "" {
		t.Skip("NOT CHECKED, because this is not root, or not GNU's chroot: a volume with fsGroup")
	}
	const fsGroup = 2000
	program, err := plainProgram()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	volume := filepath.Join(root, "volume")
	for _, err := range []error{
		os.WriteFile(filepath.Join(root, "callbackd"), binary, 0o555),
		os.Mkdir(volume, 0o700), os.Chown(volume, 0, fsGroup), os.Chmod(volume, 0o775|os.ModeSetgid),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	run := func(environ []string) *instance {
		script := []string{gnuChroot(), "--userspec=+" + nobody + ":+" + nobody, "--groups=2000", root, "/callbackd", "serve"}
		i := &instance{process: start(t, environ, nil, script[0], script[1:]...), path: callbackPath}
		i.awaitStart()
		return i
	}
	postgres := newOutage(t)
	succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
	postgres.begin()
	for n, dir := range []string{"/volume/spool", "/volume"} {
		environ := spooling(postgres.dsn, dir)
		s := run(environ)
		s.postAll(3*n+1, 3*n+2)
		s.kill()
		regroup(t, volume, fsGroup)
		s = run(environ)
		s.postAll(3*n+3, 3*n+3)
		s.kill()
	}
	postgres.end()
	for _, dir := range []string{"/volume/spool", "/volume"} {
		s := run(slices.Clone(spooling(postgres.dsn, dir)))
		s.awaitEmptySpool()
		s.kill()
	}
	open(t, postgres.dsn).wantInOrder(6)
}

// regroup does what the kubelet does to a volume with fsGroup when it mounts it.
func regroup(t *testing.T, volume string, group int) {
	t.Helper()
	err := filepath.WalkDir(volume, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o660
		if d.IsDir() {
			mode |= 0o110 | os.ModeSetgid
		}
		if err := os.Chown(path, -1, group); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}
