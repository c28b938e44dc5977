package processtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
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

	// Jumio's callbacks may be answered this much later than without the attack. The
	// median counts: the machine may be busy.
	mostDelay = 100 * time.Millisecond
	// mostMemoryAttacked is for the whole process.
	mostMemoryAttacked = 200 << 20
	// mostLines is how many lines a second the log may have about strangers' requests.
	mostLines = 20
)

// TestHostileClients: under 5,000 idle connections, clients that send their
// headers or bodies slowly or without end, and 100,000 rejected requests a minute,
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

	t.Logf("median of a callback's answer: %v quiet, %v under attack; %d requests rejected in %v", quiet, busy, floodRequests, took)
	if busy-quiet > mostDelay {
		t.Errorf("a callback is answered in %v (median), %v without the attack", busy, quiet)
	}
	checkMemory(t, s, mostMemoryAttacked)
	slow.wait(t)
	checkTraces(t, s, db, time.Since(began))
}

// median posts callbacks as Jumio until enough says so, and returns the median
// answer time. All answers must be 200.
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

// checkMemory: the process has never needed more than most bytes.
func checkMemory(t *testing.T, s *instance, most int) {
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
			if kib<<10 > most {
				t.Errorf("the process needed %d MiB, want at most %d", kib>>10, most>>20)
			}
			return
		}
	}
	t.Errorf("%s has no VmHWM", file)
}

// checkTraces looks at what the attack has left behind.
func checkTraces(t *testing.T, s *instance, db *database, took time.Duration) {
	t.Helper()
	// The minimum is what one address gets.
	if n := db.count(`SELECT count(*) FROM jumio.rejected_callbacks`); n < rejectedPerHour/4 || n > rejectedPerHour {
		t.Errorf("%d rejected callbacks are kept, want between %d and %d", n, rejectedPerHour/4, rejectedPerHour)
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
		case entry.Msg == "request rejected":
			lines++
		}
	}
	if most := mostLines * int(took.Seconds()+10); lines > most {
		t.Errorf("%d lines about rejected requests in %v, want at most %d", lines, took, most)
	}
	if accounted < floodRequests/2 || accounted > int(forbidden) {
		t.Errorf("the log reports %d rejected requests, %v were counted", accounted, forbidden)
	}
	t.Logf("%v rejected requests, %d lines about them", forbidden, lines)
}
