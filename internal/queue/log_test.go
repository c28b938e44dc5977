package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"callbackd/internal/pgserver"
	"callbackd/internal/store"
)

// lines passes on what a logger writes, entry by entry.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(bytes.Clone(p)):
	default: // nobody waits for so many
	}
	return len(p), nil
}

type idleWorker struct {
	river.WorkerDefaults[Retrieval]
}

func (idleWorker) Work(context.Context, *river.Job[Retrieval]) error { return nil }

// TestRiverLog: whatever River has to say of a Postgres that goes away is one line
// an entry, in both formats.
func TestRiverLog(t *testing.T) {
	t.Parallel()
	server, err := pgserver.Start(t.Context(), pgserver.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	dsn := server.DSN("postgres")
	if err := store.MigrateUp(t.Context(), store.MigratorOptions{DSN: dsn}); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Options{DSN: dsn, Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	asJSON, asConsole := make(lines, 100), make(lines, 100)
	fields := zap.NewProductionEncoderConfig()
	log := zap.New(zapcore.NewTee(
		zapcore.NewCore(zapcore.NewJSONEncoder(fields), zapcore.AddSync(asJSON), zapcore.InfoLevel),
		zapcore.NewCore(zapcore.NewConsoleEncoder(fields), zapcore.AddSync(asConsole), zapcore.InfoLevel),
	))
	q, err := New(db, Options{Workers: 1, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	AddWorker(q, idleWorker{})
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.client.StopAndCancel(context.Background()) })
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		entry := <-asJSON
		var decoded map[string]any
		if err := json.Unmarshal([]byte(entry), &decoded); err != nil || strings.Count(entry, "\n") != 1 {
			t.Errorf("JSON: %v: %s", err, entry)
		}
		if decoded["logger"] != "river" || decoded["stacktrace"] != nil {
			t.Errorf("JSON: %s", entry)
		}
		if entry := <-asConsole; strings.Count(entry, "\n") != 1 {
			t.Errorf("console: %s", entry)
		}
	}
}

// TestRiverLogLevel: a logger that is quieter than warnings stays as quiet, and
// nothing but its entries is written.
func TestRiverLogLevel(t *testing.T) {
	written := make(lines, 10)
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(written), zapcore.ErrorLevel)
	log := riverLogger(zap.New(core, zap.ErrorOutput(zapcore.AddSync(written))))
	log.Warn("too quiet")
	log.Error("loud enough")
	if entry := <-written; !strings.Contains(entry, "loud enough") || len(written) > 0 {
		t.Errorf("written: %s", entry)
	}
}
