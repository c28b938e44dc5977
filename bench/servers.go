package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"callbackd/internal/pgserver"
)

const (
	// startTimeout is how long a server may take until it is ready.
	startTimeout = 20 * time.Second
	// stopTimeout is how long it may take to end after SIGTERM.
	stopTimeout = 15 * time.Second
	readyPath   = "/readyz"

	callbackPath = "/jumio/callback"
)

// server is a running server process.
type server struct {
	name    string
	address string        // host:port that it serves on
	startup time.Duration // from the start of the process until it was ready
	cmd     *exec.Cmd
	exited  chan struct{} // closed when it has ended and been reaped
}

// url is that of the callbacks.
func (s *server) url() string { return "http://" + s.address + callbackPath }

// startServer starts a program that serves on the address which it is given, and
// waits until it answers 200 at the path. It gets nothing of our environment.
func (b *bench) startServer(ctx context.Context, name, readyPath string, command func(address string) *exec.Cmd) (*server, error) {
	port, err := pgserver.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s := &server{name: name, address: address, cmd: command(address), exited: make(chan struct{})}
	if s.cmd.Env == nil {
		s.cmd.Env = []string{}
	}
	s.cmd.Stderr = b.log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = stopTimeout
	started := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in ProcessState
		close(s.exited)
	}()
	if err := s.awaitReady(ctx, readyPath); err != nil {
		_ = s.stop() // the first error says more
		return nil, err
	}
	s.startup = time.Since(started)
	return s, nil
}

func (s *server) awaitReady(ctx context.Context, path string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: startTimeout}
	return poll(ctx, startTimeout, time.Millisecond, s.name+" to become ready (-server-log FILE may show why)", func() (bool, error) {
		select {
		case <-s.exited:
			return false, fmt.Errorf("%s ended instead of serving (-server-log FILE shows why): %s", s.name, s.cmd.ProcessState)
		default:
		}
		_, err := request(ctx, client, http.MethodGet, "http://"+s.address+path, nil, http.StatusOK)
		return err == nil, nil
	})
}

// request returns the body of the answer, whose status must be as wanted.
func request(ctx context.Context, client *http.Client, method, url string, body []byte, want int) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() // nothing was written
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != want {
		err = fmt.Errorf("%s answered %s", url, response.Status)
	}
	return answer, err
}

// stop ends the server as an operator would, and demands that it ends well.
// After the first call it does nothing.
func (s *server) stop() error {
	select {
	case <-s.exited:
		return nil
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	kill := time.AfterFunc(stopTimeout, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	<-s.exited
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("stop %s: %s", s.name, s.cmd.ProcessState)
	}
	return nil
}

// contestant is a server that takes callbacks.
type contestant struct {
	name string
	// table is where it stores them; empty for nowhere.
	table string
	// jobs is a table where it also has to put a row for each; may be empty.
	jobs string
	// start starts it on a database.
	start func(b *bench, ctx context.Context, dsn string) (*server, error)
}

// contestants are callbackd, which is measured, and the baselines.
func contestants() []contestant {
	return []contestant{
		{name: "noop", start: baselineServer("noop")},
		{name: "naive", table: "bench.callbacks", start: baselineServer("naive")},
		{name: "jobtx", table: "bench.callbacks", jobs: "bench.river_job", start: baselineServer("jobtx")},
		receiver(),
	}
}

// receiver is callbackd as a receive-only instance.
func receiver() contestant {
	return contestant{
		name: "callbackd", table: "callbackd.callbacks",
		start: func(b *bench, ctx context.Context, dsn string) (*server, error) {
			return b.startCallbackd(ctx, dsn, "CALLBACKD_WORKERS=0")
		},
	}
}

// startCallbackd starts `callbackd serve` with its defaults (log level info
// included), except for what a private run on loopback needs.
func (b *bench) startCallbackd(ctx context.Context, dsn string, env ...string) (*server, error) {
	return b.startServer(ctx, "callbackd", readyPath, func(address string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, b.callbackd, "serve") //nolint:gosec // built before
		cmd.Env = append([]string{
			"DATABASE_URL=" + dsn,
			"CALLBACKD_LISTEN=" + address,
			"CALLBACKD_ADMIN_LISTEN=127.0.0.1:0",
			"CALLBACKD_CALLBACK_PATH=" + callbackPath,
			"CALLBACKD_ALLOWED_CIDRS=127.0.0.0/8",
			"CALLBACKD_JUMIO_HOSTS=none", // no DNS
			"CALLBACKD_SHUTDOWN_TIMEOUT=10s",
		}, env...)
		return cmd
	})
}

// workerSettings let callbackd retrieve from the sandbox at that URL, as fast as
// it can.
func workerSettings(sandboxURL string) []string {
	return []string{
		"CALLBACKD_WORKERS=8",
		"CALLBACKD_RETRIEVAL_RPS=1000000",
		"JUMIO_CLIENT_ID=sandbox",
		"JUMIO_CLIENT_SECRET=sandbox",
		"JUMIO_USER_AGENT=callbackd bench/v1.0",
		"JUMIO_TOKEN_URL=" + sandboxURL,
		"JUMIO_RETRIEVAL_URL=" + sandboxURL,
		"JUMIO_STATUS_URL=" + sandboxURL,
	}
}

// baselineServer starts one of the servers in baseline.go, a process of its own.
func baselineServer(name string) func(*bench, context.Context, string) (*server, error) {
	return func(b *bench, ctx context.Context, dsn string) (*server, error) {
		return b.startServer(ctx, name, readyPath, func(address string) *exec.Cmd {
			cmd := exec.CommandContext(ctx, b.self, "baseline", name, address) //nolint:gosec // ourselves
			cmd.Env = []string{"DATABASE_URL=" + dsn}
			return cmd
		})
	}
}
