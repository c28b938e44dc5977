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
	// maxBatch and batchBytes limit what one fsync covers; the log keeps a buffer of
	// that size.
	maxBatch   = 512
	batchBytes = 1 << 20
)

// pending is a record to be written; done gets its outcome exactly once.
type pending struct {
	record     []byte
	receivedAt time.Time
	done       chan error
}

// Append returns nil once the callback is fsynced. Callers that wait at the same
// time share an fsync; nothing is delayed for that.
//
// If ctx ends first, Append returns an error that wraps its cause. The callback may
// still reach the disk later, and so come out of the spool although its sender was
// told that it was not stored.
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

// tooSlow is the error of a caller that has stopped waiting for the disk.
func tooSlow(ctx context.Context) error {
	return fmt.Errorf("the spool's disk did not answer in time: %w", ctx.Err())
}

// write writes a callback together with those of all other waiting callers.
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
	batch = s.rejectWhatDoesNotFit(batch)
	if len(batch) == 0 {
		return
	}
	err := s.appendBatch(batch)
	if err != nil {
		err = fmt.Errorf("write to the spool: %w", err)
		s.fail(err)
	}
	s.publish() // before a caller learns the outcome and asks
	for _, p := range batch {
		p.done <- err
	}
}

// rejectWhatDoesNotFit answers those for which there is no room and returns the
// others.
func (s *Spool) rejectWhatDoesNotFit(batch []pending) []pending {
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

// appendBatch writes to the active segment. After an error it is not written to any
// more, because it is unknown what the disk holds of the batch.
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

// abandon ends a segment after what it is known to hold.
func (s *Spool) abandon(g *segment) {
	s.active = nil
	g.close()
	if g.count > 0 {
		_ = os.Truncate(g.path(), g.size) // otherwise its end counts as torn
		return
	}
	s.segments = s.segments[:len(s.segments)-1]
	_ = os.Remove(g.path()) // otherwise it is found empty and then removed
}

// waiting returns how many callbacks are in the spool.
func (s *Spool) waiting() int {
	n := 0
	for _, g := range s.segments {
		n += g.count - g.done
	}
	return n
}
