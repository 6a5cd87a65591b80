package wal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/PowerDNS/lmdb-go/lmdb"
)

// TestFullLayouts is TestFullTrials for layouts that no sequence of appends may ever
// make: values of random sizes come and go in the log's file on a full disk, each
// transaction frees pages of its own, and what is stored beside the segments lies
// anywhere. Whatever an empty log takes must be taken then.
func TestFullLayouts(t *testing.T) {
	inSmallDisks(t, *fullTrials, func(t *testing.T, seed uint64, dir string) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		ids := rnd.IntN(3) * rnd.IntN(400)
		room := roomFor(t, filepath.Join(dir, "empty"))
		most := takenEmpty(t, filepath.Join(dir, "empty"), int(room*(70+rnd.Int64N(30))/100))
		l, err := Open(filepath.Join(dir, "log"), Options{MaxSize: 1 << 30, Consumers: []string{"c"}})
		if err != nil {
			t.Fatal(err)
		}
		scatter(t, l, rnd, ids, rnd.Int64N(room+1))
		r := start(t, l)
		if !takes(r, strings.Repeat("x", most), *stuckAfter) {
			t.Fatalf("seed %d: refuses %d bytes, which an empty log takes: %+v", seed, most, r.Stats())
		}
		verify(t, r, filepath.Join(dir, "log"), r.Stats().Last)
	})
}

// roomFor is how large a log's file may get here.
func roomFor(t *testing.T, dir string) int64 {
	defer os.RemoveAll(dir)
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, err := l.room.reserveSome(1<<30, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// scatter fills the log's file, which may grow by so many bytes, with values and
// deletes them, again and again, and stores so many packet ids meanwhile.
func scatter(t *testing.T, l *Log, rnd *rand.Rand, ids int, room int64) {
	if _, err := l.room.reserveSome(max(2<<20, room), 1<<30); err != nil {
		t.Fatal(err)
	}
	size := func() int { return 1 + rnd.IntN(1<<(8+rnd.IntN(17))) } // up to 16 MiB, most far smaller
	var there []string
	update := func(slack int64, op lmdb.TxnOp) {
		if err := l.limit(l.room.reserved-slack, true); err != nil {
			t.Fatal(err)
		}
		if err := l.env.Update(op); err != nil && !lmdb.IsMapFull(err) {
			t.Fatal(err)
		}
	}
	stored := 0
	for round := range 2 + rnd.IntN(4) {
		for range rnd.IntN(16) {
			var added []string
			update(roomSlack, func(txn *lmdb.Txn) error {
				added = nil
				for range 1 + rnd.IntN(8) {
					key := fmt.Sprint("value ", round, rnd.Uint64())
					if _, err := txn.PutReserve(l.dbs.meta, []byte(key), size(), 0); err != nil {
						return err
					}
					added = append(added, key)
				}
				return nil
			})
			there = append(there, added...)
			if stored < ids {
				n := min(ids-stored, 1+rnd.IntN(20))
				update(roomSlack, func(txn *lmdb.Txn) error {
					for i := range n {
						if err := txn.Put(l.dbs.ids, fmt.Append(nil, "session 16 bytes", rnd.Uint64(), i), []byte{1}, 0); err != nil {
							return err
						}
					}
					return nil
				})
				stored += n
			}
		}
		for range len(there) * 3 / 4 {
			there = l.drop(update, there, rnd, 1)
		}
	}
	for len(there) > 0 { // in few transactions, so that many pages are in each list of free ones
		there = l.drop(update, there, rnd, 1+rnd.IntN(16))
		for range rnd.IntN(3) {
			if err := l.age(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// drop deletes n values, which may not be there, and returns the others.
func (l *Log) drop(update func(int64, lmdb.TxnOp), there []string, rnd *rand.Rand, n int) []string {
	rnd.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
	n = min(n, len(there))
	update(0, func(txn *lmdb.Txn) error {
		for _, key := range there[:n] {
			if err := txn.Del(l.dbs.meta, []byte(key), nil); err != nil && !lmdb.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
	return there[n:]
}
