package budget

import (
	"math"
	"time"
)

const (
	// blockTime is about how long the slots of one reservation are together: as much of
	// the rate is lost when an instance dies.
	blockTime = 100 * time.Millisecond
	// minHorizon and horizonSlots are more than all instances together ever reserve.
	minHorizon   = time.Minute
	horizonSlots = 1000
	// maxSpacing keeps the horizon within a time.Duration.
	maxSpacing = 90 * 24 * time.Hour
)

// pace says how the slots of a rate lie in time.
type pace struct {
	// spacing is the length of a slot.
	spacing time.Duration
	// late is how long after its slot's beginning a request may be sent.
	late time.Duration
	// block is the most slots of one reservation.
	block   int
	horizon time.Duration
}

// newPace spaces rps requests a second such that never more than rps*t + max(rps, 1) are
// sent in any t seconds, rps being above 0.
//
// Those of t seconds have their slots in t + late, which is (t + late) / spacing + 1 slots
// at most. So late could be a second less one slot; half of it is left for a request's own
// way to Jumio. A rate below two a second has no such room: its slots are a tenth longer.
func newPace(rps float64) pace {
	spacing := time.Duration(math.Ceil(min(float64(time.Second)/rps, float64(maxSpacing))))
	late := (time.Second - spacing) / 2
	if rps < 2 {
		late = spacing / 10
		spacing += late
	}
	return pace{
		spacing: spacing, late: late,
		block:   max(1, int(blockTime/spacing)),
		horizon: max(minHorizon, horizonSlots*spacing),
	}
}

// takes is how long n slots are together, in whole microseconds.
func (p pace) takes(n int) time.Duration {
	return (time.Duration(n)*p.spacing + time.Microsecond - 1).Truncate(time.Microsecond)
}
