package wal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// onDisk calls f with a directory on a disk of so many MiB.
func onDisk(t *testing.T, size int, f func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	f(dir)
}

// drained opens a log whose consumer c stores on its disk.
func drained(t *testing.T, dir string) (*running, *Consumer) {
	r := open(t, dir, Options{MaxSize: 1 << 30, Consumers: []string{"c"}, Drain: "c"})
	c := r.Consumer("c")
	c.Seek(0)
	return r, c
}

// takenDrained is the size of a payload that an empty log takes here, and what
// the disk has free then.
func takenDrained(t *testing.T, dir string, size int) (taken int, free int64) {
	for {
		r, _ := drained(t, dir)
		took := takes(r, strings.Repeat("x", size), 0)
		free, err := freeSpace(r.room.fd)
		if err != nil {
			t.Fatal(err)
		}
		r.close()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if took {
			return size, free
		}
		size -= size / 16
	}
}

// TestDrainOfALargeValue: the log takes a value only if its consumer can store it next to
// it: the rows, and as much again for its write-ahead log.
func TestDrainOfALargeValue(t *testing.T) {
	inNamespace(t, func() {
		for _, size := range []int{32, 160} {
			onDisk(t, size, func(dir string) {
				taken, free := takenDrained(t, filepath.Join(dir, "log"), size<<20)
				if free < 2*int64(taken) {
					t.Errorf("a disk of %d MiB: with a value of %d bytes %d are free, want twice as many", size, taken, free)
				}
				if taken < size<<20/5 {
					t.Errorf("a disk of %d MiB: a value of %d bytes is the largest, want a fifth of the disk", size, taken)
				}
			})
		}
	})
}

// TestDrainAfterMany: an old log whose consumer has stored all takes what a new one takes,
// although its free pages are in its file.
func TestDrainAfterMany(t *testing.T) {
	inNamespace(t, func() {
		for _, size := range []int{32, 64} {
			onDisk(t, size, func(dir string) {
				taken, _ := takenDrained(t, filepath.Join(dir, "new"), size<<20)
				taken -= taken / 8 // an old log has more pages of trees
				r, c := drained(t, filepath.Join(dir, "log"))
				appended := mqttetl.Seq(0)
				for range 3 {
					for appended++; takes(r, strings.Repeat("x", 100<<10), 0); appended++ {
					}
					for at := mqttetl.Seq(0); at < appended; { // the one that has waited, too
						recs, err := c.Next(t.Context(), 100)
						if err != nil {
							t.Fatal(err)
						}
						at = recs[len(recs)-1].Seq
						c.Commit(at)
					}
				}
				if !takes(r, strings.Repeat("x", taken), *stuckAfter) {
					t.Errorf("a disk of %d MiB: stuck with %d bytes, which an empty log takes: %+v", size, taken, r.Stats())
				}
			})
		}
	})
}

// TestDrainOnAFullDisk: a log that waits for its consumer gives it the room of its free
// pages, although something is to be appended.
func TestDrainOnAFullDisk(t *testing.T) {
	inNamespace(t, func() {
		onDisk(t, 64, func(dir string) {
			r, c := drained(t, filepath.Join(dir, "log"))
			stored := func() {
				for c.read < r.Stats().Last {
					read(t, c, int(r.Stats().Last-c.read))
					c.Commit(c.read)
				}
			}
			const size = 100 << 10
			for takes(r, strings.Repeat("x", size), 0) {
			}
			r.until("goes on", func(s Stats) bool { stored(); return s.Queued == 0 && !s.Paused && s.First == s.Last })
			const pending = 10
			for range pending {
				if !takes(r, strings.Repeat("x", size), *stuckAfter) {
					t.Fatal("no room in free pages")
				}
			}
			fill(t, filepath.Join(dir, "others"))
			for takes(r, strings.Repeat("x", size), 0) {
			}
			r.until("gives the consumer room", func(Stats) bool {
				free, err := freeSpace(r.room.fd)
				return err == nil && free >= drainRoom(pending*size, 0)
			})
		})
	})
}

// TestDrainWithoutRoom: what has been given back is not given again and again, which
// would be a transaction each time.
func TestDrainWithoutRoom(t *testing.T) {
	inNamespace(t, func() {
		onDisk(t, 32, func(dir string) {
			l, err := Open(filepath.Join(dir, "log"), Options{MaxSize: 1 << 30, Consumers: []string{"c"}, Drain: "c"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			others := filepath.Join(dir, "others")
			fill(t, others)
			if err := os.Truncate(others, 29<<20); err != nil {
				t.Fatal(err)
			}
			for _, give := range []struct{ bytes, more int64 }{{1 << 20, 1}, {1 << 20, 0}, {1 << 10, 0}, {2 << 20, 1}, {2 << 20, 0}} {
				before, err := l.env.Info()
				if err != nil {
					t.Fatal(err)
				}
				if err := l.giveBackFor(&transaction{bytes: give.bytes}); err != nil {
					t.Fatal(err)
				}
				after, err := l.env.Info()
				if err != nil || after.LastTxnID-before.LastTxnID != give.more {
					t.Errorf("for %d bytes: %d transactions, %v; want %d", give.bytes, after.LastTxnID-before.LastTxnID, err, give.more)
				}
			}
		})
	})
}
