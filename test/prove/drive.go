package prove

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// drive is an ext4 file system in a file, whose power can be cut.
type drive struct {
	image   string
	Mount   string // where it is mounted
	mounted bool
}

const driveSize = 256 << 20

// newDrive makes an empty file system in dir and mounts it.
func newDrive(dir string) (*drive, error) {
	d := &drive{image: filepath.Join(dir, "drive.img"), Mount: filepath.Join(dir, "drive")}
	if err := os.Mkdir(d.Mount, 0o750); err != nil {
		return nil, err
	}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(driveSize), f.Close()); err != nil {
		return nil, err
	}
	if err := command("mkfs.ext4", "-q", "-F", d.image); err != nil {
		return nil, err
	}
	return d, d.mount()
}

func (d *drive) mount() error {
	err := command("mount", "-t", "ext4", "-o", "loop", d.image, d.Mount)
	d.mounted = err == nil
	return err
}

// unmount waits for the last descriptors of a process that was killed.
func (d *drive) unmount() error {
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = unix.Unmount(d.Mount, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	d.mounted = err != nil
	if err != nil {
		return fmt.Errorf("unmount %s: %w", d.Mount, err)
	}
	return nil
}

// sync makes everything durable that is on the drive now.
func (d *drive) sync() error { return d.do(unix.Syncfs) }

// EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH of fs/ext4/ext4.h.
const (
	shutdownRequest = 0x8004587d // _IOR('X', 125, __u32)
	noLogFlush      = 2
)

// cut makes the file system refuse everything from now on and forget what it
// has not written: not even the journal's running transaction gets to the file.
func (d *drive) cut() error {
	return d.do(func(fd int) error { return unix.IoctlSetPointerInt(fd, shutdownRequest, noLogFlush) })
}

func (d *drive) do(f func(fd int) error) error {
	dir, err := os.Open(d.Mount)
	if err != nil {
		return err
	}
	return errors.Join(f(int(dir.Fd())), dir.Close())
}

// restore mounts the drive again, as after the power has come back.
func (d *drive) restore() error {
	if err := d.unmount(); err != nil {
		return err
	}
	return d.mount()
}

// close unmounts the drive for good.
func (d *drive) close() error {
	if !d.mounted {
		return nil
	}
	return d.unmount()
}

// needDrive says why no power can be cut here.
func needDrive() string {
	if os.Geteuid() != 0 {
		return "mounting a file system needs root"
	}
	dir, err := os.MkdirTemp("", "mqttetl-drive-")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	d, err := newDrive(dir)
	if err != nil {
		return err.Error()
	}
	if err := errors.Join(d.cut(), d.close()); err != nil {
		return err.Error()
	}
	return needStrace()
}

// command runs a program and returns what it says if it fails.
func command(name string, args ...string) error {
	path, err := lookPath(name)
	if err != nil {
		return err
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
