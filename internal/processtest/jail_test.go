package processtest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nobody is a user without an entry in any passwd file.
const nobody = "65432"

// TestBareSurroundings: the release binary does all its work where there is nothing
// but itself: nothing to write to, no temporary directory, no user
// database, no home, no PATH, no time zones, the strictest umask, as a user that
// is only a number.
func TestBareSurroundings(t *testing.T) {
	t.Parallel()
	run, jailed := bareSurroundings(t)
	dsn := migrated(t)
	db := open(t, dsn)
	jumio := startSandbox(t, "--fast-images")
	environ := slices.DeleteFunc(retrieving(dsn, jumio), func(setting string) bool { return strings.HasPrefix(setting, "JUMIO_CLIENT_SECRET=") })
	environ = append(environ, "JUMIO_CLIENT_SECRET_FILE=./"+secretFile)
	s := &instance{process: run(t, environ, "serve"), path: callbackPath}
	s.awaitStart()
	id := jumio.sendOne(journeys{Kind: "passed-passport", CallbackURL: s.callbackURL()})
	db.awaitState(id, "retrieved")
	s.post(t, foreignAddress, "application/json", processed("foreign")).wantCode(t, http.StatusForbidden)

	local := append(slices.Clone(environ), "CALLBACKD_LISTEN="+strings.TrimPrefix(s.callback, "http://"), "CALLBACKD_ADMIN_LISTEN="+strings.TrimPrefix(s.admin, "http://"))
	for _, command := range []string{"healthcheck", "version", "config", "migrate up", "migrate version", "rejected list", "refetch " + id} {
		p := run(t, local, strings.Fields(command)...)
		if code := p.wait(); code != 0 {
			t.Errorf("callbackd %s: exit code %d, %s", command, code, p.stderr.String())
		}
	}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid)); jailed && err == nil {
		uids := strings.Join([]string{"Uid:", nobody, nobody, nobody, nobody}, "\t")
		if !strings.Contains(string(status), uids) || !strings.Contains(string(status), "Umask:\t0777") {
			t.Errorf("the process does not run as this test wants it:\n%s", status)
		}
	}
	s.stop(terminate)
}

// secretFile is what else there is: readable, like a secret of Kubernetes.
const secretFile = "secret"

// bareSurroundings returns what starts callbackd there. Only root may put a
// process into a root directory of its own and give it another user; others run
// it in a directory that holds nothing else and that it may not write to.
func bareSurroundings(t *testing.T) (run func(t testing.TB, environ []string, args ...string) *process, jailed bool) {
	t.Helper()
	program, err := plainProgram()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for name, content := range map[string][]byte{"callbackd": binary, secretFile: []byte(sandboxSecret)} {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(root, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chmod(root, 0o755); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(root)
		if err != nil || len(left) != 2 {
			t.Errorf("callbackd left files behind: %v, %v", left, err)
		}
	})
	script := `umask 0777; unset PATH HOME; cd "$0" && exec ./callbackd "$@"`
	if chroot := gnuChroot(); os.Getuid() == 0 && chroot != "" {
		jailed = true
		script = `umask 0777; unset PATH HOME; exec ` + chroot + ` --userspec=+` + nobody + `:+` + nobody + ` --groups= "$0" /callbackd "$@"`
	} else {
		t.Logf("NOT CHECKED, because this is not root, or not GNU's chroot: an empty root directory, a user that is only a number")
	}
	return func(t testing.TB, environ []string, args ...string) *process {
		t.Helper()
		return start(t, environ, nil, "/bin/sh", slices.Concat([]string{"-c", script, root}, args)...)
	}, jailed
}

// gnuChroot is the path of the only chroot that takes users as numbers; empty
// elsewhere.
func gnuChroot() string {
	for _, path := range []string{"/usr/sbin/chroot", "/usr/bin/chroot"} {
		if version, err := exec.Command(path, "--version").Output(); err == nil && strings.Contains(string(version), "GNU") {
			return path
		}
	}
	return ""
}
