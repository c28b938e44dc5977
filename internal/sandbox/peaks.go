package sandbox

import (
	"maps"
	"sync"
	"time"
)

// peaks finds the most requests within a second, by data center.
type peaks struct {
	mu     sync.Mutex
	now    func() time.Time
	recent map[string][]time.Time // within the last second
	most   map[string]int
}

func newPeaks(now func() time.Time) *peaks {
	return &peaks{now: now, recent: map[string][]time.Time{}, most: map[string]int{}}
}

// count counts a request that comes now.
func (p *peaks) count(dataCenter string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	recent := p.recent[dataCenter]
	recent = append(recent, now)
	old := 0
	for now.Sub(recent[old]) >= time.Second {
		old++
	}
	p.recent[dataCenter] = recent[old:]
	p.most[dataCenter] = max(p.most[dataCenter], len(recent)-old)
}

func (p *peaks) all() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.most)
}
