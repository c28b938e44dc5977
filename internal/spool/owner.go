package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// identity decides whether a file is this process's own.
type identity struct {
	user   int
	groups []int
}

func process() (identity, error) {
	groups, err := os.Getgroups()
	return identity{os.Geteuid(), append(groups, os.Getegid())}, err
}

// checkPath returns an error that names the first directory on the path to dir, or
// dir itself, that anybody but root and this process could write to or replace.
// What does not exist yet is fine.
func checkPath(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	// This also detects a cycle of symbolic links.
	info, err := os.Stat(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	me, err := process()
	if err != nil {
		return fmt.Errorf("get the process's groups: %w", err)
	}
	if err := me.checkParents(dir); err != nil || info == nil {
		return err
	}
	return me.check(dir, info)
}

// checkParents checks every directory above path and, if path is a symbolic link,
// those above its target.
func (me identity) checkParents(path string) error {
	parent := filepath.Dir(path)
	if parent == path {
		return nil
	}
	if err := me.checkParents(parent); err != nil {
		return err
	}
	if info, err := os.Stat(parent); err == nil {
		if err := me.checkParent(parent, info); err != nil {
			return err
		}
	}
	link, err := os.Lstat(path)
	if err != nil || link.Mode()&fs.ModeSymlink == 0 {
		return nil //nolint:nilerr // it does not exist yet
	}
	if err := me.checkOwner(path, link); err != nil {
		return err
	}
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(parent, target)
	}
	return me.checkParents(target)
}

// checkParent checks a directory above the spool's. In one that everybody may write
// to, such as /tmp, the sticky bit keeps others from replacing the spool's.
func (me identity) checkParent(path string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSticky != 0 {
		return me.checkOwner(path, info)
	}
	return me.check(path, info)
}

func (me identity) checkOwner(path string, info fs.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && owner.Uid != 0 && int(owner.Uid) != me.user {
		return fmt.Errorf("%s belongs to user %d, it must belong to root or to this process's user %d", path, owner.Uid, me.user)
	}
	return nil
}

// check rejects what others own or may write to. A group may write if it is one of
// this process's own and was given the directory on purpose: by the setgid bit, as
// Kubernetes does for a volume with fsGroup, or as the user's private group, whose
// number is the user's. Root's group may always write.
func (me identity) check(path string, info fs.FileInfo) error {
	if err := me.checkOwner(path, info); err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	mode, group := info.Mode(), int(owner.Gid)
	own := slices.Contains(me.groups, group) && (mode&fs.ModeSetgid != 0 || group == me.user || mode.IsRegular())
	if mode.Perm()&0o002 != 0 || mode.Perm()&0o020 != 0 && !own && group != 0 {
		return fmt.Errorf("others may write to %s (mode %04o, group %d): make it writable for its owner alone, as with chmod go-w", path, mode.Perm(), group)
	}
	return nil
}

// checkFile rejects what is not a regular file of this process's own.
func checkFile(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file (%s)", path, info.Mode().Type())
	}
	me, err := process()
	if err != nil {
		return fmt.Errorf("get the process's groups: %w", err)
	}
	return me.check(path, info)
}

// openFile opens a file of the spool. It follows no symbolic link, does not wait for
// a pipe, and opens nothing that others own or may write to.
func openFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, fileMode)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link", path)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = checkFile(path, info)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
