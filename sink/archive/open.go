package archive

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

const (
	walSuffix     = "-wal"
	shmSuffix     = "-shm"
	journalSuffix = "-journal" // of a file that is not in WAL mode yet
)

// busyTimeout bounds how long a statement waits for another program's lock. It
// is short: the caller waits longer, and says so.
const busyTimeout = 200 * time.Millisecond

func init() {
	// Closing any other descriptor of a file drops the POSIX locks that SQLite
	// holds on it; locks of the open file description are safe from that. It
	// must be set before the first file is opened. Where the system has none of
	// them it changes nothing; no second descriptor of a database is opened
	// then, see Reader, so the error asks for nothing.
	_, _ = sqlite.OFDLocking(true)
}

// Open opens the archive of the log with the given id for writing. Where there
// is no file it is created (mode 0640, and its directory, 0750, if only that is
// missing) and belongs to this log from then on. A file that a crash left
// behind before its schema was complete is taken as new.
//
// Errors wrap mqttetl.ErrForeign (filled from another log, or no archive at
// all: never touched), store.ErrVersion, mqttetl.ErrDamaged or mqttetl.ErrUnavailable.
func Open(path, logID string) (*Archive, error) { return OpenWith(path, logID, store.Options{}) }

// behindLinks is the path of the archive itself. SQLite keeps the write-ahead log
// and its index beside that, not beside a symbolic link to it. What is not there
// has no other path.
func behindLinks(path string) string {
	if itself, err := filepath.EvalSymlinks(path); err == nil {
		return itself
	}
	return path
}

// OpenWith is Open for an archive that keeps more than messages. A typed table
// that is there with other types, or was not made for routes, is an error that
// wraps store.ErrTable.
func OpenWith(path, logID string, o store.Options) (*Archive, error) {
	if logID == "" {
		return nil, fmt.Errorf("archive %s: no log id", path)
	}
	a := &Archive{path: behindLinks(path), options: o}
	err := a.start(logID)
	if err != nil {
		err = a.failed("open", err)
		_ = a.Close() // the first error is the one that says why
		return nil, err
	}
	return a, nil
}

func (a *Archive) start(logID string) error {
	if err := createFile(a.path, a.options.Again); err != nil {
		return err
	}
	if err := a.connect(); err != nil {
		return err
	}
	if err := a.adopt(logID); err != nil {
		return err
	}
	if err := a.extend(); err != nil {
		return err
	}
	if err := a.settle(); err != nil {
		return err
	}
	if err := a.prepare(); err != nil {
		return err
	}
	if _, err := a.lastRow(); err != nil {
		return err
	}
	if err := a.stmt.schema.QueryRowContext(background).Scan(&a.schema); err != nil {
		return err
	}
	return a.catchUpLatest()
}

// createFile creates the file if it is absent, and makes sure that the
// directory entry is durable before anything is stored in the file. It makes no
// directory if an archive was there before: that was moved, and a new archive in its
// place would have a gap, and keep it from being moved back.
func createFile(path string, again bool) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); again && errors.Is(err, fs.ErrNotExist) {
		return mqttetl.WithHint(fmt.Errorf("%w: its directory is missing", mqttetl.ErrUnavailable),
			"move it back; for a new archive, make the directory")
	}
	switch err := os.Mkdir(dir, 0o750); {
	case err == nil:
		if err := syncPath(filepath.Dir(dir)); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	// With O_EXCL: the descriptor is never one of a file that SQLite has open.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err == nil {
		err = f.Close()
	} else if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	return syncPath(dir)
}

// syncPath makes a directory, or a file, durable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// connect opens the one connection and notes which file it is.
func (a *Archive) connect() (err error) {
	if err := registerModule(); err != nil {
		return err
	}
	if a.file, err = os.Stat(a.path); err != nil {
		return err
	}
	if a.db, a.conn, err = connect(a.path, "mode=rw"); err != nil {
		return err
	}
	_, err = a.conn.ExecContext(background, fmt.Sprintf(`PRAGMA busy_timeout=%d; PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF;
		PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=%d; PRAGMA cache_size=-8192`,
		busyTimeout.Milliseconds(), walKept))
	return err
}

// connect opens a pool of one connection. The query is that of an SQLite URI.
func connect(path, query string) (*sql.DB, *sql.Conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	dsn := url.URL{Scheme: "file", Path: abs, RawQuery: query + "&_error_rc=1"}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(background)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, conn, nil
}

