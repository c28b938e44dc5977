package fetcher

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// postponed are the callbacks that could not be promoted for now, for a reason
// that is not their values'. They are only in memory: another process finds out
// for itself.
type postponed struct {
	mu   sync.Mutex
	list map[uuid.UUID]postponement
}

type postponement struct {
	until time.Time
	pause time.Duration
}

// add leaves a callback for a while, longer each time, and says until when.
func (p *postponed) add(id uuid.UUID, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.list == nil {
		p.list = make(map[uuid.UUID]postponement)
	}
	pause := min(max(2*p.list[id].pause, firstPostponement), longestPostponement)
	p.list[id] = postponement{now.Add(pause), pause}
	return now.Add(pause)
}

// now gives the callbacks that are to be left now, and forgets those whose last
// time is long past.
func (p *postponed) now(now time.Time) []uuid.UUID {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []uuid.UUID
	for id, one := range p.list {
		switch {
		case now.Before(one.until):
			ids = append(ids, id)
		case now.Sub(one.until) > 2*longestPostponement:
			delete(p.list, id)
		}
	}
	return ids
}
