package prove

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// needMount says why nothing can be mounted here.
func needMount() string {
	if os.Getuid() != 0 {
		return "not root: may not mount"
	}
	dir, err := os.MkdirTemp("", "mount-")
	if err != nil {
		return err.Error()
	}
	defer os.Remove(dir)
	unmount, err := mountSmall(dir, 1)
	if err != nil {
		return fmt.Sprintf("may not mount: %v", err)
	}
	unmount()
	return ""
}

// mountSmall mounts a file system in memory of so many MiB at dir.
func mountSmall(dir string, size int) (unmount func(), err error) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		return nil, fmt.Errorf("mount tmpfs at %s: %w", dir, err)
	}
	return func() { unix.Unmount(dir, unix.MNT_DETACH) }, nil
}

// fill writes path until there is no room left.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	return nil
}
