package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
)

// deadLetters are the changes to the dead letters kept in the log that wait for
// the next transaction. Guarded by Log.state.
type deadLetters struct {
	stored int // entries in the database
	add    []mqttetl.DeadLetter
	drop   []mqttetl.DeadLetter
}

// deadChange is how much of the waiting changes a transaction has written.
type deadChange struct{ added, dropped, stored int }

// committed forgets the changes that are on disk now.
func (d *deadLetters) committed(c deadChange) {
	d.add = append(d.add[:0], d.add[c.added:]...)
	d.drop = append(d.drop[:0], d.drop[c.dropped:]...)
	d.stored = c.stored
}

// deadKey orders dead letters by Seq. Stage is part of it: one record can fail
// in several stages.
func deadKey(d mqttetl.DeadLetter) []byte {
	key := segmentKey(d.Seq)
	return append(append(key, 0), d.Stage...)
}

// writeDead applies the changes that wait and says how many they were. Changes
// that arrive meanwhile wait for the next transaction.
func (l *Log) writeDead(txn *lmdb.Txn) (c deadChange, err error) {
	l.state.Lock()
	add, drop := l.dead.add, l.dead.drop
	l.state.Unlock()
	dbi := l.dbs.dead
	c.added, c.dropped = len(add), len(drop)
	for _, x := range add {
		val := binary.BigEndian.AppendUint64(nil, uint64(x.Time))
		if err := txn.Put(dbi, deadKey(x), append(val, x.Reason...), 0); err != nil {
			return c, err
		}
	}
	for _, x := range drop {
		if err := txn.Del(dbi, deadKey(x), nil); err != nil && !lmdb.IsNotFound(err) {
			return c, err
		}
	}
	if c.stored, err = countEntries(txn, dbi); err == nil && l.mostDead > 0 && c.stored > l.mostDead {
		err = c.forgetOldest(txn, dbi, c.stored-l.mostDead)
	}
	return c, err
}

// forgetOldest deletes the n oldest dead letters.
func (c *deadChange) forgetOldest(txn *lmdb.Txn, dbi lmdb.DBI, n int) error {
	cur, err := txn.OpenCursor(dbi)
	if err != nil {
		return err
	}
	defer cur.Close()
	for ; n > 0; n-- {
		if _, _, err := cur.Get(nil, nil, lmdb.First); err != nil {
			return err
		}
		if err := cur.Del(0); err != nil {
			return err
		}
		c.stored--
	}
	return nil
}

// DeadLetters returns up to max of the dead letters that are kept in the log,
// lowest Seq first.
func (l *Log) DeadLetters(max int) ([]mqttetl.DeadLetter, error) {
	var ds []mqttetl.DeadLetter
	err := l.view(func(txn *lmdb.Txn) error {
		return each(txn, l.dbs.dead, nil, func(key, val []byte) (bool, error) {
			seq, stage, ok := bytes.Cut(key[min(8, len(key)):], []byte{0})
			if len(key) < 9 || len(seq) != 0 || !ok || len(val) < 8 {
				return false, fmt.Errorf("dead letter %x: %w", key, mqttetl.ErrDamaged)
			}
			ds = append(ds, mqttetl.DeadLetter{
				Seq:    mqttetl.Seq(binary.BigEndian.Uint64(key)),
				Stage:  string(stage),
				Time:   int64(binary.BigEndian.Uint64(val)),
				Reason: string(val[8:]),
			})
			return len(ds) < max, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read dead letters of the log: %w", err)
	}
	return ds, nil
}

// DropDeadLetters forgets dead letters that are durable elsewhere, in one of
// the next transactions.
func (l *Log) DropDeadLetters(ds []mqttetl.DeadLetter) {
	l.state.Lock()
	l.dead.drop = append(l.dead.drop, ds...)
	l.state.Unlock()
	l.poke()
}

// HasDeadLetters says whether DeadLetters would return any that have not been
// dropped already.
func (l *Log) HasDeadLetters() bool {
	l.state.Lock()
	defer l.state.Unlock()
	return l.dead.stored > len(l.dead.drop)
}

// poke tells Run that housekeeping is due.
func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
