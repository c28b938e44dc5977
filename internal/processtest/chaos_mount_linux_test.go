package processtest

import (
	"fmt"
	"syscall"
)

func mount(dir string, size int) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size))
}

// unmount does not wait for files that are still open.
func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
