// Package periodic repeats what a worker does beside its jobs. It remembers nothing, and
// leaves failures to what it repeats.
package periodic

import (
	"context"
	"time"
)

// Run calls do at once and then at each interval, until ctx ends. A call has timeout; 0
// leaves it to do.
func Run(ctx context.Context, interval, timeout time.Duration, do func(context.Context)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		bounded, cancel := ctx, context.CancelFunc(func() {})
		if timeout > 0 {
			bounded, cancel = context.WithTimeout(ctx, timeout)
		}
		do(bounded)
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
