package app

import (
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// stopMargin is how much longer than CALLBACKD_SHUTDOWN_TIMEOUT systemd is asked
// to wait before it kills: the spool and the database are closed after it.
const stopMargin = 10 * time.Second

// tellReady reports that the instance serves (sd_notify(3)).
func (i *Instance) tellReady() {
	i.tell(daemon.SdNotifyReady, "STATUS="+i.duties())
}

// tellStopping reports that the instance drains, and how long that may take,
// whatever the unit's TimeoutStopSec= says.
func (i *Instance) tellStopping() {
	timeout := i.cfg.ShutdownTimeout
	i.tell(daemon.SdNotifyStopping, "STATUS=stopping, within "+timeout.String(),
		fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (timeout+stopMargin).Microseconds()))
}

// duties says what this instance does.
func (i *Instance) duties() string {
	var duties []string
	if i.callback != nil {
		duties = append(duties, "receiving on "+i.callback.Addr().String())
	}
	if i.worker != nil {
		duties = append(duties, fmt.Sprintf("retrieving with %d workers", i.cfg.Workers))
	}
	return strings.Join(duties, ", ")
}

// tell sends assignments to the service manager, if there is one.
func (i *Instance) tell(assignments ...string) {
	if !i.supervised {
		return
	}
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		i.log.Warn("could not tell systemd", zap.Error(err))
	}
}
