// Package app wires the rooms into one running instance: it starts them in
// order, binds the listeners, and stops everything in order and in time
// (docs/architecture.md, "Order of a shutdown").
//
// It decides nothing about callbacks or results; the rooms do.
package app

import (
	"context"
	"io"
	"os"
	"runtime/debug"

	"callbackd/internal/config"
)

// Build describes the running binary.
type Build struct{ Version, Commit, GoVersion string }

// Run runs one instance, which is the whole process, until ctx ends. It logs to
// w, tunes the garbage collector, and talks to systemd if systemd started it.
func Run(ctx context.Context, cfg *config.Config, build Build, w io.Writer) error {
	log, err := NewLogger(w, cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return err
	}
	tuneCollector(cfg)
	i, err := New(ctx, cfg, build, log)
	if err != nil {
		return err
	}
	i.supervised = true
	return i.Run(ctx)
}

const (
	// receiverGCPercent lets the heap of a receive-only instance grow to three
	// times its live size between two collections. The heap is a few MiB, and
	// collecting it at Go's default of 100 costs a tenth of the throughput.
	receiverGCPercent = 200
	// receiverMemory, in bytes, is several times what receiving needs.
	receiverMemory = 160 << 20
)

// tuneCollector sets the garbage collector's target and a soft memory limit,
// which keeps the heap from tripling when strangers hold many connections open.
// GOGC and GOMEMLIMIT take precedence.
func tuneCollector(cfg *config.Config) {
	if cfg.Workers == 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(receiverGCPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// Each worker holds one whole image, and its last one until it is collected.
		debug.SetMemoryLimit(receiverMemory + 2*int64(cfg.Workers)*cfg.MaxImageBytes)
	}
}
