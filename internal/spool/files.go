package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/uuid"
	"github.com/hashicorp/raft-wal/types"
)

// The files in the directory other than segments.
const (
	lockFile     = "lock"
	positionFile = "position"
	idFile       = "id"
	testFile     = "test" // written to check the disk, and deleted at once
	// damagedSuffix marks a segment that was read as far as possible and is kept for
	// an operator to examine.
	damagedSuffix = ".damaged"
)

// Nobody else may read what Jumio sent.
const (
	directoryMode = 0o700
	fileMode      = 0o600
)

// vfs provides the log's files: nobody else may read them, and they grow as they are
// written, so that their size shows what they hold.
type vfs struct{}

func (vfs) ListDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (vfs) Create(dir, name string, _ uint64) (types.WritableFile, error) {
	f, err := createFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return &newFile{File: f, dir: dir}, nil
}

func (vfs) Delete(dir, name string) error { return os.Remove(filepath.Join(dir, name)) }

func (vfs) OpenReader(dir, name string) (types.ReadableFile, error) {
	return openFile(filepath.Join(dir, name), os.O_RDONLY)
}

// OpenWriter opens for reading: the files of an earlier process are never written
// to.
func (vfs) OpenWriter(dir, name string) (types.WritableFile, error) {
	return openFile(filepath.Join(dir, name), os.O_RDONLY)
}

// createFile creates a file. It fails if anything of that name exists.
func createFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|syscall.O_NOFOLLOW, fileMode)
}

// newFile makes its name durable together with its first data.
type newFile struct {
	*os.File
	dir   string
	named bool
}

func (f *newFile) Sync() error {
	if err := f.File.Sync(); err != nil || f.named {
		return err
	}
	f.named = true
	return syncDirectory(f.dir)
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // nothing was written through it
	return d.Sync()
}

// makeDirectory creates the directory if it does not exist. It rejects one that
// others may write to or replace.
func makeDirectory(dir string) error {
	if err := checkPath(dir); err != nil {
		return err
	}
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(dir, directoryMode); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(filepath.Clean(dir)))
}

// lock keeps a second process out until the file is closed.
func lock(dir string) (*os.File, error) {
	f, err := openFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("another process is using it")
		}
		return nil, err
	}
	return f, nil
}

// savePosition saves how far the oldest segment is done. It replaces the file as a
// whole and does not fsync it: with an older position, or none, Next only returns
// callbacks again.
func savePosition(dir, segment string, done int) error {
	text := fmt.Sprintf("%s %d", segment, done)
	text = fmt.Sprintf("%s %08x\n", text, checksum([]byte(text)))
	return replaceFile(filepath.Join(dir, positionFile), text)
}

// replaceFile replaces a small file as a whole, without an fsync.
func replaceFile(path, text string) error {
	_ = os.Remove(path + ".new") // a crash may have left one
	f, err := createFile(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return os.Rename(path+".new", path)
}

// loadID returns the spool's id; if there is none, or it cannot be read, a new one that
// it saves.
func loadID(dir string) (uuid.UUID, error) {
	path := filepath.Join(dir, idFile)
	if f, err := openFile(path, os.O_RDONLY); err == nil {
		defer f.Close() // only read
		var text string
		_, _ = fmt.Fscan(f, &text) // what cannot be read is no id
		if id, err := uuid.Parse(text); err == nil {
			return id, nil
		}
	}
	id := uuid.New()
	if err := replaceFile(path, id.String()+"\n"); err != nil {
		return uuid.Nil, fmt.Errorf("save the spool's id: %w", err)
	}
	return id, nil
}

func loadPosition(dir string) (segment string, done int) {
	f, err := openFile(filepath.Join(dir, positionFile), os.O_RDONLY)
	if err != nil {
		return "", 0
	}
	defer f.Close() // only read
	var sum uint32
	if _, err := fmt.Fscanf(f, "%s %d %08x\n", &segment, &done, &sum); err != nil || done < 0 ||
		sum != checksum(fmt.Appendf(nil, "%s %d", segment, done)) {
		return "", 0
	}
	return segment, done
}
