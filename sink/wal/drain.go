package wal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/PowerDNS/lmdb-go/lmdb"
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
	if l.last == 0 {
		return 0
	}
	left := l.last - min(l.last, max(c.position(), l.first-1))
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
		return &fullError{fmt.Errorf("disk of %s: %s free, which %s needs for what is in the log", l.dir, mqttetl.FormatSize(free), d.name)}
	}
	// While the credit lasts, the log's file may grow by it, and the room that it needs by three times as much.
	d.credit, d.asked = spare/8, time.Now()
	return nil
}

// keptFree is how many bytes of free pages stay allocated in any case, so that
// trimming, which needs some, is possible on a full disk.
const keptFree = 2 << 20

// giveBack gives free pages back to the file system while it has too little
// room for the drain. LMDB writes them anew, as a whole, when it uses them
// again. It is called between transactions.
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
	holes, err := l.unused()
	if err != nil {
		return err
	}
	given := int64(0)
	for _, h := range holes {
		err := retryEINTR(func() error {
			return unix.Fallocate(l.room.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, h.from, h.size)
		})
		if err != nil { // the file system cannot
			return nil
		}
		if given += h.size; given >= short {
			break
		}
	}
	if given > 0 {
		l.log.Debug("gave free pages back to the file system", "bytes", given)
	}
	return nil
}

// age makes a transaction that changes nothing: what the one before it has freed
// may be overwritten from then on.
func (l *Log) age() error {
	c := l.drain.Consumer
	return l.update(func(txn *lmdb.Txn) error {
		return txn.Put(l.dbs.cursors, []byte(c.name), segmentKey(mqttetl.Seq(c.stored.Load())), 0)
	})
}

// hole is a run of pages in the file, in bytes.
type hole struct{ from, size int64 }

// unused are the free pages that the next transaction may overwrite, but for
// keptFree of those that LMDB would take first. Pages that the last transaction
// has freed belong to the state that its predecessor would fall back to, and
// those that a reader may see to the reader.
func (l *Log) unused() (list []hole, err error) {
	before, err := l.oldestReader()
	if err != nil {
		return nil, err
	}
	err = l.env.View(func(txn *lmdb.Txn) error {
		before = min(before, int64(txn.ID()))
		st, err := l.env.Stat()
		if err != nil {
			return err
		}
		size, kept := int64(st.PSize), int64(0)
		return each(txn, freeDB, nil, func(key, val []byte) (bool, error) {
			if int64(nativeWord(key)) >= before {
				return false, nil
			}
			pages := freePages(val)
			slices.Sort(pages) // LMDB takes the lowest first
			keep := min(int64(len(pages)), (keptFree-kept)/size)
			kept += keep * size
			for _, p := range pages[keep:] {
				at := int64(p) * size
				if n := len(list); n > 0 && list[n-1].from+list[n-1].size == at {
					list[n-1].size += size
				} else {
					list = append(list, hole{at, size})
				}
			}
			return true, nil
		})
	})
	slices.SortFunc(list, func(a, b hole) int { return cmp.Compare(b.size, a.size) })
	return list, err
}

// oldestReader is the transaction of the oldest reader in any process, or a
// large number.
func (l *Log) oldestReader() (int64, error) {
	oldest := int64(1) << 62
	err := l.env.ReaderList(func(line string) error { // "pid thread txnid", after a heading; "-" for none
		var id int64
		if f := strings.Fields(line); len(f) == 3 {
			if _, err := fmt.Sscan(f[2], &id); err == nil {
				oldest = min(oldest, id)
			}
		}
		return nil
	})
	return oldest, err
}
