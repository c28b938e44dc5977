package spool

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/store"
)

// Batch are the oldest callbacks of a spool. They stay in it until Done.
type Batch struct {
	Callbacks []*store.Callback
	// damaged are records that were passed over.
	damaged int
}

// Next gives the oldest callbacks, in the order in which they came in: at most
// so many, and no more once their bodies and fields have so many bytes. It is
// empty when the spool is. Damaged ones are passed over and logged. Only one
// batch may be out at a time.
func (s *Spool) Next(most, bytes int) (*Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peek(most, bytes)
}

func (s *Spool) peek(most, bytes int) (*Batch, error) {
	b := &Batch{}
	for _, g := range s.segments {
		if g.done == g.count {
			continue
		}
		if err := g.open(s.filer); err != nil {
			return nil, fmt.Errorf("read segment %s: %w", g.name, err)
		}
		for position := g.done; position < g.count; position++ {
			if len(b.Callbacks) == most || bytes <= 0 {
				return b, nil
			}
			c, size, err := g.read(position)
			switch {
			case errors.Is(err, errDamagedRecord):
				b.damaged++
				s.reportDamaged(g, position)
			case err != nil:
				return nil, fmt.Errorf("read record %d of segment %s: %w", position, g.name, err)
			default:
				b.Callbacks = append(b.Callbacks, c)
				bytes -= size
			}
		}
		if g != s.active && len(b.Callbacks) > 0 {
			// The next batch may begin here, and no other segment stays open.
			return b, nil
		}
	}
	return b, nil
}

// reportDamaged tells once of a record that is lost, and keeps its file.
func (s *Spool) reportDamaged(g *segment, position int) {
	if position < g.reported {
		return
	}
	g.reported = position + 1
	if g.damage == "" {
		g.damage = "a record in it is damaged"
	}
	s.damages++
	s.o.Log.Error("a callback in the spool is damaged and passed over: the disk is failing",
		zap.String("file", g.path()), zap.Int("record", position))
}

// Empty says whether there was nothing to take out.
func (b *Batch) Empty() bool { return len(b.Callbacks)+b.damaged == 0 }

// Done drops a batch for good.
func (s *Spool) Done(b *Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.publish()
	n := len(b.Callbacks) + b.damaged
	for _, g := range s.segments {
		taken := min(n, g.count-g.done)
		g.done += taken
		n -= taken
	}
	if err := s.removeDone(); err != nil {
		return fmt.Errorf("drop callbacks from the spool: %w", err)
	}
	return s.findOldest()
}

// removeDone deletes the segments of which nothing is left, and remembers how
// far the oldest other one has been read. s.mu is held.
func (s *Spool) removeDone() error {
	kept := s.segments[:0]
	var failed error
	for _, g := range s.segments {
		if g.done < g.count {
			kept = append(kept, g)
			continue
		}
		if g == s.active {
			s.active = nil
		}
		if err := g.remove(); err != nil {
			failed = err
		}
	}
	clear(s.segments[len(kept):])
	s.segments = kept
	if failed == nil && len(kept) > 0 {
		failed = savePosition(s.o.Dir, kept[0].name, kept[0].done)
	}
	return failed
}

// findOldest reads when the oldest callback was received. s.mu is held.
func (s *Spool) findOldest() error {
	defer s.publish()
	s.oldest = time.Time{}
	first, err := s.peek(1, 1)
	if err != nil {
		return err
	}
	if len(first.Callbacks) > 0 {
		s.oldest = first.Callbacks[0].ReceivedAt
	}
	return nil
}
