// Package disk reads the sizes that a file system gives and who may read there, and tells
// when something is moved or removed.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// Unlimited is the size of a file system that names none, such as a tmpfs
// without a limit.
const Unlimited = math.MaxInt64

// Size is the size of the file system, in bytes.
func Size(fs *unix.Statfs_t) int64 { return bytesOf(fs, fs.Blocks) }

// Free is what an ordinary user may still write, in bytes.
func Free(fs *unix.Statfs_t) int64 { return bytesOf(fs, fs.Bavail) }

// bytesOf is no more than Unlimited: some file systems over a network say that
// they have 8 EiB or more.
func bytesOf(fs *unix.Statfs_t, blocks uint64) int64 {
	size := uint64(fs.Frsize)
	if fs.Blocks == 0 || size > 0 && blocks > Unlimited/size {
		return Unlimited
	}
	return int64(blocks * size)
}

// Existing is dir or, before the first start, the nearest parent that exists.
func Existing(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return "", fmt.Errorf("%s is not a directory", dir)
		case err == nil:
			return dir, nil
		case !os.IsNotExist(err) || filepath.Dir(dir) == dir:
			return "", err
		}
		dir = filepath.Dir(dir)
	}
}

// MayRead says why this user cannot read what is at path; nothing is wrong if there is
// nothing.
func MayRead(what, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return mqttetl.WithHint(fmt.Errorf("%s: %w", what, err), "read it as root, or as the user that the service runs as")
	}
	return f.Close()
}
