package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
)

// transaction is one write transaction in the making. Its fields below the line
// are what becomes the state of the log if it commits.
type transaction struct {
	log   *Log
	group []*mqttetl.Batch
	runs  []run
	bytes int64 // upper bound of the segments

	trimAtMost int   // segments
	dirty      bool  // counts as a transaction, whatever it changes
	empty      bool  // deletes the last segment as well
	lastResort bool  // no room is reserved for it
	gather     int64 // bytes for which free pages and the rest of the file are made one list, 0: not; see gatherPages
	rewrite    bool  // writes all that an empty log holds anew, on the lowest of these pages

	first, last mqttetl.Seq
	records     int
	firsts      []mqttetl.Seq // of each batch of the group
	pages       int64
	segments    int
	moved       []move
	past        mqttetl.Seq // what every consumer is durably past, as of moved
	dead        deadChange
	trimmedTo   mqttetl.Seq
}

// move is a stored position that the transaction changes.
type move struct {
	c  *Consumer
	to mqttetl.Seq
}

// runs splits a group into the segments to be written.
func runs(group []*mqttetl.Batch) []run {
	var rs []run
	for _, b := range group {
		if b.Len() == 0 {
			continue
		}
		if len(rs) == 0 || !rs[len(rs)-1].fits(b) {
			rs = append(rs, run{})
		}
		rs[len(rs)-1].add(b)
	}
	return rs
}

// write is the body of the transaction.
func (t *transaction) write(txn *lmdb.Txn) (err error) {
	l := t.log
	t.first, t.last, t.trimmedTo = l.first, l.last, l.trimmedTo
	t.records, t.firsts, t.moved = 0, t.firsts[:0], t.moved[:0]
	if err := t.append(txn); err != nil {
		return err
	}
	if err := t.changeIDs(txn); err != nil {
		return err
	}
	if err := t.writeNotes(txn); err != nil {
		return err
	}
	if err := t.moveCursors(txn); err != nil {
		return err
	}
	// After the positions: a dead letter that came before a Commit is in.
	if t.dead, err = l.writeDead(txn); err != nil {
		return err
	}
	if err := t.trim(txn); err != nil {
		return err
	}
	if err := t.tidyUp(txn); err != nil {
		return err
	}
	if t.segments, err = countEntries(txn, l.dbs.segments); err != nil {
		return err
	}
	t.pages, err = livePages(txn, l.dbs.segments)
	return err
}

// append writes the segments.
func (t *transaction) append(txn *lmdb.Txn) error {
	var key [8]byte
	next := t.last + 1
	if len(t.runs) > 0 && t.first == next { // the log holds nothing but the mark
		if err := txn.Del(t.log.dbs.segments, segmentKey(next), nil); err != nil {
			return err
		}
	}
	for i := range t.runs {
		r := &t.runs[i]
		binary.BigEndian.PutUint64(key[:], uint64(next))
		dst, err := txn.PutReserve(t.log.dbs.segments, key[:], r.length(), lmdb.Append)
		if err != nil {
			return err
		}
		r.encode(dst, next)
		next += mqttetl.Seq(r.records)
	}
	if t.first == 0 && next > 1 {
		t.first = 1
	}
	t.records = int(next - t.last - 1)
	seq := t.last + 1
	for _, b := range t.group {
		if b.Len() == 0 {
			t.firsts = append(t.firsts, 0)
			continue
		}
		t.firsts = append(t.firsts, seq)
		seq += mqttetl.Seq(b.Len())
	}
	t.last = next - 1
	return nil
}

