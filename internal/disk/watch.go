package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Watch calls moved each time that a name in dir has been removed, moved or put in the place of
// another, or dir itself or a directory above it, until ctx ends. It costs nothing while that
// does not happen. What other machines do on a shared file system it may not see. An
// error says why it cannot watch; ctx having ended is none.
func Watch(ctx context.Context, dir string, moved func()) error {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	if err := watchAll(fd, dir); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	moved() // what happened before
	for events := make([]byte, 4096); ; {
		if _, err := f.Read(events); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		moved()
	}
}

// watchAll watches dir, and what its path goes through: the directories above it, the links
// and the directories that hold these.
func watchAll(fd int, dir string) error {
	path, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	itself := path
	if p, err := filepath.EvalSymlinks(path); err == nil {
		itself = p
	}
	const names = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	if _, err := unix.InotifyAddWatch(fd, itself, watchSelf|names|unix.IN_ONLYDIR); err != nil {
		return err
	}
	if err := watchUp(fd, itself); err != nil {
		return err
	}
	return watchUp(fd, path)
}

// watchSelf: the thing itself is moved or removed, beside what is watched of it already.
const watchSelf = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_MASK_ADD

// watchUp watches path and what is above it. What may not be read is left out.
func watchUp(fd int, path string) error {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		if _, err := unix.InotifyAddWatch(fd, path, watchSelf|unix.IN_DONT_FOLLOW); err != nil && err != unix.EACCES {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}
