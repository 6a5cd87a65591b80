package archive

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/internal/disk"
	"github.com/mqttetl/mqttetl/internal/processes"
	"github.com/mqttetl/mqttetl/sink/store"
)

// The write-ahead log is copied into the file each time it may have grown by
// walStep, or by an eighth of what is free on the disk: it must not take the room
// that the file needs. Once it holds more than walMax, because a reader kept it from being
// emptied, the copying waits up to the busy timeout for readers to leave. After
// such a time its file is cut back to walKept.
const (
	walStep = 8 << 20
	walMax  = 64 << 20
	walKept = 32 << 20
)

// Estimates of what a row adds to the write-ahead log beside its payload, and a
// transaction beside its rows: the pages that every commit writes again.
const (
	rowOverhead = 32
	txOverhead  = 4 * pageSize
)

// checkpoint copies the write-ahead log into the file when that is due. That a
// reader or another writer is in the way is no error: it is tried again after
// the next walStep, so its cost stays in proportion to what is written.
func (a *Archive) checkpoint() error {
	if a.walGrowth < min(walStep, a.free()/8) {
		return nil
	}
	a.walGrowth = 0
	frames, err := a.copyWAL("PASSIVE")
	if err == nil && frames*pageSize > walMax {
		if frames, err = a.copyWAL("TRUNCATE"); err == nil && frames > 0 {
			a.walKept++
			if a.walHeld == "" {
				a.walHeld = heldBy(processes.WithOpen(a.path))
			}
		}
	}
	if err == nil && frames*pageSize <= walMax {
		a.walHeld = ""
	}
	if c := code(err); c == codeBusy || c == codeLocked {
		return nil
	}
	return err
}

// pending reads the size of the write-ahead log; the rest is known from the last
// checkpoint.
func (a *Archive) pending() store.Pending {
	w := store.Pending{Kept: a.walKept, Held: a.walHeld}
	if st, err := os.Stat(a.path + walSuffix); err == nil {
		w.Bytes = st.Size()
	}
	return w
}

// WALBytes is the size of the write-ahead log of the archive at path, 0 if there
// is none.
func WALBytes(path string) int64 { return (&Archive{path: behindLinks(path)}).pending().Bytes }

// heldBy says who has the archive open. Which of them holds a snapshot SQLite
// does not say.
func heldBy(pids []int) string {
	by := "a process that cannot be seen"
	if len(pids) > 0 {
		by = processes.Names(pids)
	}
	return "a reader keeps the write-ahead log from being emptied; the archive is open in " + by
}

// copyWAL returns the number of pages in the write-ahead log.
func (a *Archive) copyWAL(mode string) (frames int64, err error) {
	var busy, copied int64
	err = a.conn.QueryRowContext(background, `PRAGMA wal_checkpoint(`+mode+`)`).Scan(&busy, &frames, &copied)
	return frames, err
}

// free is what an ordinary user may still write on the archive's file system, in
// bytes; a large number where that cannot be known.
func (a *Archive) free() int64 {
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(a.path), &fs); err != nil {
		return disk.Unlimited
	}
	return disk.Free(&fs)
}
