package main

import (
	"context"
	"errors"
	"time"
)

// start measures how long callbackd takes from the start of its process until
// /readyz answers 200, as a full instance on a database whose schema is current.
func (b *bench) start(ctx context.Context) error {
	return b.withDatabase(ctx, func(dsn string) error {
		var times []float64
		for range b.starts {
			took, err := b.timeStart(ctx, dsn)
			if err != nil {
				return err
			}
			times = append(times, float64(took)/float64(time.Millisecond))
		}
		b.progress("start  %.0f ms", times)
		m := median(times)
		b.results.judge(figure{What: "start to ready", Value: m, Unit: "ms", Target: "< 300 ms"}, m < 300)
		return nil
	})
}

func (b *bench) timeStart(ctx context.Context, dsn string) (took time.Duration, err error) {
	s, err := b.launchCallbackd(ctx, dsn, workerSettings("http://127.0.0.1:9")...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.awaitReady(ctx, readyPath, time.Millisecond); err != nil {
		return 0, err
	}
	return time.Since(s.started), nil
}
