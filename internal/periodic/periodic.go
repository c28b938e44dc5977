// Package periodic repeats what a worker does beside its jobs, until it is stopped. It
// leaves failures to what it repeats.
package periodic

import (
	"context"
	"sync"
	"time"
)

// Group is what a part of a worker repeats from its start until its stop. Its zero value is
// ready, and has nothing to stop.
type Group struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Begin returns the context for what the group runs: that of Stop alone, with ctx's values.
func (g *Group) Begin(ctx context.Context) context.Context {
	ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return ctx
}

// Go runs f beside the rest.
func (g *Group) Go(f func()) { g.running.Go(f) }

// Run is Run beside the rest; ctx is Begin's.
func (g *Group) Run(ctx context.Context, interval, timeout time.Duration, do func(context.Context)) {
	g.running.Go(func() { Run(ctx, interval, timeout, do) })
}

// Stop ends what the group runs, and returns once it has ended.
func (g *Group) Stop() {
	if g.cancel != nil {
		g.cancel()
	}
	g.running.Wait()
}

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
