package spool

import (
	"context"
	"fmt"
	"os"
	"time"

	walsegment "github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"callbackd/internal/callback"
)

const (
	// maxBatch and batchBytes bound what one fsync covers; the log keeps a buffer
	// of that size.
	maxBatch   = 512
	batchBytes = 1 << 20
)

// pending is a record on its way; done gets its outcome exactly once.
type pending struct {
	record     []byte
	receivedAt time.Time
	done       chan error
}

// Append returns nil once the callback is on the disk, fsynced. Callers that wait
// at the same time share an fsync; nothing is delayed for that.
//
// When ctx ends first, Append returns an error that wraps its cause. The callback
// may still reach the disk later, so it may come out of the spool although the
// caller was told that it was not stored.
func (s *Spool) Append(ctx context.Context, c *callback.Callback) error {
	record, err := encode(c)
	if err != nil {
		return fmt.Errorf("encode a callback for the spool: %w", err)
	}
	if len(record) > walsegment.MaxEntrySize {
		return ErrTooLarge
	}
	p := pending{record: record, receivedAt: c.ReceivedAt, done: make(chan error, 1)}
	select {
	case s.queue <- p:
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return tooSlow(ctx)
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return tooSlow(ctx)
	}
}

// tooSlow is the error of a caller that does not wait for the disk any longer.
func tooSlow(ctx context.Context) error {
	return fmt.Errorf("the spool's disk did not answer in time: %w", ctx.Err())
}

// write writes a callback, and with it those of all callers that wait as well.
func (s *Spool) write(first pending) {
	batch := s.batch[:0]
	batch = append(batch, first)
	size := len(first.record)
fill:
	for len(batch) < maxBatch && size < batchBytes {
		select {
		case p := <-s.queue:
			batch = append(batch, p)
			size += len(p.record)
		default:
			break fill
		}
	}
	s.commit(batch)
	clear(batch)
	s.batch = batch
}

// commit writes a batch with one fsync and tells every waiter.
func (s *Spool) commit(batch []pending) {
	batch = s.refuseWhatDoesNotFit(batch)
	if len(batch) == 0 {
		return
	}
	err := s.appendBatch(batch)
	if err != nil {
		err = fmt.Errorf("write to the spool: %w", err)
		s.fail(err)
	}
	s.publish() // before anybody who was told may ask
	for _, p := range batch {
		p.done <- err
	}
}

// refuseWhatDoesNotFit answers those for which there is no room and returns the
// others.
func (s *Spool) refuseWhatDoesNotFit(batch []pending) []pending {
	used := int64(segmentHeader + frameHeader)
	for _, g := range s.segments {
		used += g.size
	}
	fitting := batch[:0]
	for _, p := range batch {
		const inIndex = 4
		size := frameHeader + aligned(int64(len(p.record))) + inIndex
		if used+size > s.o.MaxBytes {
			p.done <- ErrFull
			continue
		}
		used += size
		fitting = append(fitting, p)
	}
	return fitting
}

// appendBatch writes to the active segment. After an error that segment is not
// written to any more: what the disk holds of the batch is unknown.
func (s *Spool) appendBatch(batch []pending) error {
	if s.lock == nil {
		return s.notOpen
	}
	if s.active == nil {
		g, err := createSegment(s.filer, s.o.Dir, s.next, uint32(s.segmentBytes)) //nolint:gosec // at most 4 MiB
		if err != nil {
			return err
		}
		s.active, s.segments = g, append(s.segments, g)
	}
	g := s.active
	entries := make([]types.LogEntry, len(batch))
	for i, p := range batch {
		entries[i] = types.LogEntry{Index: s.next, Data: p.record}
		s.next++
	}
	if err := g.log.Append(entries); err != nil {
		s.abandon(g)
		return err
	}
	if s.waiting() == 0 {
		s.oldest = batch[0].receivedAt
	}
	g.count += len(batch)
	g.inLog = g.count
	if stat, err := os.Stat(g.path()); err == nil {
		g.size = stat.Size()
	}
	if full, _, _ := g.log.Sealed(); full {
		s.active = nil
		if s.segments[0] != g {
			g.close()
		}
	}
	return nil
}

// abandon ends a segment behind what it is known to hold.
func (s *Spool) abandon(g *segment) {
	s.active = nil
	g.close()
	if g.count > 0 {
		_ = os.Truncate(g.path(), g.size) // else its end counts as torn
		return
	}
	s.segments = s.segments[:len(s.segments)-1]
	_ = os.Remove(g.path()) // else it is found empty and removed
}

// waiting is how many callbacks are in the spool.
func (s *Spool) waiting() int {
	n := 0
	for _, g := range s.segments {
		n += g.count - g.done
	}
	return n
}