// adopt makes an empty file the archive of the log, and checks any other
// before a byte of it is changed.
func (a *Archive) adopt(logID string) error {
	id, err := readIdentity(a.conn)
	if err != nil {
		return err
	}
	if !id.empty() {
		if err := id.check(); err != nil {
			return err
		}
	} else if _, err := a.conn.ExecContext(background, fmt.Sprintf(`PRAGMA page_size=%d`, pageSize)); err != nil {
		return err
	}
	if err := walMode(a.conn); err != nil {
		return err
	}
	if id.empty() {
		if err := createSchema(a.conn, logID); err != nil {
			return err
		}
	}
	m, err := readMeta(a.conn)
	if err != nil {
		return err
	}
	if m.logID != logID {
		return mqttetl.WithHint(fmt.Errorf("%w: filled from log %s, this log is %s", mqttetl.ErrForeign, m.logID, logID),
			"set archive.path to a new file, or log.dir to the log that the archive was filled from")
	}
	a.cursor, a.next = m.cursor, m.cursor+1
	return nil
}

func walMode(c *sql.Conn) error {
	var mode string
	if err := c.QueryRowContext(background, `PRAGMA journal_mode=WAL`).Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return mqttetl.WithHint(fmt.Errorf("%w: journal mode %s instead of wal", mqttetl.ErrUnavailable, mode),
			"keep the archive on a local file system")
	}
	return nil
}

// settle makes durable what the cursor claims. After a kill between the write
// of a commit and its sync, SQLite takes the commit for done although only the
// page cache has it; the log must not be trimmed on the strength of that.
func (a *Archive) settle() (err error) {
	if err := syncPath(a.path + walSuffix); err != nil {
		return err
	}
	if a.wal, err = os.Stat(a.path + walSuffix); err != nil {
		return err
	}
	if !sameFile(a.path, a.file) {
		return fmt.Errorf("%w: the file was replaced while it was opened", mqttetl.ErrUnavailable)
	}
	return nil
}

func (a *Archive) prepare() error {
	a.in.cells = newCells()
	if err := a.show("incoming", &a.in); err != nil {
		return err
	}
	if err := a.prepareNames(&a.topics, "topics", "topic"); err != nil {
		return err
	}
	if err := a.prepareNames(&a.sources, "sources", "name"); err != nil {
		return err
	}
	for _, s := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&a.stmt.begin, `BEGIN IMMEDIATE`},
		{&a.stmt.commit, `COMMIT`},
		{&a.stmt.rollback, `ROLLBACK`},
		{&a.stmt.schema, `PRAGMA main.schema_version`},
		// Without a number from us SQLite appends to the table. With one it first
		// looks for the row, each time.
		{&a.stmt.insert, `INSERT INTO messages(time, topic_id, source_id, flags, payload, properties)
			SELECT time, topic_id, source_id, flags, payload, properties FROM temp.incoming`},
		{&a.stmt.insertAt, `INSERT INTO messages(seq, time, topic_id, source_id, flags, payload, properties)
			SELECT rowid, time, topic_id, source_id, flags, payload, properties FROM temp.incoming`},
		{&a.stmt.lastRow, `SELECT max(seq) FROM messages`},
		{&a.stmt.setCursor, `UPDATE meta SET cursor = ?`},
		{&a.stmt.addGap, `INSERT INTO gaps(first, last, time) VALUES(?, ?, ?)`},
		{&a.stmt.addDeadLetter, `INSERT INTO dead_letters(seq, stage, reason, time) VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&a.aside.add, `INSERT INTO mqttetl_raw(seq, name, part, bytes) VALUES(?, ?, ?, ?)`},
	} {
		stmt, err := a.prepareOne(s.sql)
		if err != nil {
			return err
		}
		*s.to = stmt
	}
	return errors.Join(a.prepareTyped(), a.prepareReadings(), a.prepareLatest(), a.prepareBirths())
}

// show makes the source the temporary table of this name.
func (a *Archive) show(table string, s source) error {
	name := offer(s)
	a.shown = append(a.shown, name)
	_, err := a.conn.ExecContext(background, `CREATE VIRTUAL TABLE temp.`+quote(table)+` USING `+moduleName+`(`+name+`)`)
	return err
}

func (a *Archive) prepareOne(query string) (*sql.Stmt, error) {
	s, err := a.conn.PrepareContext(background, query)
	if err == nil {
		a.open = append(a.open, s)
	}
	return s, err
}

func now() int64 { return time.Now().UnixNano() }
