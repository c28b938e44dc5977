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
	// codecID in a segment's header says that its records are ours, not raft's.
	codecID = 0x63626b31
	// The sizes of what the log adds; see its segment/format.go.
	segmentHeader = 32
	frameHeader   = 8
	// baseStep is the distance between the first record numbers of two processes:
	// more than any segment holds.
	baseStep = 1 << 20
)

// aligned is n rounded up to the log's alignment.
func aligned(n int64) int64 { return (n + 7) &^ 7 }

// segment is one file of the log.
type segment struct {
	dir  string
	name string
	info types.SegmentInfo
	// size is the file's size in bytes.
	size int64
	// count is the number of records, done how many of them are not needed any more.
	count, done int
	// inLog is how many records the log itself finds. The others, salvaged, follow a
	// damage.
	inLog    int
	salvaged []span
	// damage says what is wrong with the file; empty if nothing is.
	damage string
	// log is open while the segment is written or read.
	log types.SegmentWriter
	// reported is the position up to which damaged records have been logged.
	reported int
	// stuck: the file could not be deleted.
	stuck bool
}

// span is a record's place in a file.
type span struct{ from, length int64 }

// createSegment creates the file to be written next, whose first record is base.
func createSegment(filer *walsegment.Filer, dir string, base uint64, limit uint32) (*segment, error) {
	info := types.SegmentInfo{ID: rand.Uint64(), BaseIndex: base, MinIndex: base, Codec: codecID, SizeLimit: limit}
	w, err := filer.Create(info)
	if err != nil {
		return nil, err
	}
	return &segment{dir: dir, name: walsegment.FileName(info), info: info, log: w}, nil
}

// listSegments returns the segments of earlier processes, oldest first. It ignores
// other files.
func listSegments(dir string) ([]*segment, error) {
	names, err := vfs{}.ListDir(dir)
	if err != nil {
		return nil, err
	}
	var list []*segment // sorted by name, and so by base
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

// open makes the segment readable. The log finds its records up to a damage or a
// torn end; salvage looks for more after that. A damage is no error: an error means
// that the file could not be read, or that others may write to it.
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
		// The header is damaged, or another segment's.
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

// endOfLog returns the end of the last record that the log finds.
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
	defer record.Close() // releases a buffer
	return int64(offset) + frameHeader + aligned(int64(len(record.Bs)))
}

// closing returns the size of what the log wrote after the last record: a commit,
// preceded by an index if the segment is full.
func (g *segment) closing() int64 {
	commit := int64(frameHeader)
	index := frameHeader + aligned(4*int64(g.inLog))
	if g.inLog > 0 && g.size-g.endOfLog() == index+commit {
		return index + commit
	}
	return commit
}

// salvage looks for whole records from an offset on. They begin at multiples of
// eight bytes, as the log's frames do.
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

// read returns the record at a position, counted from 0, and its size in bytes. If
// the error is errDamagedRecord, the record is lost.
func (g *segment) read(position int) (*callback.Callback, int, error) {
	if position >= g.inLog {
		return g.readSalvaged(g.salvaged[position-g.inLog])
	}
	record, err := g.log.GetLog(g.info.BaseIndex + uint64(position)) //nolint:gosec // positive
	if err != nil {
		return nil, 0, errDamagedRecord
	}
	defer record.Close() // releases a buffer
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
		_ = g.log.Close() // everything written is fsynced
		g.log = nil
	}
}

// remove deletes the file; a damaged one it only renames.
func (g *segment) remove() error {
	g.close()
	if g.damage != "" {
		return os.Rename(g.path(), g.path()+damagedSuffix)
	}
	return os.Remove(g.path())
}
