package wal

import (
	"errors"
	"fmt"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"
)

// Room is reserved in steps, so that the file's size changes rarely.
const (
	roomStep  = 16 << 20
	roomSlack = 1 << 20 // for the pages of the trees, which every transaction writes anew
)

// room reserves space in the log's file before LMDB writes it. LMDB reports a
// short write as EIO, the same as a failing drive; with the room reserved
// beforehand the two can be told apart.
type room struct {
	env      *lmdb.Env
	fd       int
	reserved int64 // the file's blocks are allocated up to here
}

func newRoom(env *lmdb.Env) (*room, error) {
	fd, err := env.FD()
	if err != nil {
		return nil, err
	}
	return &room{env: env, fd: int(fd)}, nil
}

// reserve makes sure that a transaction of n bytes of values can be written
// behind the last page of the file. An error that isNoSpace recognises means
// that the transaction fits only if LMDB finds enough free pages.
func (r *room) reserve(n int64) error {
	info, err := r.env.Info()
	if err != nil {
		return err
	}
	st, err := r.env.Stat()
	if err != nil {
		return err
	}
	end := (info.LastPNO+1)*int64(st.PSize) + n + n/64 + roomSlack
	if end <= r.reserved {
		return nil
	}
	for _, upTo := range []int64{end + roomStep, end} {
		if err = fallocate(r.fd, upTo, n+roomSlack); err == nil {
			r.reserved = upTo
			return nil
		}
	}
	return fmt.Errorf("reserve %d bytes: %w", n, err)
}

// fallocate allocates the file's blocks up to size. A file system that cannot
// is asked whether it has need bytes left, and the file is extended without
// blocks, so that it is never shorter than its pages.
func fallocate(fd int, size, need int64) error {
	err := retryEINTR(func() error { return unix.Fallocate(fd, 0, 0, size) })
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	free, err := freeSpace(fd)
	if err != nil {
		return err
	}
	if free < need {
		return unix.ENOSPC
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if size <= st.Size {
		return nil
	}
	return unix.Ftruncate(fd, size)
}

// freeSpace is what an ordinary user may still write on the file's file system, in bytes.
func freeSpace(fd int) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}

// nearlyFull says whether the file system has less left than a transaction of n
// bytes may need.
func (r *room) nearlyFull(n int64) bool {
	free, err := freeSpace(r.fd)
	return err == nil && free < n+roomSlack
}

func retryEINTR(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}

// isNoSpace recognises the errors by which a file system says that it is full
// for this file: no blocks, over quota, over a size limit.
func isNoSpace(err error) bool {
	err = errno(err)
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

// errno is what LMDB or the system call below it returned, or err itself.
func errno(err error) error {
	var op *lmdb.OpError
	if errors.As(err, &op) {
		return op.Errno
	}
	return err
}

// driveError is a commit that failed although there was room: an I/O error,
// whatever name LMDB has for it.
type driveError struct{ error }

// Unwrap makes it the error that it is and EIO.
func (e driveError) Unwrap() []error { return []error{e.error, unix.EIO} }

// freeBytes is the size of the pages that are free for reuse in the file.
func (r *room) freeBytes() (n int64, err error) {
	err = r.env.View(func(txn *lmdb.Txn) error {
		st, err := r.env.Stat()
		if err != nil {
			return err
		}
		txn.RawRead = true
		const freeDB = lmdb.DBI(0) // LMDB's own: transaction id → list of pages, its length first
		return each(txn, freeDB, nil, func(_, val []byte) (bool, error) {
			n += int64(len(val)/8-1) * int64(st.PSize)
			return true, nil
		})
	})
	return n, err
}
