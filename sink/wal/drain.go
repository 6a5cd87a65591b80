package wal

import (
	"fmt"
	"math"
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
	credit  int64     // bytes that may be appended before the file system is asked again
	grow    int64     // bytes by which the log's file may grow before that
	asked   time.Time // when it was asked last
	gave    given     // when free pages were given back last
	largest int64     // of the values that were appended since it had stored all
}

// given is a time when free pages were given back: there is no more to give until a
// transaction frees some, or somebody ends who may have held them.
type given struct {
	upTo  int64 // the last transaction
	bytes int64 // what was to be appended
	at    time.Time
}

// all says that it is not worth while yet to give back more, for so many bytes to append.
func (g *given) all(last, n int64) bool {
	return last == g.upTo && n <= g.bytes && time.Since(g.at) < giveAgain
}

// giveAgain is how long that holds.
const giveAgain = 10 * time.Second

// creditTime is how long an answer of the file system holds: others write too.
const creditTime = time.Second

// drainRoom is the room that a consumer needs to store n bytes of the log, the largest
// value of which has so many: the rows, half as much again for what a row has around it (around
// a large one it is little), and the same once more for the write-ahead log of a transaction,
// which has an end, but for the one value that it begins with.
func drainRoom(n, largest int64) int64 {
	const transaction, always, large = 32 << 20, 3 << 20, 1 << 20
	if largest < large {
		largest = 0
	}
	n -= largest
	return n + n/2 + 3*min(n, transaction)/2 + 2*(largest+largest/16) + always
}

// room is what the consumer needs for what it has not stored yet and n bytes more, with
// a value of so many bytes.
func (d *drain) room(pending, n, value int64) int64 {
	if pending == 0 {
		d.largest = 0
	}
	largest := max(d.largest, value)
	return drainRoom(max(pending+n, largest), largest)
}

// pending estimates how many bytes of the log c has not yet stored.
func (l *Log) pending(c *Consumer) int64 {
	left := l.last - min(l.last, max(c.position(), max(l.first, 1)-1))
	if left == 0 {
		return 0
	}
	return int64(float64(l.pages) * float64(left) / float64(l.last-l.first+1))
}

// checkDrain refuses what t appends when what is in the log for the drain could
// not be stored with it. It returns by how many bytes the log's file may grow for t.
func (l *Log) checkDrain(t *transaction) (grow int64, err error) {
	d, n := l.drain, t.bytes
	if d == nil || n == 0 {
		return math.MaxInt64, nil
	}
	needs, err := l.room.growth(n)
	if err != nil {
		return 0, err
	}
	if n <= d.credit && needs <= d.grow && time.Since(d.asked) < creditTime {
		d.credit -= n
		return d.grow, nil
	}
	free, err := freeSpace(l.room.fd)
	if err != nil {
		return 0, fmt.Errorf("log %s: free space: %w", l.dir, err)
	}
	spare := free - d.room(l.pending(d.Consumer), n, t.largest())
	if spare < 0 {
		d.credit = 0
		return 0, &fullError{fmt.Errorf("disk of %s: %s free, which %s needs for what is in the log", l.dir, mqttetl.FormatSize(free), d.name), false}
	}
	// While the credit lasts, the room that the log needs may grow by three times as much, and its file by half of what is spare.
	d.credit, d.grow, d.asked = spare/8, spare/2, time.Now()
	return spare, nil
}

// largest are the bytes of the largest value of one record.
func (t *transaction) largest() (n int64) {
	for i := range t.runs {
		if t.runs[i].records == 1 {
			n = max(n, int64(t.runs[i].size))
		}
	}
	return n
}

// appended notes what has been appended, with a file that has grown by so many bytes.
func (d *drain) appended(t *transaction, grown int64) {
	if d != nil {
		d.grow -= grown
		d.largest = max(d.largest, t.largest())
	}
}

// giveBack gives free pages back to the file system while it has too little
// room for the drain. It is called between transactions.
func (l *Log) giveBack() error { return l.giveBackFor(&transaction{}) }

// giveBackFor is giveBack for what t is to append, too, once the drain has stored all of
// the log: the pages that t needs stay. Before that the drain comes first, because t
// waits for it: it must not wait for pages that are free.
func (l *Log) giveBackFor(t *transaction) error {
	d := l.drain
	if d == nil {
		return nil
	}
	pending := l.pending(d.Consumer)
	if pending > 0 {
		t = &transaction{}
	}
	free, err := freeSpace(l.room.fd)
	if err != nil {
		return err
	}
	short := d.room(pending, t.bytes, t.largest()) - free
	info, err := l.env.Info()
	if err != nil || short <= 0 || d.gave.all(info.LastTxnID, t.bytes) {
		return err
	}
	if err := l.age(); err != nil {
		return err
	}
	if info, err = l.env.Info(); err != nil {
		return err
	}
	d.gave = given{info.LastTxnID, t.bytes, time.Now()}
	return l.punch(short, max(keptFree, t.need()+roomSlack))
}
