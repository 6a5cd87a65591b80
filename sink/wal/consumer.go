package wal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
)

// Consumer is one reader of the log with a durable position. Seek and Next
// belong to one goroutine; the other methods may be called from any.
type Consumer struct {
	log  *Log
	name string

	stored atomic.Uint64 // the position as of the last commit
	moved  atomic.Uint64 // the position to store
	sought atomic.Bool   // Seek has been called: moved may be trusted for trimming

	most    mqttetl.Seq      // the highest record that it can have had
	read    mqttetl.Seq      // the last record that was decoded
	rest    []mqttetl.Record // decoded, not yet returned by Next
	extract extract

	lag struct { // the record behind pos, as Lag last found it
		sync.Mutex
		known bool
		pos   mqttetl.Seq
		time  int64
	}
}

func newConsumer(l *Log, name string, stored mqttetl.Seq) *Consumer {
	c := &Consumer{log: l, name: name}
	c.stored.Store(uint64(stored))
	c.moved.Store(uint64(stored))
	c.read = stored
	c.most = l.last
	return c
}

// Stored is the position that the log knows of this consumer, 0 for a new one.
func (c *Consumer) Stored() mqttetl.Seq { return mqttetl.Seq(c.moved.Load()) }

// position is the position to store with the next transaction.
func (c *Consumer) position() mqttetl.Seq { return mqttetl.Seq(c.moved.Load()) }

// Seek says where the consumer stands: it holds every record up to and
// including after durably, and reading goes on behind it. The stored position
// moves forward or back with it. Until every consumer has called Seek since
// Open, nothing is trimmed.
//
// next is the record that Next will return first: after+1, or the first one
// that the log still holds if that has been trimmed. A position behind what the
// consumer can have had of this log, the records that were in it at Open and
// those it has read since, is an error that wraps mqttetl.ErrForeign: it was
// fed by another log, or this one was restored from an older copy.
func (c *Consumer) Seek(after mqttetl.Seq) (next mqttetl.Seq, err error) {
	l := c.log
	l.txn.Lock() // no trimming between looking at first and holding it
	defer l.txn.Unlock()
	if after > c.most {
		return 0, fmt.Errorf("consumer %s is at record %d, this log, %s, has given it %d: %w", c.name, after, l.id, c.most, mqttetl.ErrForeign)
	}
	next = max(after+1, l.Stats().First)
	c.read, c.rest = next-1, nil
	c.moved.Store(uint64(after))
	c.sought.Store(true)
	l.poke()
	return next, nil
}

// Again returns the next records behind after that the log still holds, none if it holds
// none, as Reader.Behind does, and moves nothing. The consumer has had them before. It
// belongs to the goroutine of Seek and Next, before the first Seek.
func (c *Consumer) Again(after mqttetl.Seq) ([]mqttetl.Record, error) {
	s := c.log.Stats()
	after = max(after, max(s.First, 1)-1)
	if after >= s.Last {
		return nil, nil
	}
	recs, err := c.extract.behind(c.log.view, c.log.dbs.segments, after)
	if err != nil {
		return nil, fmt.Errorf("read log behind record %d: %w", after, err)
	}
	return recs, nil
}

// Commit says that the consumer holds every record up to and including upTo
// durably. The position is stored with one of the next transactions; a
// position that is lower than an earlier one is ignored.
func (c *Consumer) Commit(upTo mqttetl.Seq) {
	for old := c.moved.Load(); uint64(upTo) > old; old = c.moved.Load() {
		if c.moved.CompareAndSwap(old, uint64(upTo)) {
			c.log.poke()
			return
		}
	}
}

// DeadLetter keeps d in the log until DropDeadLetters. It is stored not later
// than the position of a Commit that follows.
func (c *Consumer) DeadLetter(d mqttetl.DeadLetter) {
	l := c.log
	l.state.Lock()
	l.dead.add = append(l.dead.add, d)
	l.state.Unlock()
	l.poke()
}

// trimmable is the position that every consumer is durably past, 0 while one
// of them has not said where it stands.
func (l *Log) trimmable() mqttetl.Seq {
	if len(l.consumers) == 0 {
		return 0
	}
	least := ^mqttetl.Seq(0)
	for _, c := range l.consumers {
		if !c.sought.Load() {
			return 0
		}
		least = min(least, c.position())
	}
	return least
}

