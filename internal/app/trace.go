package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/tracing"
)

// traceFlush bounds how long a stop waits for the collector to take the last
// spans. It is part of CALLBACKD_SHUTDOWN_TIMEOUT.
const traceFlush = 3 * time.Second

func (i *Instance) newTracer(ctx context.Context, reg *prometheus.Registry) (err error) {
	t := i.cfg.Tracing()
	if t == nil {
		return nil
	}
	i.tracer, err = tracing.New(ctx, tracing.Options{
		Exporter: tracing.Exporter{Endpoint: t.Endpoint, Headers: t.Headers, Timeout: t.Timeout},
		Sampler:  t.Sampler, SampleRatio: t.SampleRatio,
		Version: i.build.Version, ResourceAttributes: t.ResourceAttributes, Log: i.log, Registerer: reg,
	})
	if err != nil {
		return err
	}
	i.log.Info("tracing", zap.String("endpoint", t.Endpoint), zap.String("sampler", t.Sampler))
	return nil
}

// stopTracer sends the remaining spans. Losing some does not fail the stop.
func (i *Instance) stopTracer(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, traceFlush)
	defer cancel()
	if err := i.tracer.Shutdown(ctx); err != nil {
		i.log.Warn("the last spans could not be sent to the collector in time", zap.Duration("timeout", traceFlush))
	}
}
