package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Statuses that the load's callbacks have.
const (
	processed = "PROCESSED"
	acquired  = "ACQUIRED"
)

// load is what wrk reports. The answers that were still open at the end are
// not counted, though their callbacks may have been stored.
type load struct {
	Requests int   `json:"requests"`
	Duration int64 `json:"duration"` // microseconds, like P50 and P99
	P50      int64 `json:"p50"`
	P99      int64 `json:"p99"`
	Errors   struct {
		Status  int `json:"status"` // answers of 400 and more
		Connect int `json:"connect"`
		Read    int `json:"read"`
		Write   int `json:"write"`
		Timeout int `json:"timeout"`
	} `json:"errors"`

	cpu time.Duration // that wrk used
}

// rate is answers a second.
func (l *load) rate() float64 { return float64(l.Requests) / (float64(l.Duration) / 1e6) }

// loadPrefix begins the line that callback.lua prints.
const loadPrefix = "result "

// parseLoad finds callback.lua's line in what wrk prints. Anything but a good
// answer to each request is an error.
func parseLoad(out []byte) (load, error) {
	var l load
	var found bool
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, loadPrefix); ok {
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				return l, fmt.Errorf("read wrk's result %q: %w", line, err)
			}
			found = true
		}
	}
	e := l.Errors
	switch {
	case !found:
		return l, fmt.Errorf("no result in wrk's output: %s", bytes.TrimSpace(out))
	case l.Requests <= 0 || l.Duration <= 0:
		return l, errors.New("wrk got no answer")
	case e.Status+e.Connect+e.Read+e.Write+e.Timeout > 0:
		return l, fmt.Errorf("%d answers, and errors: %+v", l.Requests, e)
	}
	return l, nil
}

// wrk posts callbacks of a status, each with a fresh id, as fast as they are
// answered.
func (b *bench) wrk(ctx context.Context, s *server, connections int, duration time.Duration, status string) (load, error) {
	const threads, timeout = 2, "10s"
	b.loads++
	cmd := exec.CommandContext(ctx, "wrk", //nolint:gosec // our own arguments
		"-t", strconv.Itoa(min(threads, connections)), "-c", strconv.Itoa(connections),
		"-d", strconv.Itoa(int(duration.Seconds()))+"s", "--timeout", timeout,
		"-s", b.script, s.url(), "--", strconv.Itoa(b.loads), status)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w: %s", err, bytes.TrimSpace(out))
	}
	l, err := parseLoad(out)
	if err != nil {
		return l, fmt.Errorf("%s at %d connections: %w", s.name, connections, err)
	}
	l.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return l, nil
}
