package main

import (
	"context"
	"time"
)

// start measures how long callbackd takes from the start of its process until
// /readyz answers 200, as a full instance on a database whose schema is current.
func (b *bench) start(ctx context.Context) error {
	const starts = 10
	return b.withDatabase(ctx, func(dsn string) error {
		var times []float64
		for range starts {
			s, err := b.startCallbackd(ctx, dsn, workerSettings("http://127.0.0.1:9")...)
			if err != nil {
				return err
			}
			times = append(times, float64(s.startup)/float64(time.Millisecond))
			if err := s.stop(); err != nil {
				return err
			}
		}
		b.progress("start  %.0f ms", times)
		m := median(times)
		b.results.judge(figure{What: "start to ready", Value: m, Unit: "ms", Target: "< 300 ms"}, m < 300)
		return nil
	})
}
