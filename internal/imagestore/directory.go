package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

const (
	fileMode      = 0o600
	directoryMode = 0o700
)

// directory keeps each object in a file, DIRECTORY/xx/NAME.
type directory struct{ path string }

func (d *directory) Kind() string { return KindFile }

// open opens the root, below which all names stay. A directory that is not mounted is an
// error, and not made.
func (d *directory) open() (*os.Root, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, fileError("open the directory of images", err)
	}
	return root, nil
}

// fileError drops the name from a file's error, since it may be a stranger's. It keeps
// what waiting does not mend apart from what it does.
func fileError(doing string, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	if linkErr, ok := errors.AsType[*os.LinkError](err); ok {
		err = linkErr.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: %w (%w)", doing, ErrRefused, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// partial is the name of an object's file while it is written.
func partial(key string) string { return path.Dir(key) + "/." + path.Base(key) + ".part" }

func (d *directory) Put(ctx context.Context, key string, content io.Reader, size int64) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	defer root.Close() // read only
	const doing = "write an object's file"
	if err := root.Mkdir(path.Dir(key), directoryMode); err == nil {
		err = syncDirectory(root, ".")
		if err != nil {
			return fileError(doing, err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return fileError(doing, err)
	}
	if err := writeFile(ctx, root, partial(key), content, size); err != nil {
		_ = root.Remove(partial(key)) // else Delete does
		return fileError(doing, err)
	}
	if err := root.Rename(partial(key), key); err != nil {
		return fileError(doing, err)
	}
	if err := syncDirectory(root, path.Dir(key)); err != nil {
		return fileError(doing, err)
	}
	return nil
}

func writeFile(ctx context.Context, root *os.Root, name string, content io.Reader, size int64) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, &bounded{ctx, content})
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes instead of %d", n, size)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// bounded reads until its context ends.
type bounded struct {
	ctx context.Context //nolint:containedctx // of the one call that reads
	io.Reader
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.Reader.Read(p)
}

// syncDirectory makes the names in a directory durable.
func syncDirectory(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *directory) Get(_ context.Context, key string) (io.ReadCloser, error) {
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	defer root.Close() // the file stays open
	f, err := root.Open(key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrNotFound
	case err != nil:
		return nil, fileError("open an object's file", err)
	}
	return f, nil
}

func (d *directory) Delete(_ context.Context, key string) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	defer root.Close() // read only
	const doing = "delete an object's file"
	gone := 0
	for _, name := range []string{key, partial(key)} {
		err := root.Remove(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			gone++
		case err != nil:
			return fileError(doing, err)
		}
	}
	if gone == 2 {
		return nil
	}
	if err := syncDirectory(root, path.Dir(key)); err != nil {
		return fileError(doing, err)
	}
	return nil
}

func (d *directory) List(ctx context.Context, each func(Object) error) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	defer root.Close() // read only
	var failed error
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // deleted meanwhile
		case err != nil:
			return err
		}
		failed = each(Object{Key: name, Size: info.Size(), ModifiedAt: info.ModTime()})
		return failed
	})
	if failed != nil || err == nil {
		return failed
	}
	return fileError("list the directory of images", err)
}

func (d *directory) Check(context.Context) (warning string, err error) {
	root, err := d.open()
	if err != nil {
		return "", err
	}
	defer root.Close() // read only
	const probe = ".callbackd"
	f, err := root.OpenFile(probe, os.O_WRONLY|os.O_CREATE, fileMode)
	if err != nil {
		return "", fileError("write to the directory of images", err)
	}
	if err := errors.Join(f.Close(), root.Remove(probe)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fileError("write to the directory of images", err)
	}
	if info, err := root.Stat("."); err == nil && info.Mode().Perm()&0o077 != 0 {
		return "others than its owner may read the directory of images, want mode 0700", nil
	}
	return "", nil
}
