package pgserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// holdVariable turns the test binary into a program that holds a cluster until
// its standard input ends.
const holdVariable = "PGSERVER_TEST_HOLD"

func TestMain(m *testing.M) {
	if os.Getenv(holdVariable) != "" {
		if err := hold(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold prints uid, process id and directory of a new cluster.
func hold() error {
	s, err := Start(context.Background(), Options{NoSync: true})
	if err != nil {
		return err
	}
	fmt.Println(os.Getuid(), s.PID(), s.Dir())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Stop()
}

// startServer starts a cluster that is removed with the test.
func startServer(t *testing.T, options Options) *Server {
	t.Helper()
	needPrograms(t)
	s, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// needPrograms skips a test where there is no server to be tested: a machine
// without PostgreSQL on which DATABASE_URL serves the other tests.
func needPrograms(t *testing.T) {
	t.Helper()
	if _, err := Find(); err != nil && os.Getenv("DATABASE_URL") != "" {
		t.Skip(err)
	}
}

// query returns the one text that sql selects.
func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) // nothing depends on it
	var value string
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}

// alive tells whether a process exists. A zombie, which only waits to be
// reaped by a parent that is not us, counts as ended.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	// A container may lack ps, macOS lacks /proc.
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		return !strings.Contains(string(stat), ") Z ")
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func TestStartAndStop(t *testing.T) {
	s := startServer(t, Options{NoSync: true, Settings: map[string]string{"max_connections": "33"}})
	for sql, want := range map[string]string{
		"SELECT current_user":             "postgres",
		"SHOW max_connections":            "33",
		"SHOW fsync":                      "off",
		"SHOW synchronous_commit":         "on",
		"SHOW server_encoding":            "UTF8",
		"SHOW listen_addresses":           "127.0.0.1",
		"SHOW unix_socket_directories":    s.Dir(),
		"SELECT host(inet_server_addr())": "127.0.0.1",
		"SELECT datcollate FROM pg_database WHERE datname='postgres'": locale(),
	} {
		if got := query(t, s.DSN("postgres"), sql); got != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
	info, err := os.Stat(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 || len(s.Dir()) > 80 {
		t.Errorf("directory %s has mode %v, want a short path and 0700", s.Dir(), info.Mode())
	}
	if exists(filepath.Join(s.Dir(), "password")) {
		t.Error("the password is still in the directory")
	}

	pid := s.PID()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) || exists(s.Dir()) || s.PID() != 0 {
		t.Errorf("after Stop: process alive %v, directory there %v, PID %d", alive(pid), exists(s.Dir()), s.PID())
	}
	if err := s.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if err := s.Restart(t.Context()); err == nil {
		t.Error("a removed cluster was restarted")
	}
}

// TestOrdinaryUser: the server never runs as root, even when the caller is root.
func TestOrdinaryUser(t *testing.T) {
	s := startServer(t, Options{NoSync: true})
	info, err := os.Stat(filepath.Join(s.Dir(), "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	uid := int(info.Sys().(*syscall.Stat_t).Uid)
	if uid == 0 || os.Getuid() != 0 && uid != os.Getuid() {
		t.Errorf("the server runs as uid %d, called by %d", uid, os.Getuid())
	}
}

// TestPassword: neither the port nor the socket accepts a connection without it.
func TestPassword(t *testing.T) {
	s := startServer(t, Options{NoSync: true})
	right, err := url.Parse(s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := right.User.Password()
	socket := fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres password=", s.Dir(), right.Port())
	for name, dsn := range map[string]string{
		"TCP":    strings.Replace(s.DSN("postgres"), password, "wrong", 1),
		"socket": socket + "wrong",
	} {
		conn, err := pgx.Connect(t.Context(), dsn)
		if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "28P01" {
			t.Errorf("%s with a wrong password: %v, want 28P01", name, err)
		}
		if err == nil {
			_ = conn.Close(t.Context())
		}
	}
	if got := query(t, socket+password, "SELECT current_user"); got != "postgres" {
		t.Errorf("socket with the right password: user %q", got)
	}
}

// TestKillAndRestart: what was committed survives a crash, the DSN stays right.
func TestKillAndRestart(t *testing.T) {
	s := startServer(t, Options{})
	dsn := s.DSN("postgres")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) // the connection is broken on purpose
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 'here' AS it"); err != nil {
		t.Fatal(err)
	}
	pid := s.PID()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) || s.PID() != 0 {
		t.Error("the server lives after Kill")
	}
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a connection outlived Kill")
	}
	if err := s.Kill(); err != nil {
		t.Errorf("second Kill: %v", err)
	}
	for _, state := range []string{"killed", "running"} {
		if err := s.Restart(t.Context()); err != nil {
			t.Fatalf("restart of a %s server: %v", state, err)
		}
		if got := query(t, dsn, "SELECT it FROM kept"); got != "here" {
			t.Errorf("restart of a %s server: got %q", state, got)
		}
	}
}

// TestStopAfterDeath: a server that died by itself is still cleaned up.
func TestStopAfterDeath(t *testing.T) {
	s := startServer(t, Options{NoSync: true})
	pid := s.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server's end", func() bool { return s.PID() == 0 })
	if err := s.Stop(); err != nil || exists(s.Dir()) {
		t.Errorf("Stop: %v, directory there %v", err, exists(s.Dir()))
	}
}

// TestWrongSetting: the error repeats the server's message in one line, and nothing
// is left behind.
func TestWrongSetting(t *testing.T) {
	needPrograms(t)
	s, err := Start(t.Context(), Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil {
		_ = s.Stop()
		t.Fatal("a wrong setting was accepted")
	}
	if !strings.Contains(err.Error(), "no_such_setting") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q", err)
	}
	checkNothingLeft(t)
}

// checkNothingLeft looks for directories of clusters that this process started.
func checkNothingLeft(t *testing.T) {
	t.Helper()
	for _, parent := range []string{"/tmp", os.TempDir()} {
		left, err := filepath.Glob(filepath.Join(parent, fmt.Sprintf("callbackd-pg-%d-*", os.Getpid())))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %q (%v)", left, err)
		}
	}
}

func TestStartCancelled(t *testing.T) {
	needPrograms(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := Start(ctx, Options{})
	if err == nil {
		_ = s.Stop()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	checkNothingLeft(t)
}

// TestOwnerKilled: the cluster goes away when the process that started it is
// killed, whether that was root or an ordinary user.
func TestOwnerKilled(t *testing.T) {
	needPrograms(t)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	callers := map[string]*user{"caller": nil}
	if os.Getuid() == 0 {
		const nobody = 65534
		callers["ordinary user"] = &user{name: "nobody", uid: nobody, gid: nobody}
		binary = sharedCopy(t, binary)
	}
	for name, caller := range callers {
		t.Run(name, func(t *testing.T) {
			helper := exec.CommandContext(t.Context(), binary)
			caller.runs(helper)
			helper.Dir = "/"
			helper.Env = append(helper.Env, holdVariable+"=1")
			helper.Stderr = os.Stderr
			lifeline, err := helper.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer lifeline.Close() // it ends the helper, if it still runs
			stdout, err := helper.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := helper.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil {
				t.Fatalf("the helper started no cluster: %v", err)
			}
			var uid, pid int
			var dir string
			if _, err := fmt.Sscan(line, &uid, &pid, &dir); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if caller != nil && uid != caller.uid {
				t.Fatalf("the helper runs as %d, want %d", uid, caller.uid)
			}
			if !alive(pid) || !exists(dir) {
				t.Fatalf("no cluster: process alive %v, directory there %v", alive(pid), exists(dir))
			}
			if err := helper.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = helper.Wait() // reports the kill
			eventually(t, "the server's end", func() bool { return !alive(pid) })
			eventually(t, "the directory's removal", func() bool { return !exists(dir) })
		})
	}
}

// sharedCopy copies a program to where any user may run it.
func sharedCopy(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "pgserver-test-") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	copied := filepath.Join(dir, "program")
	if err := errors.Join(os.WriteFile(copied, content, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return copied
}
