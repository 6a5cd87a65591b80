package prove

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/test/service"
)

const (
	smallDisk = 24 // MiB
	largeDisk = 96
	smallTime = 30 * time.Second // within which it must get out by itself
)

// smallTrial has log and archive share a small disk. The archive is held up until
// the log pauses; then both must go on by themselves, until the disk is full of
// archived messages, and again when it has grown.
func smallTrial(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) error {
	maxSize := []string{"", "16GiB"}[rnd.IntN(2)]
	if e.Only == "small" {
		maxSize = "16GiB"
	}
	trial := fmt.Sprintf("trial %d (seed %d), log and archive on %d MiB, max_size %q", t.Trials, e.Seed+uint64(t.Trials), smallDisk, maxSize)
	files := filepath.Join(dir, "small")
	if err := os.Mkdir(files, 0o750); err != nil {
		return err
	}
	unmount, err := mountSmall(files, smallDisk)
	if err != nil {
		return err
	}
	defer unmount()
	w, err := newWorld(e.Bin, setup{dir: dir, files: files, settings: service.Settings{MaxSize: maxSize}})
	if err != nil {
		return err
	}
	defer w.close()
	w.pub.Size, w.pub.Rate, w.pub.Workers = 100+rnd.IntN(8000), 1000, 16
	if err := w.start(ctx); err != nil {
		return err
	}
	release, err := holdArchive(ctx, w.Archive())
	if err != nil {
		return err
	}
	defer release()
	stop := w.publish(ctx)
	defer stop()
	full, err := w.Await(ctx, "pauses", func(s service.Status) bool { return s.Log.Paused })
	if w.Ended() {
		return fmt.Errorf("%w while full", errDown)
	} else if err != nil {
		return err
	}
	release()
	reaches := func(what string, ok func(service.Status) bool) bool {
		ctx, cancel := context.WithTimeout(ctx, smallTime)
		defer cancel()
		if _, err := w.Await(ctx, what, ok); err != nil {
			t.Violate("%s: %v; it wrote: %s", trial, err, tail(w.Output(), 1500))
			return false
		}
		return true
	}
	drained := func(s service.Status) bool { return s.Archive.Lag == 0 }
	if !reaches("goes on when the archive can be used", func(s service.Status) bool { return s.Archive.Cursor > full.Log.Last }) ||
		!reaches("is full, and all is archived", func(s service.Status) bool { return s.Log.Paused && drained(s) }) {
		return nil
	}
	if err := unix.Mount("tmpfs", files, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", largeDisk)); err != nil {
		return fmt.Errorf("remount: %w", err)
	}
	if !reaches("goes on when the disk has grown", func(s service.Status) bool { return !s.Log.Paused }) {
		return nil
	}
	stop()
	return w.account(ctx, t, trial, false)
}

// holdArchive holds the archive's write lock until release is called.
func holdArchive(ctx context.Context, path string) (release func(), err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=rw&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err == nil {
		_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hold the archive: %w", err), db.Close())
	}
	return func() {
		_ = conn.Close() // rolls back
		_ = db.Close()
	}, nil
}
