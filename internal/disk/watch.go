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

func watchAll(fd int, dir string) error {
	const self = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	path, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if itself, err := filepath.EvalSymlinks(path); err == nil {
		path = itself
	}
	if _, err := unix.InotifyAddWatch(fd, path, self|unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
		return err
	}
	for above := filepath.Dir(path); above != filepath.Dir(above); above = filepath.Dir(above) {
		_, _ = unix.InotifyAddWatch(fd, above, self) // one that may not be read is not watched
	}
	return nil
}
