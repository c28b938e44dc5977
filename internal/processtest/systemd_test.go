package processtest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/store/storetest"
)

// manager is systemd's end of the protocol of sd_notify(3).
type manager struct {
	t      *testing.T
	socket *net.UnixConn
	path   string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	// A socket's path may have about 100 bytes, which t.TempDir may exceed.
	dir, err := os.MkdirTemp("", "callbackd-") //nolint:usetesting // the path is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return &manager{t, socket, path}
}

// supervised adds what systemd adds to the environment.
func (m *manager) supervised(environ []string) []string {
	return append(slices.Clone(environ), "NOTIFY_SOCKET="+m.path)
}

// hear returns the assignments of the next message.
func (m *manager) hear(within time.Duration) ([]string, error) {
	m.t.Helper()
	if err := m.socket.SetReadDeadline(time.Now().Add(within)); err != nil {
		m.t.Fatal(err)
	}
	message := make([]byte, 4096)
	n, err := m.socket.Read(message)
	return strings.Split(string(message[:n]), "\n"), err
}

// want demands that the next message is this one.
func (m *manager) want(assignments ...string) {
	m.t.Helper()
	got, err := m.hear(patience)
	if err != nil || !slices.Equal(got, assignments) {
		m.t.Fatalf("systemd hears %q, %v, want %q", got, err, assignments)
	}
}

// wantSilence demands that there is no further message of a process that has ended.
func (m *manager) wantSilence() {
	m.t.Helper()
	if got, err := m.hear(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Errorf("systemd hears %q, %v, want nothing more", got, err)
	}
}

// TestSystemdHears: systemd is told that an instance is ready when a callback sent
// at that moment would be stored, and that it stops when the stop begins.
func TestSystemdHears(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	jumio := startSandbox(t)
	for name, environ := range map[string][]string{
		"receiver":               receiving(dsn),
		"receiver and worker":    retrieving(dsn, jumio),
		"worker":                 append(retrieving(dsn, jumio), "CALLBACKD_RECEIVE=false"),
		"spool without Postgres": spooling("postgres://nobody@127.0.0.1:1/nowhere", t.TempDir()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			systemd := newManager(t)
			s := launch(t, systemd.supervised(append(environ, "CALLBACKD_CALLBACK_PATH=/jumio/unguessable")))
			message, err := systemd.hear(patience)
			if err != nil {
				t.Fatal(err)
			}
			s.awaitStart() // learns the addresses: this has been logged already
			var duties []string
			if s.callback != "" {
				duties = append(duties, "receiving on "+strings.TrimPrefix(s.callback, "http://"))
				s.post(t, jumioAddress, "application/json", processed("at-once")).wantCode(t, http.StatusOK)
			}
			if strings.Contains(name, "worker") {
				duties = append(duties, "retrieving with 8 workers")
			}
			if want := []string{"READY=1", "STATUS=" + strings.Join(duties, ", ")}; !slices.Equal(message, want) {
				t.Errorf("systemd hears %q, want %q", message, want)
			}
			awaitReady(t, s.admin)

			s.signal(terminate)
			systemd.want("STOPPING=1", "STATUS=stopping, within 10s",
				fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (shutdownTimeout+10*time.Second).Microseconds()))
			if code := s.wait(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			systemd.wantSilence()
		})
	}
}

// TestSystemdHearsNothing: an instance that fails to start never reports that it is
// ready, and a missing socket does not stop one from serving.
func TestSystemdHearsNothing(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"wrong setting":    append(receiving("postgres://nobody@127.0.0.1:1/nowhere"), "CALLBACKD_RECEIVE=perhaps"),
		"without Postgres": receiving("postgres://nobody@127.0.0.1:1/nowhere"),
		"old schema":       receiving(storetest.NewDatabase(t)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			systemd := newManager(t)
			fails(t, systemd.supervised(environ), "serve")
			systemd.wantSilence()
		})
	}
	t.Run("no socket", func(t *testing.T) {
		t.Parallel()
		s := serve(t, append(receiving(migrated(t)), "NOTIFY_SOCKET=/nowhere/notify"))
		if err := wantReady(s, http.StatusOK); err != nil {
			t.Error(err)
		}
	})
}
