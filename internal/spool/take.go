package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/callback"
)

// Batch holds the oldest callbacks of a spool. They stay in it until Done.
type Batch struct {
	Callbacks []*callback.Callback
	// damaged is how many records were skipped.
	damaged int
}

// Next returns the oldest callbacks, in the order of Append: at most most, and no
// more once they have this many bytes. The batch is empty if the spool is. Damaged
// callbacks are skipped and logged. There may be only one batch at a time.
//
// If ctx ends before the disk answers, the error wraps its cause.
func (s *Spool) Next(ctx context.Context, most, bytes int) (*Batch, error) {
	var b *Batch
	var failed error
	if err := s.do(ctx, func() { b, failed = s.peek(most, bytes) }); err != nil {
		return nil, err
	}
	return b, failed
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
			// The next batch may begin here, so only this segment stays open.
			return b, nil
		}
	}
	return b, nil
}

// reportDamaged logs a lost record once, and marks its file to be kept.
func (s *Spool) reportDamaged(g *segment, position int) {
	if position < g.reported {
		return
	}
	g.reported = position + 1
	if g.damage == "" {
		g.damage = "a record in it is damaged"
	}
	s.damages++
	s.o.Log.Error("a callback in the spool is damaged and skipped: the disk is failing",
		zap.String("file", g.path()), zap.Int("record", position))
}

// Empty reports whether the spool had nothing.
func (b *Batch) Empty() bool { return len(b.Callbacks)+b.damaged == 0 }

// Done removes a batch for good. An error means that the spool is closed, that ctx
// ended first, or that the rest could not be read. Next may then return the batch
// again; it is still removed if the disk answers late.
func (s *Spool) Done(ctx context.Context, b *Batch) error {
	var failed error
	if err := s.do(ctx, func() { failed = s.drop(len(b.Callbacks) + b.damaged) }); err != nil {
		return fmt.Errorf("remove callbacks from the spool: %w", err)
	}
	return failed
}

// drop marks the n oldest callbacks as done.
func (s *Spool) drop(n int) error {
	for _, g := range s.segments {
		taken := min(n, g.count-g.done)
		g.done += taken
		n -= taken
	}
	s.removeDone()
	return s.findOldest()
}

// removeDone deletes the segments that are all done, and saves how far the oldest
// other one is. If a file cannot be deleted now, check tries again; its callbacks do
// not come out any more.
func (s *Spool) removeDone() {
	kept := s.segments[:0]
	for _, g := range s.segments {
		if g.done < g.count {
			kept = append(kept, g)
			continue
		}
		if g == s.active {
			s.active = nil
		}
		if err := g.remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			if !g.stuck {
				s.o.Log.Error("could not delete an emptied segment of the spool, trying again", zap.String("file", g.path()), zap.Error(err))
			}
			g.stuck = true
			kept = append(kept, g)
		} else if g.damage != "" {
			s.kept++
		}
	}
	clear(s.segments[len(kept):])
	s.segments = kept
	if len(kept) > 0 {
		s.rememberPosition(kept[0])
	}
}

// rememberPosition saves how far the oldest segment is done. If that fails, as on a
// full disk, its callbacks come out again after a restart.
func (s *Spool) rememberPosition(g *segment) {
	err := savePosition(s.o.Dir, g.name, g.done)
	if err != nil && !s.noPosition {
		s.o.Log.Warn("could not save the position of the spool: after a restart callbacks are drained again, which stores none twice", zap.Error(err))
	}
	s.noPosition = err != nil
}

// findOldest finds out when the oldest callback was received.
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
