package wal

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// On a full disk the log lives on its free pages. LMDB writes a page that
// transaction F has freed at the earliest in transaction F+2, and never while a
// reader sees a state before F+1; a transaction that changes nothing does not
// count. A value is one run of pages, either of free pages or after the last page of the
// file. From this follows what has to be done:
//
//   - Appends leave roomSlack to the transactions that free pages (growth).
//   - If nothing but time is missing, empty transactions make it pass (age).
//   - If all is consumed, the last segment is deleted too (transaction.empty).
//   - If free pages and the rest of the disk would be enough for a value, but are no
//     run, they are made one (putInOrder). The package comment says why that suffices.

// freePages counts the free pages of the file, in bytes.
type freePages struct {
	usable int64 // by the next transaction
	soon   int64 // by one of the transactions after it
	held   int64 // not before readers of other processes have ended
}

// census counts the free pages.
func (l *Log) census() (f freePages, err error) {
	reader := l.oldestReader()
	err = l.eachFree(func(freed, last, psize int64, ids []byte) {
		n := int64(len(ids)/8) * psize
		switch {
		case freed < min(last, reader):
			f.usable += n
		case freed < reader:
			f.soon += n
		default:
			f.held += n
		}
	})
	return f, err
}

// eachFree calls fn for the pages freed by each transaction, as of the last one.
func (l *Log) eachFree(fn func(freed, last, psize int64, ids []byte)) error {
	return l.view(func(txn *lmdb.Txn) error {
		st, err := l.env.Stat()
		if err != nil {
			return err
		}
		return each(txn, freeDB, nil, func(key, val []byte) (bool, error) {
			fn(int64(nativeWord(key)), int64(txn.ID()), int64(st.PSize), val[min(8, len(val)):])
			return true, nil
		})
	})
}

// growth lets LMDB take new pages at the end of the file as far as t may: where
// noRoom says that none could be reserved, up to what had been reserved before,
// and an append leaves roomSlack of it, or of free pages, to later transactions
// that free some. LMDB itself then says that it has no room, before it writes.
func (l *Log) growth(t *transaction, noRoom error) error {
	if noRoom == nil && t.gather == 0 {
		return l.limit(max(l.mapped, l.fileLimit(t.bytes)), false)
	}
	end, err := l.room.end()
	if err != nil {
		return err
	}
	upTo := min(l.room.reserved, max(end, l.fileLimit(max(t.bytes, t.gather))))
	if len(t.group) > 0 {
		f, err := l.census()
		if err != nil {
			return err
		}
		slack := l.slack()
		if f.usable < t.need()+max(0, slack-(upTo-end)) {
			return &fullError{fmt.Errorf("disk of %s: %w", l.dir, noRoom), true}
		}
		upTo = max(end, upTo-slack)
	}
	return l.limit(upTo, true)
}

// slack is what an append leaves to the transactions that free pages, where there is no
// more room. An empty log is asked for less, so that it takes what
// fits into one whose free pages are not in the file yet.
func (l *Log) slack() int64 {
	if l.isEmpty() {
		return roomSlack / 2
	}
	return roomSlack
}

// need is what the segments of t may take in pages.
func (t *transaction) need() int64 {
	const round = 8 << 10 // a page that is not full, and its header
	return t.bytes + int64(len(t.runs))*round
}

// fileLimit is the size that the file may grow to for an append of n bytes. It is
// above max_size for pages that are free and cannot be used again yet.
func (l *Log) fileLimit(n int64) int64 {
	return l.maxSize + l.maxSize/4 + 4*groupSize + 2*max(0, n-groupSize)
}

// limit sets the size that the file may grow to. The map is changed only if it
// must be: when it is too small, or was narrowed and need not be any more.
func (l *Log) limit(size int64, narrow bool) error {
	if !narrow && !l.narrow && size <= l.mapped || narrow && l.narrow && size == l.mapped {
		return nil
	}
	l.use.Lock() // no transaction may be open
	defer l.use.Unlock()
	if err := l.env.SetMapSize(size); err != nil {
		return fmt.Errorf("log %s: map %d bytes: %w", l.dir, size, err)
	}
	l.mapped, l.narrow = size, narrow
	return nil
}

