package pages

import (
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"

	"modernc.org/sqlite"
)

// File is an SQLite file in WAL mode whose pages are read, within the
// transactions of a connection. It belongs to one goroutine.
type File struct {
	conn    *sql.Conn
	stmt    driver.Stmt // pgno → data
	path    string
	info    os.FileInfo // the file as opened
	resting bool        // there is no write-ahead log, see Open
	file    *os.File    // what is read past SQLite where that is as good, see unlogged; may be nil
	direct  bool        // in the pass that runs

	size   int // of a page in bytes
	usable int // of them, what is not reserved at its end
	tree   run // read past SQLite
}

// Open opens the file at path beside a connection to it, which stays the
// caller's. resting says that there is no write-ahead log: what is read counts only
// if the caller finds afterwards that there was none.
func Open(conn *sql.Conn, path string, info os.FileInfo, resting bool) (*File, error) {
	f := &File{conn: conn, path: path, info: info, resting: resting}
	err := conn.Raw(func(c any) error {
		stmt, err := c.(driver.ConnPrepareContext).PrepareContext(background, `SELECT data FROM sqlite_dbpage WHERE pgno = ?`)
		if err == nil { // otherwise it is a nil that does not look like one
			f.stmt = stmt
		}
		return err
	})
	if err != nil || !sqlite.OFDLockingEnabled() { // without those locks, closing a second descriptor drops the locks of the first
		return f, err
	}
	f.file, err = os.Open(path)
	return f, err
}

// Shape learns how large the pages are. It is called before Pass, within a
// transaction.
func (f *File) Shape() error {
	first, err := f.ask(1)
	if err != nil {
		return err
	}
	const reserved = 20 // offset in the file's header
	f.size, f.usable = len(first), len(first)-int(first[reserved])
	return nil
}

// Direct says that the last Pass has read the file past SQLite.
func (f *File) Direct() bool { return f.direct }

// Close closes what Open has opened, before the connection is closed. It may be
// called of nil.
func (f *File) Close() (err error) {
	if f == nil {
		return nil
	}
	if f.stmt != nil {
		err = f.conn.Raw(func(any) error { return f.stmt.Close() })
	}
	if f.file != nil {
		err = errors.Join(err, f.file.Close())
	}
	f.stmt, f.file = nil, nil
	return err
}

// unlogged says that the transaction, which must have begun to read, sees the
// file as it is: the write-ahead log has nothing for it. That holds until the
// transaction ends: nothing is copied from the log to the file that a reader before it
// must not see (https://www.sqlite.org/wal.html, "Checkpointing"), and the log is
// not emptied under a reader that needs it.
func (f *File) unlogged() bool {
	if f.resting || f.file == nil {
		return f.file != nil // the caller of Open checks that it was at rest
	}
	wal, err := os.Stat(f.path + "-wal")
	if err != nil || wal.Size() > 0 {
		return false
	}
	// All three were of the file that SQLite has if that is still in its place.
	is, err := f.file.Stat()
	now, nerr := os.Stat(f.path)
	return errors.Join(err, nerr) == nil && os.SameFile(f.info, is) && os.SameFile(is, now)
}

// page fetches a page of the table's tree.
func (f *File) page(number uint32) (page, error) {
	p, err := f.raw(number, &f.tree)
	if err != nil {
		return nil, err
	}
	return page(p), page(p).check()
}

// run is pages of a file that follow one another.
type run struct {
	bytes  []byte
	first  uint32
	latest uint32             // that was asked for
	space  func(n int) []byte // where the next ones go; nil: over these
}

// raw fetches a page, without the bytes reserved at its end. Where the file holds
// what the transaction sees it is read as any other, which takes a third of the
// time that SQLite takes.
func (f *File) raw(number uint32, pages *run) (p []byte, err error) {
	if f.direct {
		p, err = f.read(number, pages)
	} else {
		p, err = f.ask(number)
	}
	if errors.Is(err, io.EOF) || number == 0 {
		return nil, errPage("page %d does not exist", number)
	}
	if err != nil {
		return nil, err
	}
	return p[:f.usable:f.usable], nil
}

// read reads a page from the file, together with those after it if the page
// before it was asked for last.
func (f *File) read(number uint32, pages *run) ([]byte, error) {
	if number < pages.first || int64(number-pages.first+1)*int64(f.size) > int64(len(pages.bytes)) {
		n := 1
		if number == pages.latest+1 {
			n = runPages
		}
		var b []byte
		if pages.space != nil {
			b = pages.space(n * f.size)
		} else {
			b = slices.Grow(pages.bytes[:0], n*f.size)[:n*f.size]
		}
		got, err := f.file.ReadAt(b, (int64(number)-1)*int64(f.size))
		pages.bytes, pages.first = b[:got-got%f.size], number
		if got < f.size {
			return nil, err
		}
	}
	pages.latest = number
	at := int64(number-pages.first) * int64(f.size)
	return pages.bytes[at : at+int64(f.size)], nil
}

// ask fetches a page from SQLite. It asks the driver itself, whose copy of the
// page is the caller's: database/sql would make another.
func (f *File) ask(number uint32) (p []byte, err error) {
	err = f.conn.Raw(func(any) error {
		rows, err := f.stmt.(driver.StmtQueryContext).QueryContext(background, []driver.NamedValue{{Ordinal: 1, Value: int64(number)}})
		if err != nil {
			return err
		}
		defer rows.Close()
		var row [1]driver.Value
		err = rows.Next(row[:])
		p, _ = row[0].([]byte)
		return err
	})
	if err == nil && (len(p) < 480 || f.size != 0 && len(p) != f.size) {
		err = errPage("page %d has %d bytes", number, len(p))
	}
	return p, err
}

// assemble reads the rest of a row from its overflow pages.
func (f *File) assemble(row leafCell) ([]byte, error) {
	whole := make([]byte, 0, row.size)
	whole = append(whole, row.local...)
	var rest run
	for next := row.overflow; len(whole) < row.size; {
		if next == 0 {
			return nil, errPage("overflow pages end after %d of %d bytes", len(whole), row.size)
		}
		p, err := f.raw(next, &rest)
		if err != nil {
			return nil, err
		}
		next = binary.BigEndian.Uint32(p)
		whole = append(whole, p[4:min(len(p), 4+row.size-len(whole))]...)
	}
	return whole, nil
}
