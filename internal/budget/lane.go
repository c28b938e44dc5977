package budget

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/store/results"
)

const (
	// reserveTimeout bounds a reservation.
	reserveTimeout = 5 * time.Second
	// Bounds of how long a reservation that has yielded to others waits; between them, it
	// waits for one slot.
	minYield = 10 * time.Millisecond
	maxYield = time.Second
	// slowShare is what a reconciliation uses of a rate that grows again.
	slowShare = 4
)

// lane is an instance's queue of requests of one class to one data center. Whatever
// happens to it ends in advance; it has no goroutine of its own.
type lane struct {
	budget     *Budget
	dataCenter string
	class      string // of the row that holds its budget
	pace       pace
	yields     bool
	most       int // slots in hand

	mu        sync.Mutex
	waiting   []*waiter // in the order in which they came
	blocks    []block   // slots in hand, earliest first
	reserving bool
	size      int // of the next block
	lost      int // slots since the last reservation that nobody wanted in time
	// yieldedUntil is when a reservation that yields is tried next.
	yieldedUntil time.Time
	resumed      time.Time // by Resume
	notBefore    time.Time // the next request, after Resume
	timer        *time.Timer
}

// waiter is a request that waits for its slot.
type waiter struct {
	deadline time.Time   // zero for none
	answer   chan answer // takes one without a receiver
}

// answer ends a waiter's wait. Without err the request may be sent until then.
type answer struct {
	until time.Time
	err   error
}

// block is what is left of a reservation.
type block struct {
	next time.Time // its next slot's beginning
	left int
	late time.Duration // how long after its beginning a slot is lost
}

func newLane(b *Budget, key laneKey) *lane {
	l := &lane{budget: b, dataCenter: key.dataCenter, class: "retrieval", pace: b.pace[key.class], size: 1}
	l.most = 2 * l.pace.block // one in use and the next
	switch key.class {
	case jumio.ClassReconciliation:
		l.yields, l.most = true, l.pace.block
	case jumio.ClassAccount:
		l.class = "account"
	}
	return l
}

// enter adds a request at the end of the queue.
func (l *lane) enter(ctx context.Context) *waiter {
	w := &waiter{answer: make(chan answer, 1)}
	w.deadline, _ = ctx.Deadline()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, w)
	l.advance()
	return w
}

// leave takes a request out of the queue. If it has just got a slot, that is lost.
func (l *lane) leave(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, w); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}

func (l *lane) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resumed = time.Now()
}

// advance gives slots that have begun to those who wait, refuses those who would wait in
// vain, and sees to it that the rest goes on.
func (l *lane) advance() {
	now := time.Now()
	l.discard(now)
	for len(l.waiting) > 0 && len(l.blocks) > 0 && !l.earliest().After(now) {
		l.grant(now)
	}
	l.refuseHopeless()
	if n := l.wanted(now); n > 0 {
		l.reserving = true
		l.budget.running.Go(func() { l.reserve(n) })
	}
	if wait := l.earliest().Sub(now); len(l.waiting) > 0 && wait > 0 {
		l.wakeIn(wait)
	}
}

// earliest is the next moment at which anything can happen by itself: a slot begins or,
// with none in hand, one can be reserved.
func (l *lane) earliest() time.Time {
	first := l.yieldedUntil
	if len(l.blocks) > 0 {
		first = l.blocks[0].next
	}
	if first.Before(l.notBefore) {
		return l.notBefore
	}
	return first
}

func (l *lane) wakeIn(wait time.Duration) {
	if l.timer != nil {
		l.timer.Reset(wait)
		return
	}
	l.timer = time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.advance()
	})
}

// discard drops slots that it is too late for.
func (l *lane) discard(now time.Time) {
	for len(l.blocks) > 0 {
		lost := l.blocks[0].tooLate(now, l.pace.spacing)
		if lost == 0 {
			return
		}
		l.lost += lost
		l.use(lost)
	}
}

