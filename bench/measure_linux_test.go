package main

import (
	"os"
	"testing"
	"time"
)

// TestUsage: this process has used something.
func TestUsage(t *testing.T) {
	for began := time.Now(); cpuTime(os.Getpid()) == 0; { // until the first tick
		if time.Since(began) > 30*time.Second {
			t.Fatal("no processor time in 30 s of work")
		}
	}
	if memory := peakMemory(os.Getpid()); memory < 1 || memory > 4096 {
		t.Errorf("%g MiB", memory)
	}
}
