// Package spool keeps callbacks on disk while the database does not take them: a
// durable, bounded FIFO queue.
//
// Once Append has returned nil, a callback survives the process and the machine.
// After a crash, Next may return callbacks again, so the caller must tolerate
// duplicates. The package knows nothing of Postgres or HTTP.
//
// The files are segments of hashicorp/raft-wal (frames, a checksum for each commit,
// recovery of a torn end), one after the other. A segment is deleted once all its
// callbacks are done. Segments of an earlier process are only read.
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

	"github.com/google/uuid"
	walsegment "github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.uber.org/zap"
)

// closeTimeout is how long Close waits for the disk.
const closeTimeout = 2 * time.Second

// Options are the arguments of Open; all are required.
type Options struct {
	// Dir is created if it does not exist.
	Dir string
	// MaxBytes limits the total size of the files. Space is freed by whole
	// segments.
	MaxBytes int64
	Log      *zap.Logger
}

// Errors of Append.
var (
	// ErrFull: with the callback, the spool would exceed MaxBytes.
	ErrFull = errors.New("the spool is full")
	// ErrTooLarge: the callback is larger than a record may be.
	ErrTooLarge = errors.New("the callback is too large for the spool")
	// ErrClosed: Close has been called.
	ErrClosed = errors.New("the spool is closed")
)

// Stats describe a spool at one moment.
type Stats struct {
	// Bytes is the size of the segments.
	Bytes int64
	// Callbacks is how many are in the spool, including damaged ones.
	Callbacks int
	// Oldest is when the oldest of them was received; zero if there are none.
	Oldest time.Time
	// Files is how many files hold callbacks, or did until the disk damaged them:
	// the segments, and the damaged ones that are kept.
	Files int
	// Damages is how many records and ends of segments have been unreadable since
	// Open.
	Damages int
}

// Spool is safe for concurrent use.
type Spool struct {
	o            Options
	segmentBytes int64
	files        types.VFS
	filer        *walsegment.Filer
	queue        chan pending // unbuffered, so a caller that gives up leaves nothing behind
	jobs         chan func()
	closing      chan struct{}
	ended        chan struct{} // closed when run has returned
	stats        atomic.Pointer[Stats]
	failing      atomic.Pointer[error] // why the disk does not take callbacks

	// The rest belongs to run, the only goroutine that touches the files, so that a
	// stalled disk delays no caller beyond its deadline.
	lock       *os.File   // nil until the directory is open
	notOpen    error      // why it is not
	segments   []*segment // oldest first
	active     *segment   // the last of them, if it is being written
	batch      []pending
	next       uint64 // number of the next record
	oldest     time.Time
	damages    int
	kept       int  // damaged segments that are kept, as last counted
	noPosition bool // saving the position failed last time
}

// Open opens the spool in a directory, for this process alone, and reads what is
// there. Whatever a crash or the disk has damaged is skipped and logged. It is an
// error if others may write to the directory or to a file in it.
//
// A full disk is no error: Failing reports it until there is room. If not even the
// directory or its lock can be created, the spool is empty and rejects all callbacks
// until they can.
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

// open locks the directory for this process and reads what is there.
func (s *Spool) open() error {
	if err := makeDirectory(s.o.Dir); err != nil {
		return fmt.Errorf("create the spool's directory: %w", err)
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

// do has run execute a job, and waits for it until ctx ends. A job that has begun
// is always finished.
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

// segmentSize is small compared with the limit, so that space is freed early.
func segmentSize(maxBytes int64) int64 { return min(max(maxBytes/16, 4<<10), 4<<20) }

// recover reads the segments of earlier processes.
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
	if kept := s.countKept(); len(kept) > 0 {
		s.o.Log.Warn("damaged segments are kept beside the spool", zap.String("files", strings.Join(kept, " ")))
	}
	return s.findOldest()
}

// countKept returns the damaged segments that are kept, until an operator deletes them.
func (s *Spool) countKept() []string {
	kept, err := filepath.Glob(filepath.Join(s.o.Dir, "*"+damagedSuffix))
	if err == nil { // never for this pattern, unless the directory's name is one
		s.kept = len(kept)
	}
	return kept
}

// ID tells this spool from others. It is made at the first call and kept in the
// directory.
func (s *Spool) ID(ctx context.Context) (id uuid.UUID, err error) {
	failed := s.do(ctx, func() {
		if s.lock == nil {
			err = s.notOpen
			return
		}
		id, err = loadID(s.o.Dir)
	})
	return id, errors.Join(failed, err)
}

// Close closes the spool; its callbacks stay in it. It does not wait long for a
// stalled disk.
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

// Stats describes the spool now. It does not wait for the disk.
func (s *Spool) Stats() Stats { return *s.stats.Load() }

// publish updates what Stats returns.
func (s *Spool) publish() {
	stats := Stats{Damages: s.damages, Callbacks: s.waiting(), Files: len(s.segments) + s.kept}
	for _, g := range s.segments {
		stats.Bytes += g.size
	}
	if stats.Callbacks > 0 {
		stats.Oldest = s.oldest
	}
	s.stats.Store(&stats)
}

// Room returns nil if an Append now would probably succeed. It does not wait for the
// disk.
func (s *Spool) Room() error {
	if err := s.Failing(); err != nil {
		return err
	}
	// The size of an ordinary callback.
	const ordinary = 2 << 10
	if s.Stats().Bytes+ordinary > s.o.MaxBytes {
		return ErrFull
	}
	return nil
}
