package spool

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	walsegment "github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"callbackd/internal/callback"
)

const (
	// codecID stands in the segments' headers: our records, not raft's.
	codecID = 0x63626b31
	// What the log adds, see its segment/format.go.
	segmentHeader = 32
	frameHeader   = 8
	// baseStep lies between the first numbers of the records of two lives of the
	// spool: more than any segment holds.
	baseStep = 1 << 20
)

// aligned is n rounded up to the log's alignment.
func aligned(n int64) int64 { return (n + 7) &^ 7 }

// segment is one file of the log.
type segment struct {
	dir  string
	name string
	info types.SegmentInfo
	// size is that of the file.
	size int64
	// count are the records in it, done those that need not be read any more.
	count, done int
	// inLog are those that the log itself finds; the others were found behind a
	// damage, in this order.
	inLog    int
	salvaged []span
	// damage says what is wrong with the file; empty when nothing is.
	damage string
	// log is open while the segment is written or read.
	log types.SegmentWriter
	// reported is how far damaged records have been told of.
	reported int
	// stuck says that the file could not be deleted.
	stuck bool
}

// span is a record's place in a file.
type span struct{ from, length int64 }

// createSegment makes the file that is written next, for records from base on.
func createSegment(filer *walsegment.Filer, dir string, base uint64, limit uint32) (*segment, error) {
	info := types.SegmentInfo{ID: rand.Uint64(), BaseIndex: base, MinIndex: base, Codec: codecID, SizeLimit: limit}
	w, err := filer.Create(info)
	if err != nil {
		return nil, err
	}
	return &segment{dir: dir, name: walsegment.FileName(info), info: info, log: w}, nil
}

// listSegments finds the files of earlier lives, oldest first. Other files are
// nothing to us.
func listSegments(dir string) ([]*segment, error) {
	names, err := vfs{}.ListDir(dir)
	if err != nil {
		return nil, err
	}
	var list []*segment // in the order of the names, which is that of the bases
	for _, name := range names {
		info := types.SegmentInfo{Codec: codecID}
		if n, _ := fmt.Sscanf(name, "%020d-%016x.wal", &info.BaseIndex, &info.ID); n != 2 || name != walsegment.FileName(info) {
			continue
		}
		info.MinIndex = info.BaseIndex
		list = append(list, &segment{dir: dir, name: name, info: info})
	}
	return list, nil
}

func (g *segment) path() string { return filepath.Join(g.dir, g.name) }

// open makes the segment readable: the log finds its records up to a damage or
// a torn end, and what it does not find is looked for behind that. An error
// means that the disk did not answer; a damage is no error.
func (g *segment) open(filer *walsegment.Filer) error {
	if g.log != nil {
		return nil
	}
	stat, err := os.Lstat(g.path())
	if err != nil {
		return err
	}
	if err := checkFile(g.path(), stat); err != nil {
		return err
	}
	g.size, g.inLog, g.salvaged, g.damage = stat.Size(), 0, nil, ""
	if g.log, err = filer.RecoverTail(g.info); err != nil {
		// A header that is no header, or that of another segment.
		g.log, g.damage = nil, "its beginning is unreadable"
	} else if last := g.log.LastIndex(); last > 0 {
		g.inLog = int(last - g.info.BaseIndex + 1) //nolint:gosec // one file's records
	}
	end := g.endOfLog()
	if rest := g.size - end; rest != 0 && rest != g.closing() {
		if g.damage == "" {
			g.damage = fmt.Sprintf("unreadable from byte %d on", end)
		}
		if g.salvaged, err = salvage(g.path(), end); err != nil {
			g.close()
			return err
		}
	}
	g.count = g.inLog + len(g.salvaged)
	g.done = min(g.done, g.count)
	return nil
}

// endOfLog is where the last record that the log finds ends.
func (g *segment) endOfLog() int64 {
	if g.inLog == 0 {
		return 0
	}
	last := g.info.BaseIndex + uint64(g.inLog) - 1 //nolint:gosec // positive
	offset, err := g.log.(*walsegment.Writer).OffsetForFrame(last)
	if err != nil {
		return 0
	}
	record, err := g.log.GetLog(last)
	if err != nil {
		return int64(offset)
	}
	defer record.Close() // gives a buffer back
	return int64(offset) + frameHeader + aligned(int64(len(record.Bs)))
}

// closing is what the log writes behind the last record: a commit, and before
// that an index where the segment had become full.
func (g *segment) closing() int64 {
	commit := int64(frameHeader)
	index := frameHeader + aligned(4*int64(g.inLog))
	if g.inLog > 0 && g.size-g.endOfLog() == index+commit {
		return index + commit
	}
	return commit
}

// salvage looks for whole records from a place in a file on. They begin at
// multiples of eight bytes, as the log's frames do.
func salvage(path string, from int64) ([]span, error) {
	f, err := openFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	var found []span
	for at := aligned(from); at+recordHeader <= int64(len(content)); {
		n := int64(recordLength(content[at:]))
		if n == 0 {
			at += 8
			continue
		}
		found = append(found, span{at, n})
		at = aligned(at + n)
	}
	return found, nil
}

// read gives the record at a position, counted from 0. errDamagedRecord means
// that it is lost.
func (g *segment) read(position int) (*callback.Callback, int, error) {
	if position >= g.inLog {
		return g.readSalvaged(g.salvaged[position-g.inLog])
	}
	record, err := g.log.GetLog(g.info.BaseIndex + uint64(position)) //nolint:gosec // positive
	if err != nil {
		return nil, 0, errDamagedRecord
	}
	defer record.Close() // gives a buffer back
	c, err := decode(record.Bs)
	return c, len(record.Bs), err
}

func (g *segment) readSalvaged(s span) (*callback.Callback, int, error) {
	f, err := openFile(g.path(), os.O_RDONLY)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() // only read
	b := make([]byte, s.length)
	if _, err := f.ReadAt(b, s.from); err != nil {
		return nil, 0, errDamagedRecord
	}
	c, err := decode(b)
	return c, len(b), err
}

func (g *segment) close() {
	if g.log != nil {
		_ = g.log.Close() // what it wrote is fsynced
		g.log = nil
	}
}

// remove deletes the file; a damaged one is only set aside.
func (g *segment) remove() error {
	g.close()
	if g.damage != "" {
		return os.Rename(g.path(), g.path()+damagedSuffix)
	}
	return os.Remove(g.path())
}
