package batch

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRandomFaults keeps records coming while the archive is locked, put away
// and brought back, or the batcher is stopped and started, in random order. In
// the end each record is one row, and the log was never told too much: it trims
// what it is told, so that a lost row could not come back.
func TestRandomFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "x")
	path := filepath.Join(dir, "a.db")
	log := newMemoryLog()
	b := start(t, path, log)
	for range 25 {
		log.add(rnd.IntN(5000))
		switch rnd.IntN(5) {
		case 0:
			awaitOpen(t, log, path)
			release := lock(t, path)
			log.add(rnd.IntN(2000))
			release()
		case 1:
			awaitOpen(t, log, path)
			away := dir + ".away"
			must(t, os.WriteFile(away, nil, 0o640))
			must(t, exchange(dir, away)) // at once, or the batcher would make a directory anew
			log.add(rnd.IntN(2000))
			must(t, exchange(dir, away))
			must(t, os.Remove(away))
		case 2:
			b.stop()
			log.add(rnd.IntN(2000))
			b = start(t, path, log)
		case 3:
			log.archived(t)
		}
	}
	log.archived(t)
	b.stop()
	exact(t, path, 1, log.last())
}

// exchange gives each of two files the other's name.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// awaitOpen waits until there is an archive to be damaged.
func awaitOpen(t *testing.T, log *memoryLog, path string) {
	t.Helper()
	log.add(1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, log.await(ctx, func() bool { return log.upTo > 0 }))
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}
