package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// stopMargin is what systemd is asked to wait beyond CALLBACKD_SHUTDOWN_TIMEOUT
// before it kills: closing the spool and the database comes after that.
const stopMargin = 10 * time.Second

// tellReady says that the instance serves, in the protocol of sd_notify(3).
func (i *instance) tellReady() {
	i.tell(daemon.SdNotifyReady, "STATUS="+i.duties())
}

// tellStopping says that the instance drains, and how long that may take,
// whatever TimeoutStopSec= the unit has.
func (i *instance) tellStopping() {
	timeout := i.cfg.ShutdownTimeout
	i.tell(daemon.SdNotifyStopping, "STATUS=stopping, within "+timeout.String(),
		fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (timeout+stopMargin).Microseconds()))
}

// duties is what this instance does, for people.
func (i *instance) duties() string {
	var duties []string
	if i.callback != nil {
		duties = append(duties, "receiving on "+i.callback.socket.Addr().String())
	}
	if i.fetcher != nil {
		duties = append(duties, fmt.Sprintf("retrieving with %d workers", i.cfg.Workers))
	}
	return strings.Join(duties, ", ")
}

// tell sends assignments to the service manager, if this process has one that
// wants to know.
func (i *instance) tell(assignments ...string) {
	if !i.supervised {
		return
	}
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		i.log.Warn("could not tell systemd", zap.Error(err))
	}
}
