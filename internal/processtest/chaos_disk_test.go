package processtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// diskSize is that of the file system which is filled.
const diskSize = 32 << 20

const diskFull = "disk full"

// fillDisk moves the table of callbacks to a small file system and fills that.
// Mounting one needs root; where that is impossible, the ledger says so.
func (r *chaosRig) fillDisk(postgres *outage, long time.Duration) {
	r.t.Helper()
	const tablespace = "small"
	dir := filepath.Join(postgres.server.Dir(), tablespace)
	if r.db.count(`SELECT count(*) FROM pg_tablespace WHERE spcname = $1`, tablespace) == 0 {
		if err := r.mountSmall(dir, postgres.server.Dir()); err != nil {
			delete(r.line.faults, diskFull)
			r.line.notDone = append(r.line.notDone, fmt.Sprintf("%s in %s: %v", diskFull, r.t.Name(), err))
			return
		}
		r.exec(`CREATE TABLESPACE ` + tablespace + ` LOCATION '` + dir + `'`)
		r.exec(`ALTER TABLE callbackd.callbacks_1 SET TABLESPACE ` + tablespace)
	}
	filler := filepath.Join(dir, "filler")
	if err := fill(filler); err != nil {
		r.t.Fatalf("fill the disk: %v", err)
	}
	// Until the pages that the table has are full, nothing is felt.
	r.felt()
	hold(long)
	if err := os.Remove(filler); err != nil {
		r.t.Fatal(err)
	}
}

// mountSmall mounts a small file system that the server may write to.
func (r *chaosRig) mountSmall(dir, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of a directory is not known here")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := mount(dir, diskSize); err != nil {
		return errors.Join(fmt.Errorf("mount a small file system: %w", err), os.Remove(dir))
	}
	r.t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			r.t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return os.Chown(dir, int(owner.Uid), int(owner.Gid))
}

// fill writes a file until the file system is full.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(f, zeros{}, 2*diskSize)
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return errors.Join(errors.New("the file system takes more than it should"), err)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