// agingWorth is how many bytes must become usable for a transaction that changes
// nothing: it frees the few pages that it writes itself.
const agingWorth = 128 << 10

// makeRoom does what can be done for an append that found no room, for that reason, and
// none in so many rounds before. What fails for lack of room itself may do better in the next one.
func (l *Log) makeRoom(b *mqttetl.Batch, full *fullError, round int) error {
	l.forgetDeadReaders()
	if err := l.trimMore(); err != nil {
		return err
	}
	if l.segments == 1 && l.last >= l.first && l.trimmable() >= l.last {
		if err := l.reclaim(&transaction{log: l, empty: true}); err != nil {
			return err
		}
	}
	t := l.transaction([]*mqttetl.Batch{b})
	if !full.pages {
		if err := l.giveBackFor(t); err != nil {
			return err
		}
	}
	if err := l.letAge(); err != nil || round == 0 || !full.pages || !l.isEmpty() {
		return err
	}
	return l.putInOrder(t, round)
}

// trimMore trims while there is something to trim and room for it, but not for long.
func (l *Log) trimMore() error {
	const atMost = 16
	for range atMost {
		first := l.first
		if l.trimmable() <= l.trimmedTo {
			return nil
		}
		if err := l.housekeep(); err != nil || l.first == first {
			return err
		}
	}
	return nil
}

// letAge makes transactions as long as that makes more pages usable.
func (l *Log) letAge() error {
	for range 2 {
		f, err := l.census()
		if err != nil || f.soon < agingWorth {
			return err
		}
		if err := l.age(); err != nil {
			return err
		}
	}
	return nil
}

// age makes a transaction that changes nothing.
func (l *Log) age() error { return l.reclaim(&transaction{log: l, dirty: true}) }

// reclaim makes a transaction that frees pages, if there is room for it.
func (l *Log) reclaim(t *transaction) error {
	t.log, t.trimAtMost = l, trimAtOnce
	for {
		err := l.attempt(t)
		full := asFull(err)
		if full == nil {
			return err
		}
		if t.trimAtMost > 1 { // the list of what is freed takes pages too
			t.trimAtMost /= 8
			continue
		}
		if full.pages || t.lastResort { // it lacks pages, and not room for those that it has
			return nil
		}
		// Free pages that were given back to the file system have no room now.
		t.lastResort = true
		if err := l.room.giveSlack(); err != nil {
			return err
		}
		l.at.size = l.room.reserved
	}
}

// keptFree is how many bytes of free pages stay allocated, so that trimming, which
// needs some, is possible on a full disk.
const keptFree = 2 << 20

// punch gives so many bytes of free pages back to the file system, and leaves as many
// allocated as are to be kept. LMDB writes a page as a whole when it uses it again.
func (l *Log) punch(short, keep int64) error {
	holes, err := l.unused(keep)
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

// hole is a run of pages in the file, in bytes.
type hole struct{ from, size int64 }

// unused returns the free pages that the next transaction may overwrite, the longest
// run first. It leaves out so many bytes to keep, of the pages that LMDB would take
// first. It also leaves out the pages that the last transaction has freed, because the
// state before it needs them, and the pages that a reader may still see.
func (l *Log) unused(keep int64) (list []hole, err error) {
	reader := l.oldestReader()
	var pages []uint64
	var size int64
	err = l.eachFree(func(freed, last, psize int64, ids []byte) {
		size = psize
		if freed >= min(last, reader) {
			return
		}
		at := len(pages)
		for ; len(ids) >= 8; ids = ids[8:] {
			pages = append(pages, nativeWord(ids[:8]))
		}
		slices.Sort(pages[at:]) // LMDB takes the lowest first
		kept := min(len(pages)-at, int(keep/size))
		keep -= int64(kept) * size
		pages = slices.Delete(pages, at, at+kept)
	})
	slices.Sort(pages)
	for _, p := range pages {
		at := int64(p) * size
		if n := len(list); n > 0 && list[n-1].from+list[n-1].size == at {
			list[n-1].size += size
		} else {
			list = append(list, hole{at, size})
		}
	}
	slices.SortFunc(list, func(a, b hole) int { return cmp.Compare(b.size, a.size) })
	return list, err
}
