package budget

import (
	"fmt"
	"testing"
	"time"
)

// TestPace: the most requests that slots and lateness allow in the shortest time are
// within the bound, at a rate of two or more also those that were late twice, and at
// least nine tenths of the rate can be used.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, rps := range []float64{0.001, 0.5, 0.99, 1, 1.3, 1.999, 2, 3, 7, 10, 14.9, 15, 100, 999, 100_000, 1_000_000} {
		t.Run(fmt.Sprint(rps), func(t *testing.T) {
			t.Parallel()
			p := newPace(rps)
			late := p.late
			if rps >= 2 {
				late *= 2
			}
			for n := 2; n < 3000; n++ {
				// The first of n is as late as possible, the last one is in time.
				shortest := max(0, p.takes(n-1)-late)
				if bound := rps*shortest.Seconds() + max(rps, 1); float64(n) > bound*(1+1e-9) {
					t.Fatalf("%d requests in %s, want at most %v", n, shortest, bound)
				}
			}
			if used := 1 / p.spacing.Seconds() / rps; used < 0.9 {
				t.Errorf("%v of the rate can be used", used)
			}
			if p.block < 1 || p.block > 1 && p.takes(p.block) > blockTime+time.Microsecond {
				t.Errorf("a block of %d slots takes %s", p.block, p.takes(p.block))
			}
		})
	}
}

// TestSlowestPace: the lowest rate that a setting can have overflows nothing.
func TestSlowestPace(t *testing.T) {
	t.Parallel()
	if p := newPace(5e-324); p.spacing <= 0 || p.late <= 0 || p.horizon < p.spacing || p.block != 1 {
		t.Errorf("got %+v", p)
	}
}