// tooLate counts the slots that are over.
func (b block) tooLate(now time.Time, spacing time.Duration) int {
	since := now.Sub(b.next.Add(b.late))
	switch {
	case b.late < 0: // the reservation took too long
		return b.left
	case since <= 0:
		return 0
	}
	return int(min(since/spacing+1, time.Duration(b.left)))
}

// use takes n slots from the first block.
func (l *lane) use(n int) {
	b := &l.blocks[0]
	b.next = b.next.Add(time.Duration(n) * l.pace.spacing)
	if b.left -= n; b.left == 0 {
		l.blocks = slices.Delete(l.blocks, 0, 1)
	}
}

// grant gives the next slot to who has waited longest.
func (l *lane) grant(now time.Time) {
	w, b := l.waiting[0], l.blocks[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	l.use(1)
	w.answer <- answer{until: b.next.Add(b.late)}
	if since := now.Sub(l.resumed); since < resumeTime {
		share := resumedShare(since)
		if l.yields {
			share /= slowShare
		}
		l.notBefore = now.Add(time.Duration(float64(l.pace.spacing) / share))
	}
}

// resumedShare is the share of the rate that an instance may use so long after Resume.
func resumedShare(since time.Duration) float64 {
	return min(1, 0.1+0.9*since.Seconds()/resumeTime.Seconds())
}

// refuseHopeless ends the wait of those whose deadline is before the next slot.
func (l *lane) refuseHopeless() {
	earliest := l.earliest()
	l.waiting = slices.DeleteFunc(l.waiting, func(w *waiter) bool {
		hopeless := !w.deadline.IsZero() && w.deadline.Before(earliest)
		if hopeless {
			w.answer <- answer{err: context.DeadlineExceeded}
		}
		return hopeless
	})
}

// wanted returns how many slots to reserve now. Blocks grow while all their slots are
// used, so that a high rate takes few reservations, and shrink by what is lost.
func (l *lane) wanted(now time.Time) int {
	held := l.held()
	short := len(l.waiting) - held
	if l.reserving || short <= 0 || now.Before(l.notBefore) || now.Before(l.yieldedUntil) {
		return 0
	}
	size := max(1, l.size-l.lost)
	if l.lost == 0 {
		size = 2 * l.size
	}
	size = min(max(size, short), l.pace.block)
	if held+size > l.most {
		return 0
	}
	l.size, l.lost = size, 0
	return size
}

// held counts the slots in hand.
func (l *lane) held() (n int) {
	for _, b := range l.blocks {
		n += b.left
	}
	return n
}

// reserve asks the database for n slots. Whoever has none in hand when that fails gets
// the error.
func (l *lane) reserve(n int) {
	ctx, cancel := context.WithTimeout(l.budget.ctx, reserveTimeout)
	defer cancel()
	sent := time.Now()
	begins, reserved, err := l.budget.results.ReserveRequests(ctx, results.Reservation{
		DataCenter: l.dataCenter, Class: l.class, Takes: l.pace.takes(n), Yields: l.yields, Horizon: l.pace.horizon,
	})
	received := time.Now()
	l.budget.log.Debug("requests to Jumio reserved", zap.String("data_center", l.dataCenter), zap.String("class", l.class),
		zap.Int("slots", n), zap.Bool("reserved", reserved), zap.Duration("begins", begins), zap.Error(err))

	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserving = false
	switch {
	case err != nil:
		l.fail(err)
	case reserved:
		// The server's moment was between sent and received: a slot begins at the latest
		// possible moment and is late from the earliest one on.
		first := received.Add(begins)
		l.blocks = append(l.blocks, block{next: first, left: n, late: l.pace.late - received.Sub(sent)})
		if l.yields { // at least to these slots
			l.yieldedUntil = first.Add(l.pace.takes(n))
		}
	default:
		l.yieldedUntil = received.Add(min(max(l.pace.spacing, minYield), maxYield))
	}
	l.advance()
}

func (l *lane) fail(err error) {
	held := min(l.held(), len(l.waiting))
	for _, w := range l.waiting[held:] {
		w.answer <- answer{err: err}
	}
	l.waiting = l.waiting[:held]
}
