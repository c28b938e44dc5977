package processtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// dialFrom opens a connection to the callback listener from an address of this
// machine, closed with the test.
func dialFrom(t *testing.T, s *instance, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.callback, "http://"))
	if err != nil {
		t.Fatalf("connect from %s: %v", from, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// holdIdle opens connections, makes one request on each and leaves them open.
// Fewer than wanted where this process may not have as many open files.
func holdIdle(t *testing.T, s *instance) {
	t.Helper()
	const others = 1000 // files beside them
	wanted := idleConnections
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < uint64(wanted+others) {
		wanted = max(0, int(limit.Cur)-others)
		t.Logf("ONLY %d OF %d IDLE CONNECTIONS ARE TRIED: this process may have %d open files (ulimit -n)", wanted, idleConnections, limit.Cur)
	}
	for range wanted {
		conn := dialFrom(t, s, attacker)
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if code, err := readStatus(conn, bufio.NewReaderSize(conn, 512)); code != http.StatusOK {
			t.Fatalf("an idle connection's first request: %d, %v", code, err)
		}
	}
}

func readStatus(conn net.Conn, in *bufio.Reader) (int, error) {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, errors.Join(err, response.Body.Close())
}

// senders are clients at work.
type senders struct {
	group  sync.WaitGroup
	failed atomic.Pointer[error]
	done   chan struct{}
}

func startSenders(work ...func() error) *senders {
	all := &senders{done: make(chan struct{})}
	for _, one := range work {
		all.group.Go(func() {
			if err := one(); err != nil {
				all.failed.CompareAndSwap(nil, &err)
			}
		})
	}
	go func() {
		all.group.Wait()
		close(all.done)
	}()
	return all
}

func (all *senders) ended() bool {
	select {
	case <-all.done:
		return true
	default:
		return false
	}
}

func (all *senders) wait(t *testing.T) {
	t.Helper()
	<-all.done
	if err := all.failed.Load(); err != nil {
		t.Error(*err)
	}
}

// startFlood begins to send requests to be rejected, spread evenly over time.
func startFlood(t *testing.T, s *instance) *senders {
	t.Helper()
	body := processed("forged")
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: %s\r\nContent-Length: %d\r\n\r\n%s", s.path, jumioAddress, len(body), body)
	pace := time.Minute * floodSenders / floodPerMinute
	var work []func() error
	for range floodSenders {
		conn := dialFrom(t, s, attacker)
		work = append(work, func() error {
			ticks := time.NewTicker(pace)
			defer ticks.Stop()
			in := bufio.NewReader(conn)
			for range floodRequests / floodSenders {
				<-ticks.C
				if _, err := io.WriteString(conn, request); err != nil {
					return fmt.Errorf("send a request to be rejected: %w", err)
				}
				code, err := readStatus(conn, in)
				if err != nil {
					return fmt.Errorf("the answer to a forged callback: %w", err)
				}
				if code != http.StatusForbidden {
					return fmt.Errorf("a forged callback is answered %d", code)
				}
			}
			return nil
		})
	}
	return startSenders(work...)
}

// startSlow begins to send requests byte by byte, or without end, and ends when
// the server has cut all of them off.
func startSlow(t *testing.T, s *instance) *senders {
	t.Helper()
	post := "POST " + s.path + " HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + jumioAddress + "\r\n"
	const drop, chunk = 500 * time.Millisecond, 16 << 10
	var work []func() error
	for _, kind := range []struct {
		name, from, first, next string
		pause                   time.Duration
	}{
		{"nothing at all", attacker, "", "", drop},
		{"slow headers", attacker, "POST ", "x", drop},
		{"slow headers of an allowed address", "127.0.0.1", post, "X", drop},
		{"slow body", attacker, post + "Content-Length: 1000\r\n\r\n", "x", drop},
		{"slow body of an allowed address", "127.0.0.1", post + "Content-Length: 1000\r\n\r\n", "x", drop},
		{"endless headers", attacker, post, "X-Odd: " + strings.Repeat("x", chunk) + "\r\n", 0},
		{"endless body", attacker, post + "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", chunk, strings.Repeat("x", chunk)), 0},
		{"endless body of an allowed address", "127.0.0.1", post + "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", chunk, strings.Repeat("x", chunk)), 0},
	} {
		count := slowConnections
		if kind.from != attacker && kind.pause == 0 {
			count = 1 // each may make callbackd read CALLBACKD_MAX_BODY_BYTES
		}
		for range count {
			conn := dialFrom(t, s, kind.from)
			work = append(work, func() error {
				if err := sendUntilClosed(conn, kind.first, kind.next, kind.pause); err != nil {
					return fmt.Errorf("%s: %w", kind.name, err)
				}
				return nil
			})
		}
	}
	return startSenders(work...)
}

// sendUntilClosed sends first, then next again and again, until the server has
// closed the connection.
func sendUntilClosed(conn net.Conn, first, next string, pause time.Duration) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	ctx, closed := context.WithCancel(context.Background())
	var answer []byte
	var readErr error
	go func() {
		defer closed()
		answer, readErr = io.ReadAll(conn)
	}()
	_, err := io.WriteString(conn, first)
	for ; err == nil && ctx.Err() == nil; _, err = io.WriteString(conn, next) {
		if pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
	<-ctx.Done()
	if errors.Is(readErr, os.ErrDeadlineExceeded) {
		return fmt.Errorf("not cut off within %s", patience)
	}
	if strings.Contains(string(answer), " 200 ") {
		return fmt.Errorf("answered %q", answer)
	}
	return nil
}
