package workflow

import (
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	s := Schedule{0, 40 * time.Second, 60 * time.Second}
	for _, tc := range []struct {
		name      string
		attempt   int
		notBefore time.Duration
		want      time.Duration
	}{
		{"after the first attempt", 1, 0, 40 * time.Second},
		{"after the second", 2, 0, 60 * time.Second},
		{"beyond the schedule", 3, 0, 0},
		{"Retry-After within the delay", 1, 10 * time.Second, 40 * time.Second},
		{"Retry-After beyond the delay", 1, 90 * time.Second, 90 * time.Second},
	} {
		if got := s.Next(tc.attempt, noon, noon.Add(tc.notBefore)); !got.Equal(noon.Add(tc.want)) {
			t.Errorf("%s: after %v, want %v", tc.name, got.Sub(noon), tc.want)
		}
	}
	if got := s.Length(); got != 100*time.Second {
		t.Errorf("its length is %v, want 100s", got)
	}
}
