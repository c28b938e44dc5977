// Package pgserver runs a private PostgreSQL cluster for the demo, the tests
// and the benchmarks, from the PostgreSQL programs on the machine.
//
// The cluster belongs to this process and goes away with it, even when the
// process is killed. It is for throw-away data only: it keeps nothing between
// runs, installs nothing, and never touches a cluster that it did not make.
//
// The server listens on 127.0.0.1, and on a Unix socket in a directory that only
// its own user may enter. Both demand a random password, because any local user
// can reach the port.
package pgserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// superuser is the name of the cluster's superuser.
	superuser = "postgres"
	// startAttempts is how often another port is tried.
	startAttempts = 5
	// stopTimeout is how long a fast shutdown may take before it becomes an immediate one.
	stopTimeout = 15 * time.Second
	// pollInterval is how often a starting server is asked whether it is ready.
	pollInterval = 20 * time.Millisecond
)

// Options configure a cluster. The zero value suits most uses.
type Options struct {
	// Settings are further server settings, such as "max_connections": "200".
	Settings map[string]string
	// NoSync turns fsync and full_page_writes off, which is faster. Data then
	// survives the death of a process, but not that of the machine.
	NoSync bool
}

// Server is a running cluster. Its methods may be called concurrently.
type Server struct {
	programs string // directory of the PostgreSQL programs
	dir      string // everything of this cluster, the Unix socket included
	user     *user  // that the server runs as; nil for the caller
	password string
	port     int // fixed by the first successful start
	options  Options
	watchdog *watchdog

	mu      sync.Mutex // guards what follows, and orders starts and stops
	process *exec.Cmd
	exited  chan struct{} // closed when process has ended and been reaped
	stopped bool
}

// Start makes a cluster and waits until it accepts connections. When the caller
// is root, the server runs as the user postgres, else nobody. ctx bounds the
// start only; Stop ends the server. Its error is ErrNotFound where there are no
// PostgreSQL programs.
func Start(ctx context.Context, options Options) (*Server, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	owner, err := serverUser()
	if err != nil {
		return nil, err
	}
	s := &Server{programs: bin, user: owner, password: rand.Text(), options: options}
	return s, s.create(ctx, s.initialise)
}

// create makes the cluster's directory, has its files made, and starts the
// server on a free port. When it fails, nothing is left.
func (s *Server) create(ctx context.Context, makeFiles func(context.Context) error) (err error) {
	if s.dir, err = makeDirectory(s.user); err != nil {
		return err
	}
	if s.watchdog, err = startWatchdog(ctx, s.programs, s.dir, s.user); err != nil {
		return errors.Join(err, os.RemoveAll(s.dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if err := makeFiles(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for range startAttempts {
		// The port may be taken between the choice and the start.
		if s.port, err = FreePort(ctx); err != nil {
			return err
		}
		if err = s.start(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// makeDirectory makes the cluster's directory: with a short path, because a Unix
// socket's is limited to about 100 bytes, and where the server's user may enter,
// which root's own temporary directory may not allow.
func makeDirectory(owner *user) (string, error) {
	const longest = 60
	parent := os.TempDir()
	if owner != nil || len(parent) > longest {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("callbackd-pg-%d-", os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("make the cluster's directory: %w", err)
	}
	if err := owner.takes(dir); err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	return dir, nil
}

// initialise makes the cluster's files.
func (s *Server) initialise(ctx context.Context) error {
	passwordFile := filepath.Join(s.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the superuser's password: %w", err)
	}
	if err := s.user.takes(passwordFile); err != nil {
		return err
	}
	initdb := s.command(ctx, "initdb", "-D", s.data(), "-U", superuser, "--pwfile", passwordFile,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", locale(), "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, oneLine(out))
	}
	return os.Remove(passwordFile)
}

// start starts the server on s.port and waits until it is ready. The caller holds mu.
func (s *Server) start(ctx context.Context) error {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.port),
		"unix_socket_directories": s.dir,
		"logging_collector":       "off", // so that all messages reach our log file
	}
	if s.options.NoSync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, s.options.Settings)
	args := []string{"-D", s.data()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	log, err := os.Create(s.logFile())
	if err != nil {
		return fmt.Errorf("make the server's log file: %w", err)
	}
	defer log.Close() // the server holds its own copy

	// The server must outlive ctx; cancelling it there would leave no clean stop.
	s.process = s.command(context.WithoutCancel(ctx), "postgres", args...)
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		s.process = nil
		return fmt.Errorf("start postgres: %w", err)
	}
	process, exited := s.process, make(chan struct{})
	s.exited = exited
	go func() {
		_ = process.Wait() // the log says how it ended
		close(exited)
	}()
	if err := s.awaitReady(ctx); err != nil {
		out, _ := os.ReadFile(s.logFile())
		return errors.Join(fmt.Errorf("start postgres: %w: %s", err, oneLine(out)), s.end(syscall.SIGQUIT))
	}
	return nil
}

// awaitReady connects until the server answers, ends, or ctx does.
func (s *Server) awaitReady(ctx context.Context) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.DSN("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.exited:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-poll.C:
		}
	}
}

// DSN returns the URL of a database of this cluster, for the superuser
// "postgres", over TCP. It holds the random password. It stays valid after a Restart.
func (s *Server) DSN(database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.password), Host: s.Address(), Path: "/" + database, RawQuery: "sslmode=disable",
	}).String()
}

