package access

import (
	"io/fs"
	"syscall"
)

// inode tells a file from another that has taken its name.
func inode(info fs.FileInfo) any {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return nil
}
