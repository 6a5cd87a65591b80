package wal

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/disk"
)

// DefaultMaxSize is the size of a log in dir for which none is given: 16 GiB or
// a quarter of the file system, whichever is less. dir need not be there yet, but
// the directory above it must.
func DefaultMaxSize(dir string) int64 {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return mostMaxSize
	}
	return max(leastMaxSize, min(mostMaxSize, disk.Size(&fs)/4))
}

const (
	leastMaxSize = 1 << 20
	mostMaxSize  = 16 << 30
)

// A drain is a consumer that stores what it reads on the log's own file system.
// If the log took all of it, the consumer could not drain it, and neither would
// ever go on. So the log holds no more for it than it has room to store, and gives
// free pages back to the file system when room is short.
type drain struct {
	*Consumer
	credit int64     // bytes that may be appended before the file system is asked again
	asked  time.Time // when it was asked last
	gave   int64     // the transaction up to which free pages have been given back
}

// creditTime is how long an answer of the file system holds: others write too.
const creditTime = time.Second

// drainRoom is the room that a consumer needs to store n bytes of the log: the
// rows, half as much again for what a row has around it, and the same once more
// for the write-ahead log of a transaction, which has an end.
func drainRoom(n int64) int64 {
	const transaction, always = 32 << 20, 3 << 20
	return n + n/2 + 3*min(n, transaction)/2 + always
}

// pending estimates how many bytes of the log c has not yet stored.
func (l *Log) pending(c *Consumer) int64 {
	left := l.last - min(l.last, max(c.position(), max(l.first, 1)-1))
	if left == 0 {
		return 0
	}
	return int64(float64(l.pages) * float64(left) / float64(l.last-l.first+1))
}

// checkDrain refuses n more bytes when what is in the log for the drain could
// not be stored with them.
func (l *Log) checkDrain(n int64) error {
	d := l.drain
	if d == nil || n == 0 {
		return nil
	}
	if n <= d.credit && time.Since(d.asked) < creditTime {
		d.credit -= n
		return nil
	}
	free, err := freeSpace(l.room.fd)
	if err != nil {
		return fmt.Errorf("log %s: free space: %w", l.dir, err)
	}
	spare := free - drainRoom(l.pending(d.Consumer)+n)
	if spare < 0 {
		d.credit = 0
		return &fullError{fmt.Errorf("disk of %s: %s free, which %s needs for what is in the log", l.dir, mqttetl.FormatSize(free), d.name), false}
	}
	// While the credit lasts, the log's file may grow by it, and the room that it needs by three times as much.
	d.credit, d.asked = spare/8, time.Now()
	return nil
}

// giveBack gives free pages back to the file system while it has too little
// room for the drain. It is called between transactions.
func (l *Log) giveBack() error {
	d := l.drain
	if d == nil {
		return nil
	}
	free, err := freeSpace(l.room.fd)
	if err != nil {
		return err
	}
	short := drainRoom(l.pending(d.Consumer)) - free
	info, err := l.env.Info()
	if err != nil || short <= 0 || info.LastTxnID == d.gave {
		return err
	}
	if err := l.age(); err != nil {
		return nil // no room for that either: the next time
	}
	d.gave = info.LastTxnID + 1
	return l.punch(short, keptFree)
}
