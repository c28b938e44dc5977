// Package spool keeps callbacks on the disk while the database does not take
// them: a queue, first in, first out, durable and bounded.
//
// A callback is in it once Append has returned nil, whatever happens to the
// process or the machine then. What comes out may come out again after a crash,
// so whoever takes it must bear that. It knows nothing of Postgres and HTTP.
//
// The files are segments of hashicorp/raft-wal (frames, a checksum for each
// commit, recovery of a torn end), one after the other; a segment is deleted when
// all of it has been taken out. Segments of an earlier life are only read.
package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	walsegment "github.com/hashicorp/raft-wal/segment"
	"go.uber.org/zap"
)

// Options are the settings of a Spool; all are required.
type Options struct {
	// Dir is made when it is not there.
	Dir string
	// MaxBytes bounds the size of the files. Room comes back by whole segments.
	MaxBytes int64
	Log      *zap.Logger
}

// Errors of Append.
var (
	// ErrFull: the callback would exceed MaxBytes.
	ErrFull = errors.New("the spool is full")
	// ErrTooLarge: one callback is larger than a record may be.
	ErrTooLarge = errors.New("the callback is too large for the spool")
	// ErrClosed: Close has been called.
	ErrClosed = errors.New("the spool is closed")
)

// Stats are the figures of a spool at one moment.
type Stats struct {
	// Bytes is the size of the segments.
	Bytes int64
	// Callbacks are those that wait, damaged ones included.
	Callbacks int
	// Oldest is when the callback that waits longest was received; zero when
	// none waits.
	Oldest time.Time
	// Damages counts, since Open, records and ends of segments that could not be
	// read.
	Damages int
}

// Spool is safe for concurrent use.
type Spool struct {
	o            Options
	segmentBytes int64
	lock         *os.File
	filer        *walsegment.Filer
	queue        chan pending
	closing      chan struct{}
	appender     sync.WaitGroup
	stats        atomic.Pointer[Stats]
	failedAt     atomic.Pointer[time.Time] // the last Append that the disk refused

	// mu guards what follows. It is held through an fsync.
	mu       sync.Mutex
	segments []*segment // oldest first
	active   *segment   // the last of them, when it is being written
	next     uint64     // number of the next record
	oldest   time.Time
	damages  int
}

// Open opens the spool in a directory, for this process alone, and reads through
// what is there. What a crash or the disk has damaged is skipped and logged.
func Open(o Options) (*Spool, error) {
	if err := makeDirectory(o.Dir); err != nil {
		return nil, fmt.Errorf("make the spool's directory: %w", err)
	}
	held, err := lock(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("lock the spool's directory %s: %w", o.Dir, err)
	}
	s := &Spool{
		o: o, segmentBytes: segmentSize(o.MaxBytes), lock: held, filer: walsegment.NewFiler(o.Dir, vfs{}),
		queue: make(chan pending, maxBatch), closing: make(chan struct{}), next: 1,
	}
	if err := s.recover(); err != nil {
		_ = held.Close()
		return nil, fmt.Errorf("open the spool in %s: %w", o.Dir, err)
	}
	s.appender.Go(s.write)
	return s, nil
}

// segmentSize is small beside the limit, so that room comes back early.
func segmentSize(maxBytes int64) int64 { return min(max(maxBytes/16, 4<<10), 4<<20) }

// recover reads through the segments of earlier lives.
func (s *Spool) recover() (err error) {
	if s.segments, err = listSegments(s.o.Dir); err != nil {
		return err
	}
	name, done := loadPosition(s.o.Dir)
	for _, g := range s.segments {
		if err := g.open(s.filer); err != nil {
			return fmt.Errorf("read segment %s: %w", g.name, err)
		}
		g.close()
		if g.name == name {
			g.done = min(done, g.count)
		}
		if g.size == 0 {
			s.damages++
			s.o.Log.Warn("a segment of the spool is empty: the process died before its first callback, or the file was truncated",
				zap.String("file", g.path()))
		}
		if g.damage != "" {
			s.damages++
			s.o.Log.Error("a segment of the spool is damaged: its end was cut off by a crash, or the disk is failing",
				zap.String("file", g.path()), zap.String("damage", g.damage), zap.Int64("bytes", g.size),
				zap.Int("callbacks", g.count), zap.Int("found_behind", len(g.salvaged)))
		}
		s.next = g.info.BaseIndex + baseStep
	}
	if err := s.removeDone(); err != nil {
		return err
	}
	s.warnOfStrangers()
	return s.findOldest()
}

// warnOfStrangers tells of a directory that others may read. The files are ours
// alone in any case.
func (s *Spool) warnOfStrangers() {
	if info, err := os.Stat(s.o.Dir); err == nil && info.Mode().Perm()&0o022 != 0 {
		s.o.Log.Warn("others may write to the spool's directory", zap.String("directory", s.o.Dir), zap.Stringer("mode", info.Mode().Perm()))
	}
	kept, err := filepath.Glob(filepath.Join(s.o.Dir, "*"+damagedSuffix))
	if err == nil && len(kept) > 0 {
		s.o.Log.Warn("damaged segments are kept beside the spool", zap.String("files", strings.Join(kept, " ")))
	}
}

// Close ends the spool; what is in it stays. Nothing may be taken out any more.
func (s *Spool) Close() error {
	close(s.closing)
	s.appender.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		g.close()
	}
	return s.lock.Close()
}

// Stats gives the figures. It does not wait for the disk.
func (s *Spool) Stats() Stats { return *s.stats.Load() }

// publish makes the figures known. s.mu is held.
func (s *Spool) publish() {
	stats := Stats{Damages: s.damages}
	for _, g := range s.segments {
		stats.Bytes += g.size
		stats.Callbacks += g.count - g.done
	}
	if stats.Callbacks > 0 {
		stats.Oldest = s.oldest
	}
	s.stats.Store(&stats)
}

// failureHolds is how long an Append that the disk refused speaks against the
// next one.
const failureHolds = 10 * time.Second

// Room returns nil when an Append now would probably succeed.
func (s *Spool) Room() error {
	if at := s.failedAt.Load(); at != nil && time.Since(*at) < failureHolds {
		return errors.New("the spool's disk does not take callbacks")
	}
	// An ordinary callback is about as large.
	const ordinary = 2 << 10
	if s.Stats().Bytes+ordinary > s.o.MaxBytes {
		return ErrFull
	}
	return nil
}
