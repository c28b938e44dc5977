package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// warmUp opens the connections and fills the caches before each run.
const warmUp = time.Second

// measurement is the result of a run, or the medians of several. CPU figures are
// cores; a figure that this system does not give is 0.
type measurement struct {
	Rate        float64 `json:"rate_per_s"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	CPUServer   float64 `json:"cpu_server"`
	CPUPostgres float64 `json:"cpu_postgres"`
	CPUWrk      float64 `json:"cpu_wrk"`
	Fsyncs      float64 `json:"fsyncs_per_s"`
	Memory      float64 `json:"memory_mib"`
	Answered    int     `json:"answered"`
}

// measure runs one server on one database under load, and checks that it has
// stored what it has answered with 200.
func (b *bench) measure(ctx context.Context, c contestant, dsn string, connections int) (m measurement, err error) {
	began, err := b.fsyncs(ctx)
	if err != nil {
		return m, err
	}
	s, err := c.start(b, ctx, dsn)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	since := time.Now()
	warm, err := b.wrk(ctx, s, connections, warmUp, processed)
	if err != nil {
		return m, err
	}
	server, postgres := cpuTime(s.cmd.Process.Pid), cpuTime(b.postgres.PID())
	l, err := b.wrk(ctx, s, connections, b.duration, processed)
	if err != nil {
		return m, err
	}
	server, postgres = cpuTime(s.cmd.Process.Pid)-server, cpuTime(b.postgres.PID())-postgres

	wall := time.Duration(l.Duration) * time.Microsecond
	m = measurement{
		Rate: l.rate(), P50: float64(l.P50) / 1e3, P99: float64(l.P99) / 1e3,
		CPUServer: cores(server, wall), CPUPostgres: cores(postgres, wall), CPUWrk: cores(l.cpu, wall),
		Memory: peakMemory(s.cmd.Process.Pid), Answered: warm.Requests + l.Requests,
	}
	if err := errors.Join(s.stop(), b.awaitSessionsEnd(ctx)); err != nil {
		return m, err
	}
	ended, err := b.fsyncs(ctx)
	if err != nil {
		return m, err
	}
	// Counted over the warm-up too, which cannot be told apart.
	m.Fsyncs = float64(ended-began) / float64(m.Answered) * m.Rate
	if c.table == "" {
		return m, nil
	}
	stored, err := countStored(ctx, dsn, c, since)
	if err != nil {
		return m, err
	}
	// At the end of a load, one request for each connection may be in flight.
	return m, checkStored(c.name, m.Answered, stored, 2*connections)
}

func cores(used, wall time.Duration) float64 { return used.Seconds() / wall.Seconds() }

// countStored counts the different callbacks that have arrived since then; in
// this load each is of another workflow execution. A contestant with jobs must
// have as many of them.
func countStored(ctx context.Context, dsn string, c contestant, since time.Time) (int, error) {
	var stored, jobs int
	err := scan(ctx, dsn, "SELECT count(DISTINCT workflow_execution_id) FROM "+c.table+" WHERE received_at >= $1",
		[]any{since}, &stored)
	if err == nil && c.jobs != "" {
		err = scan(ctx, dsn, "SELECT count(*) FROM "+c.jobs, nil, &jobs)
		if err == nil && jobs != stored {
			err = fmt.Errorf("%d callbacks and %d jobs", stored, jobs)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("count what %s has stored: %w", c.name, err)
	}
	return stored, nil
}

// checkStored: every answer of 200 has its row. What was in flight when the load
// ended may have one too.
func checkStored(name string, answered, stored, inFlight int) error {
	if stored < answered || stored > answered+inFlight {
		return fmt.Errorf("%s answered %d callbacks with 200 and stored %d", name, answered, stored)
	}
	return nil
}

// median of at least one value; the mean of the middle two of an even number.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// figures are all but the count.
func (m *measurement) figures() []*float64 {
	return []*float64{&m.Rate, &m.P50, &m.P99, &m.CPUServer, &m.CPUPostgres, &m.CPUWrk, &m.Fsyncs, &m.Memory}
}

// medians takes the median of each figure by itself; the count is a sum.
func medians(runs []measurement) (m measurement) {
	for i, figure := range m.figures() {
		values := make([]float64, len(runs))
		for n := range runs {
			values[n] = *runs[n].figures()[i]
		}
		*figure = median(values)
	}
	for i := range runs {
		m.Answered += runs[i].Answered
	}
	return m
}

// What processes used, from Linux's /proc. Elsewhere everything is 0, which the
// report leaves out.

// ticksPerSecond is the unit of times in /proc/PID/stat. Linux shows it as 100
// on all processors that matter, whatever its own clock.
const ticksPerSecond = 100

// cpuTime is the processor time that a process and its children have used so
// far, including children that have ended.
func cpuTime(pid int) time.Duration {
	var ticks int
	processes, _ := procfs.AllProcs()
	for _, p := range processes {
		stat, err := p.Stat() // fails if it has ended
		if err == nil && (stat.PID == pid || stat.PPID == pid) {
			ticks += int(stat.UTime+stat.STime) + stat.CUTime + stat.CSTime
		}
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// peakMemory is the most memory that a process has had resident, in MiB.
func peakMemory(pid int) float64 {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0
	}
	status, _ := p.NewStatus()
	return float64(status.VmHWM) / (1 << 20)
}

// Statuses that the load's callbacks have.
const (
	processed = "PROCESSED"
	acquired  = "ACQUIRED"
)

// load is what wrk reports. Requests still in flight at the end are not counted,
// though their callbacks may have been stored.
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

// wrk posts callbacks with the status, each with a fresh id, as fast as they are
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
