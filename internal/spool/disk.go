package spool

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// checkFailing and checkWorking are the intervals between checks of a disk that
	// fails, and of one that works.
	checkFailing = time.Second
	checkWorking = 10 * time.Second
	// checkBytes is what a check writes: the size of some thirty callbacks.
	checkBytes = 64 << 10
	// stallAfter is how long work on the disk may take before it counts as stalled.
	stallAfter = 2 * time.Second
)

var errStalled = errors.New("the disk has not answered for 2 seconds")

// Failing returns why the disk does not take callbacks: it is full, broken or
// stalled. It returns nil if the disk works, and does not wait for it.
func (s *Spool) Failing() error {
	if err := s.failing.Load(); err != nil {
		return *err
	}
	return nil
}

// fail records why the disk does not take callbacks, and logs it if it did until now.
func (s *Spool) fail(err error) {
	if s.failing.Swap(&err) == nil {
		s.o.Log.Error("the spool's disk does not take callbacks", zap.String("directory", s.o.Dir), zap.Error(err))
	}
}

// check tests whether the disk takes callbacks, opens the spool if that was
// impossible until now, deletes what could not be deleted before, and notices that an
// operator has deleted damaged segments.
func (s *Spool) check() {
	err := s.tryDisk()
	if err != nil {
		s.fail(err)
		return
	}
	for _, g := range s.segments {
		if g.stuck {
			s.removeDone()
			break
		}
	}
	s.countKept()
	s.publish()
	if s.failing.Swap(nil) != nil {
		s.o.Log.Info("the spool's disk takes callbacks again", zap.String("directory", s.o.Dir))
	}
}

// tryDisk writes a small file, the way callbacks are written, and deletes it.
func (s *Spool) tryDisk() error {
	if s.lock == nil {
		if s.notOpen = s.open(); s.notOpen != nil {
			return s.notOpen
		}
	}
	_ = s.files.Delete(s.o.Dir, testFile) // a crash may have left one
	f, err := s.files.Create(s.o.Dir, testFile, checkBytes)
	if err != nil {
		return fmt.Errorf("check the spool's disk: %w", err)
	}
	_, err = f.WriteAt(make([]byte, checkBytes), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), s.files.Delete(s.o.Dir, testFile)); err != nil {
		return fmt.Errorf("check the spool's disk: %w", err)
	}
	return nil
}

// watch does work on the disk. If that takes too long, the disk counts as stalled
// until a check succeeds.
func (s *Spool) watch(work func()) {
	stalled := time.AfterFunc(stallAfter, func() { s.fail(errStalled) })
	work()
	if !stalled.Stop() {
		s.check()
	}
}

// noSpace reports whether a full disk or an exhausted quota is the reason.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
