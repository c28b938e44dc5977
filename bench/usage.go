package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// What processes used, from Linux's /proc. Elsewhere everything is 0, which the
// report leaves out.

// ticksPerSecond is the unit of times in /proc/PID/stat. Linux shows it as 100
// on all processors that matter, whatever its own clock.
const ticksPerSecond = 100

// processTimes are the figures of /proc/PID/stat that count here.
type processTimes struct {
	parent int
	// used is the processor time of the process and of the children that it
	// has reaped.
	used time.Duration
}

// parseStat reads the content of /proc/PID/stat (proc(5)).
func parseStat(content []byte) (processTimes, error) {
	// The second field, in parentheses, is a name that may hold anything.
	end := bytes.LastIndexByte(content, ')')
	fields := strings.Fields(string(content[end+1:]))
	const parent, utime, cstime = 4 - 3, 14 - 3, 17 - 3 // numbers from 1, less the fields up to the name
	if end < 0 || len(fields) <= cstime {
		return processTimes{}, fmt.Errorf("not the content of a stat file: %q", content)
	}
	var t processTimes
	var err error
	if t.parent, err = strconv.Atoi(fields[parent]); err != nil {
		return t, fmt.Errorf("read a stat file's parent: %w", err)
	}
	for _, field := range fields[utime : cstime+1] { // utime, stime, cutime, cstime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return t, fmt.Errorf("read a stat file's times: %w", err)
		}
		t.used += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return t, nil
}

// cpuTime is the processor time that a process and its children have used so
// far, those included that have ended.
func cpuTime(pid int) time.Duration {
	var sum time.Duration
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // fails for a bad pattern only
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		t, err := parseStat(content)
		if err == nil && (t.parent == pid || filepath.Base(filepath.Dir(file)) == strconv.Itoa(pid)) {
			sum += t.used
		}
	}
	return sum
}

// peakMemory is the most memory that a process has had resident, in MiB.
func peakMemory(pid int) float64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib / 1024
		}
	}
	return 0
}