// changeIDs applies the QoS 2 changes of the batches, in their order.
func (t *transaction) changeIDs(txn *lmdb.Txn) error {
	for _, b := range t.group {
		for _, c := range b.IDs {
			if err := changeID(txn, t.log.dbs.ids, b.Session, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func changeID(txn *lmdb.Txn, ids lmdb.DBI, session string, c mqttetl.IDChange) error {
	key := sessionPrefix(session)
	if c.Op == mqttetl.IDsCleared {
		return deletePrefix(txn, ids, key)
	}
	key = binary.BigEndian.AppendUint16(key, c.ID)
	if c.Op == mqttetl.IDAdded {
		return txn.Put(ids, key, []byte{1}, 0)
	}
	if err := txn.Del(ids, key, nil); err != nil && !lmdb.IsNotFound(err) {
		return err
	}
	return nil
}

// deletePrefix deletes every packet id under prefix.
func deletePrefix(txn *lmdb.Txn, ids lmdb.DBI, prefix []byte) error {
	var keys [][]byte
	err := each(txn, ids, prefix, func(key, _ []byte) (bool, error) {
		if !bytes.HasPrefix(key, prefix) {
			return false, nil
		}
		keys = append(keys, bytes.Clone(key))
		return true, nil
	})
	for _, key := range keys {
		if err == nil {
			err = txn.Del(ids, key, nil)
		}
	}
	return err
}

// moveCursors stores the positions that have changed. Trimming goes by the same
// positions: a dead letter that came before one of them is in this transaction,
// and one that comes later must not see its record trimmed before it is stored.
func (t *transaction) moveCursors(txn *lmdb.Txn) error {
	t.past = t.log.trimmable()
	for _, c := range t.log.consumers {
		to := c.position()
		t.past = min(t.past, to)
		if uint64(to) == c.stored.Load() {
			continue
		}
		if err := txn.Put(t.log.dbs.cursors, []byte(c.name), segmentKey(to), 0); err != nil {
			return err
		}
		t.moved = append(t.moved, move{c, to})
	}
	return nil
}

// trimAtOnce is how many segments a transaction deletes at the most beyond
// twice those that it appends, and trimBytes how many bytes but for the first of them, so that
// trimming keeps up and never adds a pause to an append.
const (
	trimAtOnce = 64
	trimBytes  = 64 << 20
)

// trim deletes the oldest segments that every consumer is durably past. The
// last segment stays, because it holds the last Seq.
func (t *transaction) trim(txn *lmdb.Txn) error {
	if t.past <= t.trimmedTo || t.first == 0 {
		return nil
	}
	keys, next, more, err := t.trimmableKeys(txn, t.past)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := txn.Del(t.log.dbs.segments, segmentKey(key), nil); lmdb.IsNotFound(err) {
			return fmt.Errorf("segment at record %d is not where it was read: %w", key, mqttetl.ErrDamaged)
		} else if err != nil {
			return err
		}
	}
	t.first = next
	if !more {
		t.trimmedTo = t.past
	}
	return nil
}

// tidyUp is what a transaction does that is to free pages.
func (t *transaction) tidyUp(txn *lmdb.Txn) error {
	l := t.log
	if t.empty && t.past >= t.last {
		if err := t.leaveMark(txn); err != nil {
			return err
		}
	}
	if t.gather > 0 {
		if err := t.gatherPages(txn); err != nil {
			return err
		}
	}
	if t.rewrite {
		if err := t.rewriteAll(txn); err != nil {
			return err
		}
	}
	if !t.dirty {
		return nil
	}
	return txn.Put(l.dbs.meta, []byte("format"), []byte{formatVersion}, 0)
}

// leaveMark puts a mark, an empty segment, in place of the last segment.
func (t *transaction) leaveMark(txn *lmdb.Txn) error {
	segments := t.log.dbs.segments
	if n, err := countEntries(txn, segments); err != nil || n != 1 {
		return err
	}
	if err := txn.Del(segments, segmentKey(t.first), nil); err != nil {
		return err
	}
	t.first = t.last + 1
	return txn.Put(segments, segmentKey(t.first), mark(t.first), 0)
}

// trimmableKeys returns the keys of the oldest segments that hold only records up
// to upTo, as many as may be trimmed at once, the key of the segment after them, and whether
// there are more.
func (t *transaction) trimmableKeys(txn *lmdb.Txn, upTo mqttetl.Seq) (keys []mqttetl.Seq, next mqttetl.Seq, more bool, err error) {
	next = t.first
	size, most := int64(0), trimBytes+2*t.bytes
	before := int64(0) // size of the segment at next
	err = each(txn, t.log.dbs.segments, segmentKey(t.first), func(key, val []byte) (bool, error) {
		at, err := keySeq(key)
		if err != nil || at > upTo+1 {
			return false, err
		}
		if at > t.first {
			if len(keys) > 0 && (len(keys) >= t.trimAtMost || size+before > most) {
				more = true
				return false, nil
			}
			keys, next, size = append(keys, next), at, size+before
		}
		before = int64(len(val))
		return true, nil
	})
	return keys, next, more, err
}
