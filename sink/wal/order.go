package wal

import (
	"bytes"
	"fmt"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"
)

// passesAtOnce is how often the pages are put in order for one append, at most; after
// that only each passesLater-th round does it. One pass is enough, unless a reader keeps
// an old snapshot meanwhile, or what its first transaction frees fills a page: that
// page it may have taken before it had read the whole list. The second pass moves it.
const (
	passesAtOnce = 4
	passesLater  = 16
)

// putInOrder makes one run of the free pages and of what is left of the disk, for a
// value that the empty log has refused although it needs no more bytes than there are.
func (l *Log) putInOrder(t *transaction, round int) error {
	if l.passes >= passesAtOnce && round%passesLater != 0 {
		return nil
	}
	grow, err := l.checkDrain(t)
	if asFull(err) != nil {
		return nil
	}
	if err != nil {
		return err
	}
	need := t.need()
	more, err := l.room.reserveSome(need+roomSlack, grow)
	if err != nil {
		return err
	}
	f, err := l.census()
	if err != nil || f.usable+f.soon+more < need+l.slack() {
		return err
	}
	l.passes++
	for _, t := range []*transaction{{gather: need}, {gather: need, rewrite: true}, {dirty: true}, {dirty: true}} {
		if err := l.reclaim(t); err != nil {
			return err
		}
	}
	return nil
}

// isEmpty says whether the log holds no records.
func (l *Log) isEmpty() bool { return l.segments == 0 || l.first > l.last }

// gatherPages has LMDB read its whole list of free pages, and makes the rest of the file
// a part of it: it takes all of them for values, and deletes these again. The list
// is then written anew, lowest pages first.
func (t *transaction) gatherPages(txn *lmdb.Txn) error {
	n, err := t.fill(txn)
	for i := range n {
		if err == nil {
			err = txn.Del(t.log.dbs.meta, fillKey(i), nil)
		}
	}
	return err
}

// fillAtMost bounds the values of fill. Few runs of pages are free in an empty log,
// and each takes about as many values as its length has bits.
const fillAtMost = 20_000

func fillKey(i int) []byte { return fmt.Appendf(nil, "fill %d", i) }

// fill takes all pages that are free, and all up to the limit of the file, for values, and
// says how many these are. What does not fit is tried in half the size, down to one page.
func (t *transaction) fill(txn *lmdb.Txn) (n int, err error) {
	const header = 16 // of the first page of a value
	const largest = 1 << 30
	st, err := t.log.env.Stat()
	if err != nil {
		return 0, err
	}
	pages := min(t.log.mapped, largest) / int64(st.PSize)
	for n < fillAtMost && pages > 0 {
		// Within a transaction of its own, because LMDB gives up one in which something did not fit.
		err := txn.Sub(func(sub *lmdb.Txn) error {
			_, err := sub.PutReserve(t.log.dbs.meta, fillKey(n), int(pages*int64(st.PSize)-header), 0)
			return err
		})
		switch {
		case err == nil:
			n++
		case lmdb.IsMapFull(err), lmdb.IsErrno(err, lmdb.TxnFull), lmdb.IsErrnoSys(err, unix.ENOMEM):
			pages /= 2
		default:
			return n, err
		}
	}
	return n, nil
}

// rewriteAtOnce bounds the entries that are in memory at once.
const rewriteAtOnce = 10_000

// rewriteAll writes all that an empty log holds anew, on the lowest free pages.
func (t *transaction) rewriteAll(txn *lmdb.Txn) error {
	for _, dbi := range t.log.dbs.names() {
		for from := []byte(nil); ; {
			var keys, values [][]byte
			if err := each(txn, *dbi, from, func(key, val []byte) (bool, error) {
				keys, values = append(keys, bytes.Clone(key)), append(values, bytes.Clone(val))
				return len(keys) < rewriteAtOnce, nil
			}); err != nil {
				return err
			}
			for i, key := range keys {
				if err := txn.Put(*dbi, key, values[i], 0); err != nil {
					return err
				}
			}
			if len(keys) < rewriteAtOnce {
				break
			}
			from = append(keys[len(keys)-1], 0)
		}
	}
	return nil
}