// Dir returns the cluster's directory, which is also that of its Unix socket.
func (s *Server) Dir() string { return s.dir }

// PID returns the process id of the server, 0 while it is not running.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return 0
	}
	return s.process.Process.Pid
}

// Kill ends the server at once and without a checkpoint, as a crash would:
// every connection breaks, and the next start recovers. The data stays.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(syscall.SIGQUIT)
}

// Restart starts a server that was killed, on the same port. A running one is
// shut down first.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("restart postgres: the cluster has been removed")
	}
	if err := s.end(syscall.SIGINT); err != nil {
		return err
	}
	return s.start(ctx)
}

// Stop shuts the server down and removes the cluster. Further calls do nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	return errors.Join(s.end(syscall.SIGINT), s.watchdog.finish(s.dir))
}

// end sends the signal to the server, unless it has ended, and waits until it has.
// If it does not end in time, it gets a harder signal. The caller holds mu.
func (s *Server) end(first syscall.Signal) error {
	for _, sig := range []syscall.Signal{first, syscall.SIGQUIT, syscall.SIGKILL} {
		if !s.running() {
			return nil
		}
		if err := s.process.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop postgres: %w", err)
		}
		select {
		case <-s.exited:
		case <-time.After(stopTimeout):
		}
	}
	if s.running() {
		return fmt.Errorf("stop postgres: process %d does not end", s.process.Process.Pid)
	}
	return nil
}

func (s *Server) running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

func (s *Server) data() string    { return filepath.Join(s.dir, "data") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// command prepares one of the PostgreSQL programs, to run as the server's user.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.programs, name), args...) //nolint:gosec // the programs that Find found
	s.user.runs(cmd)
	cmd.Dir = s.dir
	return cmd
}

// FreePort chooses a TCP port of 127.0.0.1 that nobody listens on. It lies below
// the range from which systems take the ports of outgoing connections, so that no
// client that dials before the server listens gets the server's port.
func FreePort(ctx context.Context) (int, error) {
	const first, count, tries = 15000, 15000, 100
	var err error
	for range tries {
		port := first + mathrand.IntN(count) // no secret
		var l net.Listener
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// oneLine joins the last lines of a program's output.
func oneLine(out []byte) string {
	const most = 5
	lines := strings.FieldsFunc(string(bytes.TrimSpace(out)), func(r rune) bool { return r == '\n' })
	return strings.Join(lines[max(0, len(lines)-most):], "; ")
}
