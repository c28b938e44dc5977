package promoter

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// A callback is postponed for firstPostponement, then for twice as long each time.
const firstPostponement, longestPostponement = 10 * time.Second, 10 * time.Minute

// postponed holds the callbacks that could not be promoted although their values are not
// at fault. Only this process knows them.
type postponed struct {
	mu   sync.Mutex
	list map[uuid.UUID]postponement
}

type postponement struct {
	until time.Time
	pause time.Duration
}

// add postpones a callback, longer each time, and returns until when.
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

// now returns the callbacks that are postponed now, and forgets those whose last
// postponement ended long ago.
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
