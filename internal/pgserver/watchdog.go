package pgserver

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// watchdogScript waits until its standard input ends, which happens when this
// process closes it or dies in whatever way. Then it stops the server, if there
// is one, and removes the cluster. Removing is repeated, because an initdb that
// lost its parent may still be writing.
const watchdogScript = `
trap '' HUP INT TERM
read -r line
"$1/pg_ctl" stop -D "$2/data" -m immediate -w -s >/dev/null 2>&1
cd /
for attempt in 1 2 3 4 5 6 7 8 9 10; do
	rm -rf "$2" 2>/dev/null && exit 0
	sleep 1
done
exit 1
`

// watchdog is the child process that outlives us and cleans up.
type watchdog struct {
	process  *exec.Cmd
	lifeline io.Closer
}

func startWatchdog(ctx context.Context, programs, dir string, owner *user) (*watchdog, error) {
	process := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", watchdogScript, "watchdog", programs, dir) //nolint:gosec // our own script
	owner.runs(process)
	process.Dir = "/"
	lifeline, err := process.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the cluster's watchdog: %w", err)
	}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("start the cluster's watchdog: %w", err)
	}
	return &watchdog{process, lifeline}, nil
}

// finish lets the watchdog clean up and waits for it. The server has ended before.
func (w *watchdog) finish(dir string) error {
	const patience = 30 * time.Second
	giveUp := time.AfterFunc(patience, func() { _ = w.process.Process.Kill() })
	defer giveUp.Stop()
	_ = w.lifeline.Close()
	if err := w.process.Wait(); err != nil {
		// Somebody killed it, or it could not remove everything.
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the cluster: %w", err)
		}
	}
	return nil
}
