package pgserver

import (
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"runtime"
	"strconv"
	"syscall"
)

// user is an ordinary user whom the server runs as. PostgreSQL refuses root.
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
	var err error
	for _, name := range []string{"postgres", "nobody"} {
		var found *osuser.User
		if found, err = osuser.Lookup(name); err != nil {
			continue
		}
		u := &user{name: name}
		if u.uid, err = strconv.Atoi(found.Uid); err != nil {
			continue
		}
		if u.gid, err = strconv.Atoi(found.Gid); err == nil {
			return u, nil
		}
	}
	return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres or nobody: %w", err)
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
