package archive

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// A file whose write-ahead log is empty is read past SQLite, also while a service
// writes and wants to copy what it has written into the file.
func TestReadPastSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	defer a.Close()
	must(t, a.Append(records(1, 3000)))
	must(t, a.Commit())
	emptyLog(t, a)
	r, err := OpenReader(path)
	must(t, err)
	defer r.Close()
	if recs, err := scanAll(r, mqttetl.Selection{}); err != nil || len(recs) != 3000 || !r.pages.Direct() {
		t.Errorf("the write-ahead log is empty: %d records, past SQLite: %v, %v", len(recs), r.pages.Direct(), err)
	}
	must(t, r.transaction(func() error {
		var count uint32
		must(t, r.conn.QueryRowContext(background, `PRAGMA page_count`).Scan(&count))
		must(t, a.Append(records(3001, 6000)))
		must(t, a.Commit())
		var busy, frames, copied int
		must(t, a.conn.QueryRowContext(background, `PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &frames, &copied))
		if frames == 0 || copied != 0 {
			t.Errorf("%d of %d pages were copied into the file under a reader", copied, frames)
		}
		file, err := os.ReadFile(path)
		must(t, err)
		for n := uint32(1); n <= count; n++ {
			var seen []byte
			must(t, r.conn.QueryRowContext(background, `SELECT data FROM sqlite_dbpage WHERE pgno = ?`, n).Scan(&seen))
			if !bytes.Equal(seen, file[(n-1)*pageSize:n*pageSize]) {
				t.Errorf("page %d of the file is not the one that the transaction sees", n)
			}
		}
		return nil
	}))
	// The next transaction sees what is in the log.
	recs, err := scanAll(r, mqttetl.Selection{})
	must(t, err)
	if len(recs) != 6000 || r.pages.Direct() {
		t.Errorf("%d records, past SQLite: %v", len(recs), r.pages.Direct())
	}
	emptyLog(t, a)
	if recs, err = scanAll(r, mqttetl.Selection{}); err != nil || len(recs) != 6000 || !r.pages.Direct() {
		t.Errorf("after the checkpoint %d records, past SQLite: %v, %v", len(recs), r.pages.Direct(), err)
	}
	// An archive in the place of this one has a log of its own.
	must(t, a.Append(records(6001, 6010)))
	must(t, a.Commit())
	must(t, os.Rename(path, path+".old"))
	must(t, os.Rename(path+walSuffix, path+".old"+walSuffix))
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.WriteFile(path+walSuffix, nil, 0o600))
	if recs, err = scanAll(r, mqttetl.Selection{}); err == nil && (len(recs) != 6010 || r.pages.Direct()) {
		t.Errorf("replaced: %d records, past SQLite: %v", len(recs), r.pages.Direct())
	}
}

// emptyLog copies the write-ahead log into the file and cuts it to nothing.
func emptyLog(t *testing.T, a *Archive) {
	t.Helper()
	var busy, frames, copied int
	must(t, a.conn.QueryRowContext(background, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &copied))
	if info, err := os.Stat(a.path + walSuffix); err != nil || busy != 0 || info.Size() != 0 {
		t.Fatalf("the write-ahead log is not empty: %v, busy %d", err, busy)
	}
}

// A reader that was opened before a service, and closed while that runs, takes
// none of its locks along: another program that ends would remove the
// write-ahead log.
func TestReaderLeavesTheLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 100)))
	must(t, a.Commit())
	must(t, a.Close())
	r, err := OpenReader(path) // at rest
	must(t, err)
	a = mustOpen(t, path)
	defer a.Close()
	must(t, a.Append(records(101, 200)))
	must(t, a.Commit())
	if recs, err := scanAll(r, mqttetl.Selection{}); err != nil || len(recs) != 200 {
		t.Errorf("%d records, %v", len(recs), err)
	}
	must(t, r.Close())
	shell(t, path, "select count(*) from messages")
	if _, err := os.Stat(path + walSuffix); errors.Is(err, os.ErrNotExist) {
		t.Error("another program has removed the write-ahead log of a service that runs")
	}
	must(t, a.Append(records(201, 300)))
	must(t, a.Commit())
}

// Whoever reads waits for a lock that a service holds for a moment, also where
// the archive is at rest and a service may be starting.
func TestReadersWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 10)))
	must(t, a.Commit())
	for _, state := range []string{"in use", "at rest"} {
		if state == "at rest" {
			must(t, a.Close())
		}
		waits := map[string]int64{}
		must(t, Query(t.Context(), path, `PRAGMA busy_timeout`, func(_ []string, v []any) error {
			waits["Query"] = v[0].(int64)
			return nil
		}))
		ask := func(who string, c *sql.Conn) error {
			var ms int64
			err := c.QueryRowContext(background, `PRAGMA busy_timeout`).Scan(&ms)
			waits[who] = ms
			return err
		}
		must(t, read(t.Context(), path, func(c *sql.Conn) error { return ask("read", c) }))
		r, err := OpenReader(path)
		must(t, err)
		must(t, ask("Reader", r.conn))
		must(t, r.Close())
		for _, who := range []string{"Query", "read", "Reader"} {
			if waits[who] != busyTimeout.Milliseconds() {
				t.Errorf("%s: %s waits %d ms", state, who, waits[who])
			}
		}
	}
}

// Behind a symbolic link an archive is the same: nothing that is in its
// write-ahead log is missed.
func TestArchiveBehindALink(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "links"), 0o700))
	path, link := filepath.Join(dir, "a.db"), filepath.Join(dir, "links", "b.db")
	must(t, mustOpen(t, path).Close())
	must(t, os.Symlink("../a.db", link))
	a := mustOpen(t, link)
	defer a.Close()
	must(t, a.Append(records(1, 100)))
	must(t, a.Commit())
	r, err := OpenReader(link)
	must(t, err)
	defer r.Close()
	if recs, err := scanAll(r, mqttetl.Selection{}); err != nil || len(recs) != 100 {
		t.Errorf("%d records, %v", len(recs), err)
	}
	if _, cursor, err := ReadCursor(link); err != nil || cursor != 100 {
		t.Errorf("cursor %d, %v", cursor, err)
	}
	must(t, Query(t.Context(), link, `SELECT count(*) FROM messages`, func(_ []string, v []any) error {
		if v[0] != int64(100) {
			t.Errorf("a query counts %v", v[0])
		}
		return nil
	}))
	if report, err := Verify(t.Context(), link, true); err != nil || report.Cursor != 100 {
		t.Errorf("verify: %+v, %v", report, err)
	}
	if left, err := os.ReadDir(filepath.Dir(link)); err != nil || len(left) != 1 {
		t.Errorf("beside the link: %v, %v", left, err)
	}
}
