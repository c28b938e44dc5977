package processtest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long a quick operation may take on a busy machine, even one that
	// stands still for a minute.
	patience = 3 * time.Minute
	// pollInterval is how often a condition is looked at.
	pollInterval = 20 * time.Millisecond
	// shownLines is how much of a process's output a failed test shows.
	shownLines = 20
)

// eventually waits until condition returns nil, and fails the test with the
// last error when it does not within the time.
func eventually(t testing.TB, within time.Duration, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", within, err)
		}
		<-poll.C
	}
}

// output is what a process has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// lines are the whole lines written so far.
func (o *output) lines() []string {
	text := o.String()
	end := strings.LastIndexByte(text, '\n')
	if end < 0 {
		return nil
	}
	return strings.Split(text[:end], "\n")
}

// process is a running program.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr output
	exited         chan struct{} // closed when it has ended and been reaped
}

// start runs a program with nothing of the test's environment but the PATH. A
// process that still runs at the end of the test is stopped with SIGTERM and
// must then exit with 0.
func start(t testing.TB, environ []string, files []*os.File, path string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(path, args...), exited: make(chan struct{})}
	// The race detector's own wait at the exit is a second.
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=20"}, environ...)
	p.cmd.Dir = t.TempDir()
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code is in ProcessState
		close(p.exited)
	}()
	t.Cleanup(p.end)
	return p
}

// end stops the process if the test has not done so, and shows the end of its
// log when the test has failed.
func (p *process) end() {
	if p.running() {
		p.stop(syscall.SIGTERM)
	}
	if p.t.Failed() {
		p.t.Logf("%s: exit code %d, the end of stderr but for the usual:\n%s", strings.Join(p.cmd.Args[1:], " "), p.cmd.ProcessState.ExitCode(), tail(unusual(p.stderr.String())))
	}
}

// unusual leaves out the lines of a log that tell of nothing wrong. The sandbox's is for
// people to read, the others' is JSON.
func unusual(log string) string {
	usual := []string{`{"level":"info"`, `{"level":"debug"`, "\tINFO\t", "\tDEBUG\t"}
	lines := slices.DeleteFunc(strings.Split(log, "\n"), func(line string) bool {
		return slices.ContainsFunc(usual, func(level string) bool { return strings.Contains(line, level) })
	})
	return strings.Join(lines, "\n")
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-shownLines):], "\n")
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %v: %v", sig, err)
	}
}

// stop sends the signal and demands that the process exits with 0.
func (p *process) stop(sig os.Signal) {
	p.t.Helper()
	p.signal(sig)
	if code := p.wait(); code != 0 {
		p.t.Errorf("exit code %d after %v, want 0", code, sig)
	}
}

// kill ends the process as a crash would.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait()
}

// wait returns the exit code, -1 after a signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Errorf("the process does not end within %s", patience)
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	return p.cmd.ProcessState.ExitCode()
}

// result is a command's exit code and output.
type result struct {
	Code           int
	Stdout, Stderr string
}

// startCallbackd is start for a command of callbackd.
func startCallbackd(t testing.TB, environ []string, args ...string) *process {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, environ, nil, path, args...)
}

// callbackd runs a command of callbackd to its end.
func callbackd(t testing.TB, environ []string, args ...string) result {
	t.Helper()
	p := startCallbackd(t, environ, args...)
	code := p.wait()
	return result{code, p.stdout.String(), p.stderr.String()}
}

// succeed runs a command that must succeed and write nothing to stderr. It returns
// stdout.
func succeed(t testing.TB, environ []string, args ...string) string {
	t.Helper()
	r := callbackd(t, environ, args...)
	if r.Code != 0 || r.Stderr != "" {
		t.Fatalf("callbackd %s: exit code %d, stderr %q", strings.Join(args, " "), r.Code, r.Stderr)
	}
	return r.Stdout
}

// fails runs a command that must fail with exit code 1 and one line on stderr,
// which it returns.
func fails(t testing.TB, environ []string, args ...string) string {
	t.Helper()
	r := callbackd(t, environ, args...)
	if r.Code != 1 || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 {
		t.Fatalf("callbackd %s: got %+v, want exit code 1 and one line on stderr", strings.Join(args, " "), r)
	}
	return r.Stderr
}
