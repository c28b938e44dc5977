package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// warmUp opens the connections and fills the caches before each run.
const warmUp = time.Second

// measurement is what a run, or the median of several, came to. CPU figures are
// cores; a figure that could not be had on this system is 0.
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
	// At the end of a load, one answer for each connection may be under way.
	return m, checkStored(c.name, m.Answered, stored, 2*connections)
}

func cores(used, wall time.Duration) float64 { return used.Seconds() / wall.Seconds() }

// countStored counts what arrived since then: different callbacks, which for
// this load means different workflow executions, and, where there have to be
// any, as many jobs.
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

// checkStored: every answer of 200 has its row. What was under way when the
// load ended may have one too.
func checkStored(name string, answered, stored, underWay int) error {
	if stored < answered || stored > answered+underWay {
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

// medians takes the median of each figure by itself; the counts are sums.
func medians(runs []measurement) measurement {
	of := func(figure func(*measurement) float64) float64 {
		values := make([]float64, len(runs))
		for i := range runs {
			values[i] = figure(&runs[i])
		}
		return median(values)
	}
	m := measurement{
		Rate:        of(func(m *measurement) float64 { return m.Rate }),
		P50:         of(func(m *measurement) float64 { return m.P50 }),
		P99:         of(func(m *measurement) float64 { return m.P99 }),
		CPUServer:   of(func(m *measurement) float64 { return m.CPUServer }),
		CPUPostgres: of(func(m *measurement) float64 { return m.CPUPostgres }),
		CPUWrk:      of(func(m *measurement) float64 { return m.CPUWrk }),
		Fsyncs:      of(func(m *measurement) float64 { return m.Fsyncs }),
		Memory:      of(func(m *measurement) float64 { return m.Memory }),
	}
	for i := range runs {
		m.Answered += runs[i].Answered
	}
	return m
}
