package wal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/internal/disk"
)

// Room is reserved in steps, so that the file's size changes rarely.
const (
	roomStep  = 16 << 20
	roomSlack = 1 << 20 // for the pages of the trees, which every transaction writes anew; on a full disk no append takes it
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
	r := &room{env: env, fd: int(fd)}
	return r, r.cut()
}

// cut gives back what an earlier process has reserved beyond the last page, but
// for the slack: on a full disk there may be no room for it a second time.
func (r *room) cut() error {
	end, err := r.end()
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return err
	}
	r.reserved = min(st.Size, end+roomSlack)
	if st.Size <= r.reserved {
		return nil
	}
	return unix.Ftruncate(r.fd, r.reserved)
}

// end is where the last page of the file ends.
func (r *room) end() (int64, error) {
	info, err := r.env.Info()
	if err != nil {
		return 0, err
	}
	st, err := r.env.Stat()
	if err != nil {
		return 0, err
	}
	return (info.LastPNO + 1) * int64(st.PSize), nil
}

// reserve makes sure that a transaction of n bytes of values can be written
// after the last page of the file. An error that isNoSpace recognises means
// that the transaction fits only if LMDB finds enough free pages. At most so many bytes are
// taken of the file system for it.
func (r *room) reserve(n, most int64) error {
	used, err := r.end()
	if err != nil {
		return err
	}
	end := used + n + n/64 + roomSlack
	if end <= r.reserved {
		return nil
	}
	err = fmt.Errorf("the rest is needed for what is in the log: %w", unix.ENOSPC)
	for _, upTo := range []int64{end + r.step(), end} {
		if upTo-max(r.reserved, used) > most {
			continue
		}
		if err = r.allocate(used, upTo, n+roomSlack); err == nil {
			r.reserved = upTo
			return nil
		}
	}
	return fmt.Errorf("reserve %d bytes: %w", n, err)
}

// growth is how many bytes reserve takes of the file system at least for a transaction of n bytes.
func (r *room) growth(n int64) (int64, error) {
	used, err := r.end()
	return max(0, used+n+n/64+roomSlack-max(r.reserved, used)), err
}

// reserveSome reserves as much of n bytes as there is room for, and says how much that is.
// At most so many bytes are taken of the file system for it.
func (r *room) reserveSome(n, most int64) (int64, error) {
	end, err := r.end()
	if err != nil {
		return 0, err
	}
	r.reserved = max(r.reserved, end)
	if had := r.reserved - end; n-had > most {
		n = had + max(0, most)
	}
	const page = 1 << 12
	for most := n &^ (page - 1); r.reserved < end+most; {
		upTo := r.reserved + max(page, (end+most-r.reserved)/2&^(page-1))
		if r.allocate(end, upTo, upTo-end) == nil {
			r.reserved = upTo
		} else {
			most = upTo - page - end
		}
	}
	return r.reserved - end, nil
}

// allocate is fallocate that leaves the file as it was if it fails: some file
// systems keep the part for which they had room.
func (r *room) allocate(from, size, need int64) error {
	var before, after unix.Stat_t
	if err := unix.Fstat(r.fd, &before); err != nil {
		return err
	}
	err := fallocate(r.fd, from, size, need)
	if err == nil || unix.Fstat(r.fd, &after) != nil || after.Size <= before.Size {
		return err
	}
	return errors.Join(err, unix.Ftruncate(r.fd, before.Size))
}

// giveSlack gives up what is reserved, for a transaction that needs it for pages
// that were given back to the file system.
func (r *room) giveSlack() error {
	end, err := r.end()
	if err != nil || r.reserved <= end {
		return err
	}
	r.reserved = end
	return unix.Ftruncate(r.fd, end)
}

// step is how far ahead room is reserved: less where there is little, for
// others need it too.
func (r *room) step() int64 {
	free, err := freeSpace(r.fd)
	if err != nil {
		return 0
	}
	return min(roomStep, free/16)
}

// fallocate allocates the file's blocks from a position up to size. A file system that cannot
// is asked whether it has need bytes left, and the file is extended without
// blocks, so that it is never shorter than its pages.
func fallocate(fd int, from, size, need int64) error {
	err := retryEINTR(func() error { return unix.Fallocate(fd, 0, from, size-from) })
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

// freeSpace is what an ordinary user may still write on the file's file system, in
// bytes; a large number where it has no limit.
func freeSpace(fd int) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return 0, err
	}
	return disk.Free(&fs), nil
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

// freeDB is LMDB's own database of free pages: the transaction that has freed
// them → their number and numbers, all in words of the machine.
const freeDB = lmdb.DBI(0)

func nativeWord(p []byte) uint64 {
	if len(p) != 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(p)
}