// Lag is what a consumer still has before it: the number of records, and the
// age of the oldest of them, both 0 when there are none.
func (c *Consumer) Lag() (records uint64, age time.Duration, err error) {
	pos := c.position()
	last := c.log.Stats().Last
	if pos >= last {
		return 0, 0, nil
	}
	oldest, err := c.oldest(pos)
	if err != nil || oldest == 0 {
		return uint64(last - pos), 0, err
	}
	return uint64(last - pos), max(0, time.Since(time.Unix(0, oldest))), nil
}

// oldest is the time of the first record behind pos that the log still holds, 0
// if there is none any more. It is read once for each position.
func (c *Consumer) oldest(pos mqttetl.Seq) (int64, error) {
	c.lag.Lock()
	defer c.lag.Unlock()
	if c.lag.known && c.lag.pos == pos {
		return c.lag.time, nil
	}
	var t int64
	err := c.log.view(func(txn *lmdb.Txn) error {
		first, err := firstSeq(txn, c.log.dbs.segments)
		if err != nil {
			return err
		}
		recs, err := recordsOf(txn, c.log.dbs.segments, max(pos+1, first))
		if len(recs) > 0 {
			t = recs[0].Time
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read log after record %d: %w", pos, err)
	}
	c.lag.known, c.lag.pos, c.lag.time = t != 0, pos, t
	return t, nil
}

// recordsOf returns the records of the segment that holds seq, from seq on.
// They are valid within the transaction.
func recordsOf(txn *lmdb.Txn, segments lmdb.DBI, seq mqttetl.Seq) ([]mqttetl.Record, error) {
	txn.RawRead = true
	cur, err := txn.OpenCursor(segments)
	if err != nil {
		return nil, err
	}
	defer cur.Close()
	s, err := find(cur, seq)
	if err != nil || s.count == 0 {
		return nil, err
	}
	recs, err := mqttetl.DecodeRecords(nil, s.records, s.count, s.first, "")
	if err != nil {
		return nil, fmt.Errorf("segment at record %d: %w: %w", s.first, mqttetl.ErrDamaged, err)
	}
	return recs[seq-s.first:], nil
}

// find positions cur at the segment that holds seq and returns it, or an empty
// segment if the log ends before seq or begins behind it.
func find(cur *lmdb.Cursor, seq mqttetl.Seq) (segment, error) {
	key, val, err := cur.Get(segmentKey(seq), nil, lmdb.SetRange)
	if lmdb.IsNotFound(err) {
		key, val, err = cur.Get(nil, nil, lmdb.Last)
	} else if err == nil {
		if at, err := keySeq(key); err != nil {
			return segment{}, err
		} else if at != seq {
			key, val, err = cur.Get(nil, nil, lmdb.Prev)
			if lmdb.IsNotFound(err) {
				return segment{}, nil
			}
			if err != nil {
				return segment{}, err
			}
		}
	}
	if lmdb.IsNotFound(err) {
		return segment{}, nil
	}
	if err != nil {
		return segment{}, err
	}
	at, err := keySeq(key)
	if err != nil {
		return segment{}, err
	}
	s, err := parseSegment(at, val)
	if err == nil && s.last() < seq {
		return segment{}, nil
	}
	return s, err
}

// Next waits until there are records behind the last ones it returned, and
// returns up to n of them, in order, without holes. The slice and the bytes
// it points to are valid until the next call of Next or Seek. It holds no read
// transaction when it returns.
//
// It ends with ctx.Err(), with mqttetl.ErrClosed after Run has ended, with
// mqttetl.ErrTrimmed if the position is no longer in the log, or with
// mqttetl.ErrDamaged and the position of the damage.
func (c *Consumer) Next(ctx context.Context, n int) ([]mqttetl.Record, error) {
	if len(c.rest) == 0 {
		if err := c.log.wait(ctx, c.read); err != nil {
			return nil, err
		}
		recs, err := c.extract.behind(c.log.view, c.log.dbs.segments, c.read)
		if err != nil {
			return nil, fmt.Errorf("read log after record %d: %w", c.read, err)
		}
		c.rest, c.read = recs, recs[len(recs)-1].Seq
	}
	n = min(n, len(c.rest))
	recs := c.rest[:n]
	c.rest = c.rest[n:]
	c.most = max(c.most, recs[n-1].Seq)
	return recs, nil
}
