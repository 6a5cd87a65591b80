package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// housekeepingDelay is how long positions and dead letters may wait for an
// append to travel with before they get a transaction of their own.
const housekeepingDelay = time.Second

// readerCheck is how often the slots of readers that were killed are cleared.
const readerCheck = time.Minute

// Append hands a batch over and returns at once. Its Done is called exactly
// once, in the order in which batches were handed over: without an error after
// the batch is on disk, or with one if it will not be. The caller bounds how
// much it hands over before that.
func (l *Log) Append(b *mqttetl.Batch) {
	if !l.queue.put(b) {
		b.Done(0, fmt.Errorf("append to log: %w", mqttetl.ErrClosed))
	}
}

// Run commits what is handed over until ctx ends, and then returns nil. A
// batch that is not committed by then gets mqttetl.ErrClosed. Any error is the
// drive's or LMDB's: nothing that was waiting has been acknowledged, and the
// log must be opened anew. Run is called once.
func (l *Log) Run(ctx context.Context) error {
	err := l.run(ctx)
	end := err
	if end == nil {
		end = fmt.Errorf("append to log: %w", mqttetl.ErrClosed)
	}
	for _, b := range l.queue.close() {
		b.Done(0, end)
	}
	close(l.done)
	return err
}

func (l *Log) run(ctx context.Context) error {
	idle := time.NewTimer(0) // armed while housekeeping is due
	<-idle.C
	defer idle.Stop()
	armed := false
	readers := time.NewTicker(readerCheck)
	defer readers.Stop()
	look := time.NewTicker(lookIdle)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if err := l.at.look(); err != nil {
				return err
			}
		case <-readers.C:
			l.forgetDeadReaders()
		case <-ctx.Done():
			return l.commitAll(ctx, nil)
		case <-l.queue.ready:
			group := l.queue.take()
			if len(group) == 0 {
				continue
			}
			if err := l.commitAll(ctx, group); err != nil {
				return err
			}
		case <-l.wake:
			if !armed {
				armed = true
				idle.Reset(housekeepingDelay)
			}
		case <-idle.C:
			if err := l.commitAll(ctx, nil); err != nil {
				return err
			}
			if armed = l.trimmable() > l.trimmedTo; armed {
				idle.Reset(0) // there is more to trim than one transaction may
			}
		}
	}
}

// commitAll commits one group with the housekeeping that is due, waits out a
// full log, and tells every batch of the group how it ended.
func (l *Log) commitAll(ctx context.Context, group []*mqttetl.Batch) error {
	if len(group) == 0 {
		return l.housekeep()
	}
	for len(group) > 0 {
		n, err := l.commitWhenRoom(ctx, group)
		if err == nil {
			group = group[n:]
			continue
		}
		for _, b := range group {
			b.Done(0, err)
		}
		if errors.Is(err, mqttetl.ErrClosed) {
			return nil
		}
		return err
	}
	return nil
}

// housekeep commits the housekeeping alone. It can wait for room without
// holding anybody up.
func (l *Log) housekeep() error {
	if err := l.attempt(nil); err != nil && asFull(err) == nil {
		return err
	}
	return l.giveBack()
}

// commitWhenRoom commits the first n batches of the group, pausing as long as
// there is no room for one of them. Where there is little room that may be
// fewer than all: a group is what has come, and may be larger than what fits.
func (l *Log) commitWhenRoom(ctx context.Context, group []*mqttetl.Batch) (n int, err error) {
	n = len(group)
	for {
		err := l.attempt(group[:n])
		full := asFull(err)
		if full == nil {
			if err == nil && n == len(group) {
				l.resume()
			}
			return n, err
		}
		if n > 1 {
			n /= 2
			continue
		}
		l.pause(full)
		if err := l.waitForRoom(ctx); err != nil {
			return 0, err
		}
		n = len(group)
	}
}

// attempt makes one transaction of group and the housekeeping that is due.
func (l *Log) attempt(group []*mqttetl.Batch) error {
	l.committing.Store(time.Now().UnixNano()) // reserving can hang on a sick drive too
	defer l.committing.Store(0)
	if err := l.at.look(); err != nil {
		return err
	}
	t := &transaction{log: l, runs: runs(group), group: group}
	for i := range t.runs {
		t.bytes += int64(t.runs[i].size)
	}
	if err := l.checkSize(t.bytes); err != nil {
		return err
	}
	if err := l.checkDrain(t.bytes); err != nil {
		return err
	}
	noRoom := l.room.reserve(t.bytes)
	if noRoom != nil && !isNoSpace(noRoom) {
		return noRoom
	}
	if noRoom != nil && len(group) > 0 {
		if free, err := l.room.freeBytes(); err != nil {
			return err
		} else if free < t.bytes+roomSlack {
			return &fullError{fmt.Errorf("disk of %s: %w", l.dir, noRoom)}
		}
	}
	err := l.commit(t)
	if errors.Is(err, ErrGone) {
		return err
	}
	if err != nil && l.lacksRoom(err, noRoom != nil, t.bytes) {
		return &fullError{fmt.Errorf("disk of %s: %w", l.dir, err)}
	}
	if err = markDamage(err); errors.Is(err, mqttetl.ErrDamaged) {
		return mqttetl.WithHint(fmt.Errorf("commit log %s: %w", l.dir, err), "nothing that was waiting has been acknowledged; mqttetl verify says more")
	}
	if err != nil {
		return mqttetl.WithHint(fmt.Errorf("commit log %s: %w", l.dir, driveError{err}),
			"nothing that was waiting has been acknowledged; look at the drive (dmesg) before starting again")
	}
	return nil
}

