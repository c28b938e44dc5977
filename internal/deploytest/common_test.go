package deploytest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// pollInterval is how often a condition is checked.
const pollInterval = 100 * time.Millisecond

// eventually waits until condition returns nil, and fails the test with the
// last error when it does not within the time.
func eventually(t *testing.T, within time.Duration, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", within, err)
		}
		<-poll.C
	}
}

// buildCallbackd builds the program. Looking at its sources makes them a part of
// the test's key in go test's cache.
func buildCallbackd(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"../../go.mod", "../../cmd", "../../internal", "../../migrations"} {
		err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(t.TempDir(), "callbackd")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "callbackd/cmd/callbackd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build callbackd: %v\n%s", err, out)
	}
	return program
}
