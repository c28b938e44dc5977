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
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	walsegment "github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.uber.org/zap"
)

// closeTimeout is how long Close waits for the disk.
const closeTimeout = 2 * time.Second

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
	files        types.VFS
	filer        *walsegment.Filer
	queue        chan pending // unbuffered: a caller that gives up leaves nothing behind
	jobs         chan func()
	closing      chan struct{}
	ended        chan struct{} // closed when run has returned
	stats        atomic.Pointer[Stats]
	failing      atomic.Pointer[error] // why the disk does not take callbacks

	// What follows belongs to run, the only goroutine that touches the files. So a
	// disk that stalls holds up nobody who has a deadline.
	lock       *os.File   // nil until the directory could be opened
	notOpen    error      // why it could not
	segments   []*segment // oldest first
	active     *segment   // the last of them, when it is being written
	batch      []pending
	next       uint64 // number of the next record
	oldest     time.Time
	damages    int
	noPosition bool // the position could not be saved the last time
}

// Open opens the spool in a directory, for this process alone, and reads through
// what is there. What a crash or the disk has damaged is skipped and logged. A
// directory or a file that others may write to is an error.
//
// A full disk is no error: Failing says so until there is room. Where not even
// the directory or its lock can be made, the spool is empty and refuses all
// callbacks until they can.
func Open(o Options) (*Spool, error) { return openOn(o, vfs{}) }

func openOn(o Options, files types.VFS) (*Spool, error) {
	s := &Spool{
		o: o, segmentBytes: segmentSize(o.MaxBytes), files: files, filer: walsegment.NewFiler(o.Dir, files),
		queue: make(chan pending), jobs: make(chan func()), closing: make(chan struct{}), ended: make(chan struct{}),
	}
	s.publish()
	if s.notOpen = s.open(); noSpace(s.notOpen) {
		s.fail(s.notOpen)
	} else if s.notOpen != nil {
		return nil, s.notOpen
	}
	go s.run()
	return s, nil
}

// open takes the directory for this process and reads through what is there.
func (s *Spool) open() error {
	if err := makeDirectory(s.o.Dir); err != nil {
		return fmt.Errorf("make the spool's directory: %w", err)
	}
	held, err := lock(s.o.Dir)
	if err != nil {
		return fmt.Errorf("lock the spool's directory %s: %w", s.o.Dir, err)
	}
	if err := s.recover(); err != nil {
		s.segments = nil
		_ = held.Close()
		return fmt.Errorf("open the spool in %s: %w", s.o.Dir, err)
	}
	s.lock = held
	return nil
}

// run does all work on the files until Close.
func (s *Spool) run() {
	defer close(s.ended)
	tick := time.NewTicker(checkFailing)
	defer tick.Stop()
	s.watch(s.check)
	checked := time.Now()
	for {
		select {
		case p := <-s.queue:
			s.watch(func() { s.write(p) })
		case job := <-s.jobs:
			s.watch(job)
		case <-tick.C:
			if s.failing.Load() != nil || time.Since(checked) >= checkWorking {
				s.watch(s.check)
				checked = time.Now()
			}
		case <-s.closing:
			return
		}
	}
}

// do has a job run where all work on the files is done, and waits for it until
// ctx ends. A job that has begun is finished in any case.
func (s *Spool) do(ctx context.Context, job func()) error {
	done := make(chan struct{})
	select {
	case s.jobs <- func() { defer close(done); job() }:
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return tooSlow(ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return tooSlow(ctx)
	}
}

// segmentSize is small beside the limit, so that room comes back early.
func segmentSize(maxBytes int64) int64 { return min(max(maxBytes/16, 4<<10), 4<<20) }

// recover reads through the segments of earlier lives.
func (s *Spool) recover() (err error) {
	s.damages, s.next = 0, 1
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
	s.removeDone()
	kept, err := filepath.Glob(filepath.Join(s.o.Dir, "*"+damagedSuffix))
	if err == nil && len(kept) > 0 {
		s.o.Log.Warn("damaged segments are kept beside the spool", zap.String("files", strings.Join(kept, " ")))
	}
	return s.findOldest()
}

// Close ends the spool; what is in it stays. It does not wait long for a disk
// that stalls.
func (s *Spool) Close() error {
	close(s.closing)
	select {
	case <-s.ended:
	case <-time.After(closeTimeout):
		return errors.New("the spool's disk does not answer, its files are left open")
	}
	for _, g := range s.segments {
		g.close()
	}
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// Stats gives the figures. It does not wait for the disk.
func (s *Spool) Stats() Stats { return *s.stats.Load() }

// publish makes the figures known.
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

// Room returns nil when an Append now would probably succeed. It does not wait
// for the disk.
func (s *Spool) Room() error {
	if err := s.Failing(); err != nil {
		return err
	}
	// An ordinary callback is about as large.
	const ordinary = 2 << 10
	if s.Stats().Bytes+ordinary > s.o.MaxBytes {
		return ErrFull
	}
	return nil
}
