package processtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// The two signals that end an instance.
const (
	terminate = syscall.SIGTERM
	interrupt = syscall.SIGINT
)

// TestGracefulStop: after the signal /readyz is 503 and callbacks still get 200;
// requests that have begun still get their 200 later, all of them are in the
// database, and the exit code is 0.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]os.Signal{"SIGTERM": terminate, "SIGINT": interrupt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := migrated(t)
			s := serve(t, receiving(dsn))
			if err := wantReady(s, http.StatusOK); err != nil {
				t.Fatal(err)
			}
			load := startLoad(s)
			eventually(t, patience, func() error { return load.wantMore(0) })

			begun := beginCallback(t, s, "begun")
			s.signal(signal)
			eventually(t, patience, func() error { return wantReady(s, http.StatusServiceUnavailable) })
			unready := load.answered.Load()
			eventually(t, patience, func() error { return load.wantMore(unready) })
			eventually(t, patience, func() error { return wantClosed(s.callback) })

			begun.finish(t)
			if code := s.wait(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			db := open(t, dsn)
			db.wantCallbacks(append(load.stop(t), "begun"))
		})
	}
}

// TestGracefulStopCostsNoAttempt: a retrieval that the stop interrupts begins
// again with its first attempt.
func TestGracefulStopCostsNoAttempt(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	jumio := startSandbox(t, "--fast-images")
	environ := retrieving(dsn, jumio)
	s := serve(t, environ)
	id := jumio.sendOne(journeys{Kind: "passed-passport", Faults: []string{"details:hang:1"}, CallbackURL: s.callbackURL()})
	awaitDetailsRequest(t, jumio, id)
	s.stop(terminate)
	if w := db.awaitState(id, "pending"); w.Attempts != 0 {
		t.Errorf("%d attempts are counted after the stop, want 0", w.Attempts)
	}
	serve(t, environ)
	if w := db.awaitState(id, "retrieved"); w.Attempts != 1 {
		t.Errorf("retrieved with attempt %d, want 1", w.Attempts)
	}
}

// wantClosed: nothing accepts connections at the base URL any more.
func wantClosed(base string) error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err == nil {
		_ = conn.Close()
		return errors.New("connections are still accepted")
	}
	return nil
}

// begunCallback is a request whose body has not come to its end.
type begunCallback struct {
	body   *io.PipeWriter
	rest   string
	answer chan error
}

// beginCallback sends the headers and the first half of a callback's body.
func beginCallback(t *testing.T, s *instance, id string) *begunCallback {
	t.Helper()
	reader, writer := io.Pipe()
	r, err := http.NewRequest(http.MethodPost, s.callbackURL(), reader)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Forwarded-For", jumioAddress)
	begun := &begunCallback{body: writer, answer: make(chan error, 1)}
	go func() {
		a, err := do(client, r)
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("answered %d", a.code)
		}
		begun.answer <- err
	}()
	body := processed(id)
	begun.rest = body[len(body)/2:]
	// The pipe returns when the transport has taken the bytes, on a connection.
	if _, err := io.WriteString(writer, body[:len(body)/2]); err != nil {
		t.Fatal(err)
	}
	return begun
}

// finish sends the rest and demands a 200.
func (b *begunCallback) finish(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(b.body, b.rest); err != nil {
		t.Errorf("finish a callback that had begun before the signal: %v", err)
	}
	_ = b.body.Close()
	if err := <-b.answer; err != nil {
		t.Errorf("a callback that had begun before the signal: %v", err)
	}
}
