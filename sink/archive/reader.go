package archive

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mqttetl/mqttetl"
)

// ReadCursor reads which log fills the archive and how far it has come,
// whether the service runs or not. An archive without its schema, left by a
// crash right after the creation of the file, has no log id and cursor 0.
// Errors wrap mqttetl.ErrUnavailable (and fs.ErrNotExist where there is no
// file), mqttetl.ErrForeign, store.ErrVersion or mqttetl.ErrDamaged.
//
// Nothing is written to the archive. See read for the files beside it.
func ReadCursor(path string) (logID string, cursor mqttetl.Seq, err error) {
	err = read(background, path, func(c *sql.Conn) error {
		id, err := readIdentity(c)
		if err != nil || id.empty() {
			return err
		}
		if err := id.check(); err != nil {
			return err
		}
		m, err := readMeta(c)
		logID, cursor = m.logID, m.cursor
		return err
	})
	if err != nil {
		return "", 0, failed(path, "read cursor", err)
	}
	return logID, cursor, nil
}

// read calls f with a connection that cannot write.
//
// A connection to a database in WAL mode creates the files beside it even if
// it only reads. Therefore an archive at rest (closed by its service, so that
// no write-ahead log is left) is opened as immutable, which touches nothing;
// f is called again if a service has started meanwhile. While the service
// runs the files are there already. After a kill they are there too: reading
// then rebuilds the index in the -shm file, which holds no data, and leaves
// the -wal file as it was. Only a -wal file whose -shm file somebody has
// removed makes SQLite create that again, and it stays.
//
// f is not called for an archive that a crash has left half made.
func read(ctx context.Context, path string, f func(*sql.Conn) error) error {
	path = behindLinks(path)
	for {
		before, err := os.Stat(path)
		if err != nil {
			return err
		}
		if halfMade(path) {
			return nil
		}
		rest, err := readOnce(ctx, path, f)
		if !rest || undisturbed(path, before) {
			return err
		}
	}
}

// halfMade says that there is a rollback journal and no archive yet. WAL mode
// has no use for that journal: it was written while the mode was set, and is
// gone for certain once anything in the write-ahead log is durable. The next
// Open rolls the file back to nothing, which a reader may not do.
func halfMade(path string) bool {
	if st, err := os.Stat(path + journalSuffix); err != nil || st.Size() == 0 {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	id := make([]byte, 4) // SQLite's file format, 1.3.15
	_, err = f.ReadAt(id, 68)
	return errors.Is(err, io.EOF) || err == nil && binary.BigEndian.Uint32(id) != applicationID
}

// undisturbed says that an archive that was at rest still is, and is the file
// of before: nothing was written while it was read.
func undisturbed(path string, before os.FileInfo) bool {
	after, err := os.Stat(path)
	return err == nil && atRest(path) && os.SameFile(before, after) && before.Size() == after.Size() && before.ModTime().Equal(after.ModTime())
}

func atRest(path string) bool {
	if _, err := os.Stat(path + shmSuffix); err == nil {
		return false
	}
	wal, err := os.Stat(path + walSuffix)
	return err != nil || wal.Size() == 0
}

// connectReader makes the connections that cannot write, see read. If the
// archive is at rest, which also an error leaves true, what is read counts if it
// was undisturbed.
func connectReader(ctx context.Context, path string) (db *sql.DB, c *sql.Conn, rest bool, err error) {
	query := "mode=ro"
	if rest = atRest(path); rest {
		query = "immutable=1&mode=ro"
	}
	if db, c, err = connect(path, query); err != nil {
		return nil, nil, rest, err
	}
	if _, err = c.ExecContext(ctx, fmt.Sprintf(`PRAGMA busy_timeout=%d`, busyTimeout.Milliseconds())); err != nil {
		return nil, nil, rest, errors.Join(err, c.Close(), db.Close())
	}
	return db, c, rest, nil
}

// readOnce calls f and says whether the archive was at rest before.
func readOnce(ctx context.Context, path string, f func(*sql.Conn) error) (rest bool, err error) {
	db, c, rest, err := connectReader(ctx, path)
	if err != nil {
		return rest, err
	}
	defer func() { err = errors.Join(err, c.Close(), db.Close()) }()
	// One snapshot for all that f reads.
	if _, err := c.ExecContext(ctx, `BEGIN`); err != nil {
		return rest, err
	}
	defer func() {
		_, rerr := c.ExecContext(background, `ROLLBACK`)
		err = errors.Join(err, rerr)
	}()
	return rest, f(c)
}
