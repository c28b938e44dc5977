package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestLoggerJSON: one JSON object a line, with readable times and no stack trace.
func TestLoggerJSON(t *testing.T) {
	var out bytes.Buffer
	logger, err := NewLogger(&out, "warn", "json")
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("too low")
	logger.Error("two\nlines", zap.Error(errors.New("bad")), zap.Duration("took", 1500*time.Millisecond))

	if strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("got %q, want one line", out.String())
	}
	var entry map[string]any
	if err := json.Unmarshal(out.Bytes(), &entry); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, entry["time"].(string))
	if err != nil || at.Location() != time.UTC || time.Since(at) > time.Minute {
		t.Errorf("time is %v (%v)", entry["time"], err)
	}
	if entry["level"] != "error" || entry["msg"] != "two\nlines" || entry["error"] != "bad" || entry["took"] != 1.5 || entry["stacktrace"] != nil {
		t.Errorf("entry is %v", entry)
	}
}

func TestLoggerConsole(t *testing.T) {
	var out bytes.Buffer
	logger, err := NewLogger(&out, "debug", "console")
	if err != nil {
		t.Fatal(err)
	}
	logger.Debug("hello", zap.Int("n", 1))
	if got := out.String(); !strings.Contains(got, "DEBUG\thello\t{\"n\": 1}\n") {
		t.Errorf("got %q", got)
	}
}

func TestLoggerWrongLevel(t *testing.T) {
	if _, err := NewLogger(&bytes.Buffer{}, "loud", "json"); err == nil {
		t.Error("a level that does not exist was accepted")
	}
}