// lacksRoom tells a commit that failed for lack of room from one that the drive
// failed. EIO can be either: it is a short write where room could not be
// reserved, or where a file system without reservation, or with copy-on-write,
// has too little left. Such a commit may be tried again whatever failed in it,
// because the next attempt writes every page of the transaction anew.
func (l *Log) lacksRoom(err error, notReserved bool, n int64) bool {
	if isNoSpace(err) || lmdb.IsMapFull(err) {
		return true
	}
	return errno(err) == unix.EIO && (notReserved || l.room.nearlyFull(n))
}

// checkSize refuses to grow a log that has reached its max_size, unless all that
// is left in it is the last segment, which only an append can make room for.
func (l *Log) checkSize(n int64) error {
	if n == 0 || l.pages < l.maxSize {
		return nil
	}
	if l.segments == 1 && l.trimmable() >= l.last {
		return nil
	}
	return &fullError{fmt.Errorf("its %s have reached log.max_size, %s", mqttetl.FormatSize(l.pages), mqttetl.FormatSize(l.maxSize))}
}

// commit runs the transaction and takes its outcome over.
func (l *Log) commit(t *transaction) error {
	begin := time.Now()
	l.txn.Lock()
	err := l.update(t.write)
	if err == nil {
		err = l.at.check()
	}
	if err == nil {
		l.takeOver(t)
	}
	l.txn.Unlock()
	if err != nil {
		return err
	}
	l.metrics.CommitSeconds.Observe(time.Since(begin).Seconds())
	if t.records > 0 {
		l.metrics.CommitMessages.Observe(float64(t.records))
	}
	l.metrics.Bytes.Set(float64(t.pages))
	for i, b := range t.group {
		b.More = i+1 < len(t.group) && t.group[i+1].Session == b.Session
		b.Done(t.firsts[i], nil)
	}
	return nil
}

// takeOver makes the committed transaction the state of the log and wakes the
// consumers that wait for records.
func (l *Log) takeOver(t *transaction) {
	for _, c := range t.moved {
		c.c.stored.Store(uint64(c.to))
	}
	l.trimmedTo = t.trimmedTo
	l.state.Lock()
	l.first, l.last, l.pages, l.segments = t.first, t.last, t.pages, t.segments
	l.dead.committed(t.dead)
	l.metrics.DeadLetters.Set(float64(l.dead.stored))
	if t.records > 0 && l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	l.state.Unlock()
}

// transaction is one write transaction in the making. Its fields below the line
// are what becomes the state of the log if it commits.
type transaction struct {
	log   *Log
	group []*mqttetl.Batch
	runs  []run
	bytes int64 // upper bound of the segments

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
	// Behind the positions: a dead letter that came before a Commit is in.
	if t.dead, err = l.writeDead(txn); err != nil {
		return err
	}
	if err := t.trim(txn); err != nil {
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
// twice those that it appends, so that trimming keeps up and never adds a
// pause to an append.
const trimAtOnce = 64

// trim deletes the oldest segments that every consumer is durably past. The
// last segment always stays, because it holds the last Seq.
func (t *transaction) trim(txn *lmdb.Txn) error {
	if t.past <= t.trimmedTo || t.first == 0 {
		return nil
	}
	keys, next, err := t.trimmableKeys(txn, t.past, trimAtOnce+2*len(t.runs))
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
	if len(keys) < trimAtOnce+2*len(t.runs) {
		t.trimmedTo = t.past
	}
	return nil
}

// trimmableKeys returns the keys of up to n segments, oldest first, that hold
// only records up to upTo, and the key of the segment behind them.
func (t *transaction) trimmableKeys(txn *lmdb.Txn, upTo mqttetl.Seq, n int) (keys []mqttetl.Seq, next mqttetl.Seq, err error) {
	next = t.first
	err = each(txn, t.log.dbs.segments, segmentKey(t.first+1), func(key, _ []byte) (bool, error) {
		behind, err := keySeq(key)
		if err != nil || behind > upTo+1 || len(keys) == n {
			return false, err
		}
		keys, next = append(keys, next), behind
		return true, nil
	})
	return keys, next, err
}
