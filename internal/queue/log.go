package queue

import (
	"log/slog"
	"math"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
)

// riverLogger passes on River's warnings and errors, one line each, without zapslog's
// stack traces. River's information lines would repeat what the worker logs.
func riverLogger(log *zap.Logger) *slog.Logger {
	quieter := log.WithOptions(zap.IncreaseLevel(max(zapcore.WarnLevel, log.Level())))
	return slog.New(zapslog.NewHandler(quieter.Core(), zapslog.WithName("river"), zapslog.AddStacktraceAt(slog.Level(math.MaxInt))))
}
