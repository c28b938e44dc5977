package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	osuser "os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// user is an ordinary user that the server runs as; nil is the caller. PostgreSQL
// does not run as root.
type user struct {
	name     string
	uid, gid int
}

// serverUser returns nil when the caller is an ordinary user, who then runs the
// server.
func serverUser() (*user, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is the caller
	}
	for _, name := range []string{"postgres", "nobody"} {
		if found, err := osuser.Lookup(name); err == nil {
			uid, uidErr := strconv.Atoi(found.Uid)
			gid, gidErr := strconv.Atoi(found.Gid)
			return &user{name, uid, gid}, errors.Join(uidErr, gidErr)
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

// takes makes u the owner of a file or directory.
func (u *user) takes(path string) error {
	if u == nil {
		return nil
	}
	if err := os.Chown(path, u.uid, u.gid); err != nil {
		return fmt.Errorf("give a file of the cluster to %s: %w", u.name, err)
	}
	return nil
}

// runs makes cmd run as u in a session of its own, so that a Ctrl-C in the
// terminal reaches only us, and with nothing of the caller's environment, whose
// PG* and LC_* variables would change what the programs do.
func (u *user) runs(cmd *exec.Cmd) {
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=" + locale()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if u != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)} //nolint:gosec // the system's own ids
	}
}

// locale has code point order and knows all of Unicode; macOS lacks it.
func locale() string {
	if runtime.GOOS == "darwin" {
		return "C"
	}
	return "C.UTF-8"
}

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
		// It was killed, or could not remove everything.
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the cluster: %w", err)
		}
	}
	return nil
}
