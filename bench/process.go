package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

const (
	// startTimeout is how long a server may take until it is ready.
	startTimeout = 20 * time.Second
	// stopTimeout is how long it may take to end after SIGTERM.
	stopTimeout = 15 * time.Second
	readyPath   = "/readyz"
)

// server is a running server process.
type server struct {
	name    string
	address string // host:port that it serves on
	started time.Time
	cmd     *exec.Cmd
	exited  chan struct{} // closed when it has ended and been reaped
}

// url is that of the callbacks.
func (s *server) url() string { return "http://" + s.address + callbackPath }

// startServer starts a server, which gets nothing of our environment.
func (b *bench) startServer(ctx context.Context, name, address string, env []string, program string, args ...string) (*server, error) {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // callbackd or ourselves
	cmd.Env = env
	cmd.Stderr = b.log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	s := &server{name: name, address: address, started: time.Now(), cmd: cmd, exited: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(s.exited)
	}()
	return s, nil
}

// awaitReady asks until the answer is 200, every so often.
func (s *server) awaitReady(ctx context.Context, path string, every time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	poll := time.NewTicker(every)
	defer poll.Stop()
	for {
		if status, _ := get(ctx, client, "http://"+s.address+path); status == http.StatusOK {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s ended instead of serving (-server-log FILE shows why): %s", s.name, s.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("%s does not become ready (-server-log FILE may show why): %w", s.name, ctx.Err())
		case <-poll.C:
		}
	}
}

// get returns the status of the answer, and drops its body.
func get(ctx context.Context, client *http.Client, url string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close() // nothing was written
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
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

// freeAddress is a loopback address that nobody listens on. Its port lies below
// those that systems give to outgoing connections, of which a benchmark makes
// many, so that it stays free until the server takes it.
func freeAddress(ctx context.Context) (string, error) {
	const attempts, lowest, highest = 100, 20_000, 32_000
	var lastErr error
	for range attempts {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(highest-lowest)))
		socket, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return address, socket.Close()
		}
		lastErr = err
	}
	return "", fmt.Errorf("find a free port: %w", lastErr)
}
