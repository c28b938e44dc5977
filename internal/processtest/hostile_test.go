package processtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// attacker is an address of this machine that is neither allowed nor trusted.
	attacker = "127.0.0.2"

	idleConnections = 5000
	slowConnections = 100 // of each kind
	floodRequests   = 20_000
	floodPerMinute  = 100_000
	floodSenders    = 32
	rejectedPerHour = 100

	// A callback of Jumio's must be answered so much later, at most, than
	// without the attack. The median counts: the machine may be busy.
	mostDelay = 100 * time.Millisecond
	// mostMemory is for the whole process.
	mostMemory = 200 << 20
	// mostLines of the log are written in a second about requests of strangers.
	mostLines = 20
)

// TestHostileClients: under 5,000 idle connections, clients that send their
// headers or bodies slowly or without end, and 100,000 refused requests a minute,
// Jumio's callbacks are answered in time, memory and the rejected callbacks stay
// within their limits, the log stays readable, and the slow ones are cut off.
func TestHostileClients(t *testing.T) {
	path, err := plainProgram()
	if err != nil {
		t.Fatal(err)
	}
	dsn := migrated(t)
	db := open(t, dsn)
	environ := append(receiving(dsn), "CALLBACKD_REJECTED_PER_HOUR="+strconv.Itoa(rejectedPerHour))
	s := &instance{process: start(t, environ, nil, path, "serve"), path: callbackPath}
	s.awaitStart()
	quiet := median(t, s, "quiet", func(n int) bool { return n == 50 })

	began := time.Now()
	holdIdle(t, s)
	slow := startSlow(t, s)
	flood := startFlood(t, s)
	busy := median(t, s, "busy", func(int) bool { return flood.ended() })
	took := time.Since(began)
	flood.wait(t)

	t.Logf("median of a callback's answer: %v quiet, %v under attack; %d requests refused in %v", quiet, busy, floodRequests, took)
	if busy-quiet > mostDelay {
		t.Errorf("a callback is answered in %v (median), %v without the attack", busy, quiet)
	}
	checkMemory(t, s)
	slow.wait(t)
	checkTraces(t, s, db, time.Since(began))
}

// median posts callbacks as Jumio until it is enough, and returns the median of
// the times to their answers, which all must be 200.
func median(t *testing.T, s *instance, name string, enough func(n int) bool) time.Duration {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer c.CloseIdleConnections()
	const interval = 20 * time.Millisecond
	pause := time.NewTicker(interval)
	defer pause.Stop()
	var times []time.Duration
	for !enough(len(times)) {
		<-pause.C
		r, err := http.NewRequest(http.MethodPost, s.callbackURL(), strings.NewReader(callbackBody(fmt.Sprintf("%s-%d", name, len(times)), "ACQUIRED")))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", jumioAddress)
		begin := time.Now()
		a, err := do(c, r)
		if err != nil {
			t.Fatalf("post a callback: %v", err)
		}
		times = append(times, time.Since(begin))
		a.wantCode(t, http.StatusOK)
	}
	slices.Sort(times)
	return times[len(times)/2]
}

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

// startFlood begins to send refused requests, spread evenly over time.
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
					return fmt.Errorf("send a refused request: %w", err)
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

// checkMemory: the process has never needed more than its limit.
func checkMemory(t *testing.T, s *instance) {
	t.Helper()
	file := fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid)
	status, err := os.ReadFile(file)
	if err != nil {
		t.Logf("THE MEMORY IS NOT CHECKED: this system has no %s", file)
		return
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(text), " kB"))
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			t.Logf("at most %d MiB of memory", kib>>10)
			if kib<<10 > mostMemory {
				t.Errorf("the process needed %d MiB, want at most %d", kib>>10, mostMemory>>20)
			}
			return
		}
	}
	t.Errorf("%s has no VmHWM", file)
}

// checkTraces looks at what the attack has left behind.
func checkTraces(t *testing.T, s *instance, db *database, took time.Duration) {
	t.Helper()
	perHour := rejectedPerHour
	if hours := db.count(`SELECT count(DISTINCT date_trunc('hour', received_at))::int FROM jumio.rejected_callbacks`); hours > 1 {
		perHour *= hours
	}
	if n := db.count(`SELECT count(*) FROM jumio.rejected_callbacks`); n != perHour {
		t.Errorf("%d rejected callbacks are kept, want %d", n, perHour)
	}
	if n := db.count(`SELECT count(*) FROM jumio.callbacks WHERE workflow_execution_id NOT LIKE 'quiet-%' AND workflow_execution_id NOT LIKE 'busy-%'`); n != 0 {
		t.Errorf("%d callbacks of strangers are stored", n)
	}
	forbidden := s.metrics(t)[`callbackd_callbacks_total{outcome="forbidden"}`]
	if forbidden < floodRequests {
		t.Errorf("%v requests are counted as forbidden, want at least %d", forbidden, floodRequests)
	}
	lines, accounted := 0, 0
	for _, line := range s.stderr.lines() {
		var entry struct {
			Msg, Outcome string
			Suppressed   int
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("the log line %q is no JSON: %v", line, err)
		}
		switch {
		case entry.Msg == "callback" && entry.Outcome == "forbidden":
			lines++
			accounted += 1 + entry.Suppressed
		case entry.Msg == "request refused":
			lines++
		}
	}
	if most := mostLines * int(took.Seconds()+10); lines > most {
		t.Errorf("%d lines about refused requests in %v, want at most %d", lines, took, most)
	}
	if accounted < floodRequests/2 || accounted > int(forbidden) {
		t.Errorf("the log speaks of %d refused requests, %v were counted", accounted, forbidden)
	}
	t.Logf("%v refused requests, %d lines about them", forbidden, lines)
}
