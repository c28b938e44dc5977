package app

import (
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewLogger logs to w, from level (debug, info, warn, error) upward: one JSON
// object a line, or, with the format "console", text. Times are RFC 3339 in UTC
// with milliseconds; durations in JSON are seconds.
func NewLogger(w io.Writer, level, format string) (*zap.Logger, error) {
	minimum, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	fields := zap.NewProductionEncoderConfig()
	fields.TimeKey = "time"
	fields.EncodeTime = func(t time.Time, to zapcore.PrimitiveArrayEncoder) {
		to.AppendString(t.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	encoder := zapcore.NewJSONEncoder(fields)
	if format == "console" {
		fields.EncodeLevel = zapcore.CapitalLevelEncoder
		fields.EncodeDuration = zapcore.StringDurationEncoder
		encoder = zapcore.NewConsoleEncoder(fields)
	}
	sink := zapcore.Lock(zapcore.AddSync(w))
	return zap.New(zapcore.NewCore(encoder, sink, minimum), zap.ErrorOutput(sink)), nil
}
