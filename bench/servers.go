package main

import (
	"context"
	"time"
)

const (
	callbackPath = "/jumio/callback"
	readyPoll    = 5 * time.Millisecond
)

// contestant is a server that takes callbacks.
type contestant struct {
	name string
	// table is where it stores them; empty for nowhere.
	table string
	// jobs is a table where it also has to put a row for each; may be empty.
	jobs string
	// start starts it on a database.
	start func(b *bench, ctx context.Context, dsn string) (*server, error)
}

// contestants are callbackd, which is measured, and the baselines.
func contestants() []contestant {
	return []contestant{
		{name: "noop", start: baselineServer("noop")},
		{name: "naive", table: "bench.callbacks", start: baselineServer("naive")},
		{name: "jobtx", table: "bench.callbacks", jobs: "bench.river_job", start: baselineServer("jobtx")},
		receiver(),
	}
}

// receiver is callbackd as a receive-only instance.
func receiver() contestant {
	return contestant{
		name: "callbackd", table: "callbackd.callbacks",
		start: func(b *bench, ctx context.Context, dsn string) (*server, error) {
			return b.startCallbackd(ctx, dsn, "CALLBACKD_WORKERS=0")
		},
	}
}

// startCallbackd starts `callbackd serve` with its defaults (log level info
// included), except for what a private run on loopback needs.
func (b *bench) startCallbackd(ctx context.Context, dsn string, env ...string) (*server, error) {
	s, err := b.launchCallbackd(ctx, dsn, env...)
	if err != nil {
		return nil, err
	}
	return s.ready(ctx)
}

// launchCallbackd is startCallbackd without the wait.
func (b *bench) launchCallbackd(ctx context.Context, dsn string, env ...string) (*server, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	adminAddress, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	return b.startServer(ctx, "callbackd", address, append([]string{
		"DATABASE_URL=" + dsn,
		"CALLBACKD_LISTEN=" + address,
		"CALLBACKD_ADMIN_LISTEN=" + adminAddress,
		"CALLBACKD_CALLBACK_PATH=" + callbackPath,
		"CALLBACKD_ALLOWED_CIDRS=127.0.0.0/8",
		"CALLBACKD_JUMIO_HOSTS=none", // no DNS
		"CALLBACKD_SHUTDOWN_TIMEOUT=2s",
	}, env...), b.callbackd, "serve")
}

// workerSettings let callbackd retrieve from the sandbox at that URL, as fast as
// it can.
func workerSettings(sandboxURL string) []string {
	return []string{
		"CALLBACKD_WORKERS=8",
		"CALLBACKD_RETRIEVAL_RPS=1000000",
		"JUMIO_CLIENT_ID=sandbox",
		"JUMIO_CLIENT_SECRET=sandbox",
		"JUMIO_USER_AGENT=callbackd bench/v1.0",
		"JUMIO_TOKEN_URL=" + sandboxURL,
		"JUMIO_RETRIEVAL_URL=" + sandboxURL,
	}
}

// baselineServer starts one of the servers in baseline.go, a process of its own.
func baselineServer(name string) func(*bench, context.Context, string) (*server, error) {
	return func(b *bench, ctx context.Context, dsn string) (*server, error) {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		s, err := b.startServer(ctx, name, address, []string{"DATABASE_URL=" + dsn}, b.self, "baseline", name, address)
		if err != nil {
			return nil, err
		}
		return s.ready(ctx)
	}
}

// ready waits until the server is, and stops it when that fails.
func (s *server) ready(ctx context.Context) (*server, error) {
	if err := s.awaitReady(ctx, readyPath, readyPoll); err != nil {
		_ = s.stop() // the first error says more
		return nil, err
	}
	return s, nil
}
