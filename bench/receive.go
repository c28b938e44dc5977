package main

import (
	"context"
	"fmt"
	"slices"
)

// connectionCounts are the loads of the scenario "receive".
var connectionCounts = []int{1, 8, 64, 256}

// fullLoad is the number of connections at which callbackd is at its fastest.
const fullLoad = 256

// receive measures every contestant under every load, interleaved.
func (b *bench) receive(ctx context.Context) error {
	type key struct {
		server      string
		connections int
	}
	runs := map[key][]measurement{}
	all := contestants()
	for round := range b.rounds {
		// The order changes from round to round, so that nobody always comes
		// after the same one.
		order := slices.Concat(all[round%len(all):], all[:round%len(all)])
		for _, connections := range connectionCounts {
			for _, c := range order {
				m, err := b.measureFresh(ctx, c, connections)
				if err != nil {
					return err
				}
				b.progress("receive %d/%d  %-9s %3d connections  %6.0f/s  p50 %.2f ms  p99 %.2f ms",
					round+1, b.rounds, c.name, connections, m.Rate, m.P50, m.P99)
				k := key{c.name, connections}
				runs[k] = append(runs[k], m)
			}
		}
	}
	for _, connections := range connectionCounts {
		for _, c := range all {
			b.results.Receive = append(b.results.Receive, received{c.name, connections, medians(runs[key{c.name, connections}])})
		}
	}
	b.results.receiveFigures()
	return nil
}

// measureFresh is measure on a database of its own.
func (b *bench) measureFresh(ctx context.Context, c contestant, connections int) (m measurement, err error) {
	err = b.withDatabase(ctx, func(dsn string) error {
		m, err = b.measure(ctx, c, dsn, connections)
		return err
	})
	return m, err
}

// received is what one server did under one load.
type received struct {
	Server      string      `json:"server"`
	Connections int         `json:"connections"`
	Median      measurement `json:"median"`
}

// of finds the medians of a server under a load.
func (r *results) of(server string, connections int) measurement {
	for _, x := range r.Receive {
		if x.Server == server && x.Connections == connections {
			return x.Median
		}
	}
	return measurement{}
}

// receiveFigures compares callbackd with the baselines.
func (r *results) receiveFigures() {
	own := r.of("callbackd", fullLoad)
	for _, goal := range []struct {
		server string
		what   string
		ratio  float64
	}{
		{"noop", "a handler that decodes and stores nothing", 0.45},
		{"naive", "one INSERT per request", 2.5},
		{"jobtx", "a transaction with a River job per request", 8},
	} {
		r.compare(figure{
			What: fmt.Sprintf("durable callbacks/s, %d connections", fullLoad), Value: own.Rate, Unit: "/s",
			OverWhat: goal.what, Over: r.of(goal.server, fullLoad).Rate, atLeast: goal.ratio,
		})
	}
	r.compare(figure{
		What: "p99, 64 connections", Value: r.of("callbackd", 64).P99, Unit: "ms",
		OverWhat: "one INSERT per request", Over: r.of("naive", 64).P99, atMost: 0.6,
	})
	if own.Memory > 0 {
		r.judge(figure{
			What: fmt.Sprintf("receiver's memory, %d connections", fullLoad), Value: own.Memory, Unit: "MiB",
			Target: "< 64 MiB",
		}, own.Memory < 64)
	}
}
