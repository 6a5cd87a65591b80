package archive

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"modernc.org/sqlite"

	"github.com/mqttetl/mqttetl"
)

const (
	// scanBytes is about how much one transaction reads. It is short: while a
	// reader holds a snapshot the write-ahead log cannot be emptied.
	scanBytes = 1 << 20
	// scanRows bounds the records that are returned at a time.
	scanRows = 16384
	// treeDepth is more than a table of 2^64 rows has.
	treeDepth = 24
)

// Reader reads the records of an archive, whether its service runs or not. It
// belongs to one goroutine. It writes nothing and holds no lock between two
// calls.
type Reader struct {
	path  string
	logID string

	db      *sql.DB
	conn    *sql.Conn
	pages   driver.Stmt // pgno → data
	resting bool        // it was at rest, see read
	info    os.FileInfo // the file as opened
	file    *os.File    // what is read past SQLite where that is as good, see unlogged; may be nil
	direct  bool        // in the transaction that runs

	size    int // of a page in bytes
	usable  int // of them, what is not reserved at its end
	topics  dictionary
	sources dictionary
	known   map[string]mqttetl.Properties // JSON → wire form
	meant   *mqttetl.Selection            // for which names holds its answers

	lost  error // why there is no connection any more
	room  *Room // of the Scan that runs
	tree  pages // read past SQLite, in the room
	found int   // records of the Scan before
}

// OpenReader opens the archive at path. Errors are those of ReadCursor, and
// ErrEmpty.
func OpenReader(path string) (*Reader, error) {
	r := &Reader{path: behindLinks(path)}
	err := r.open()
	if err == nil {
		err = r.identify()
	}
	if err != nil {
		err = failed(path, "open for reading", err)
		_ = r.Close() // the first error is the one that says why
		return nil, err
	}
	return r, nil
}

// open connects as read does.
func (r *Reader) open() (err error) {
	if r.info, err = os.Stat(r.path); err != nil {
		return err
	}
	if r.db, r.conn, r.resting, err = connectReader(background, r.path); err != nil {
		return err
	}
	err = r.conn.Raw(func(c any) error {
		pages, err := c.(driver.ConnPrepareContext).PrepareContext(background, `SELECT data FROM sqlite_dbpage WHERE pgno = ?`)
		if err == nil { // otherwise it is a nil that does not look like one
			r.pages = pages
		}
		return err
	})
	if err != nil || !sqlite.OFDLockingEnabled() { // without those locks a second descriptor takes others along, see init
		return err
	}
	r.file, err = os.Open(r.path)
	return err
}

// identify checks what the file is and learns the shape of its pages.
func (r *Reader) identify() error {
	return r.snapshot(func() error {
		id, err := readIdentity(r.conn)
		if err != nil {
			return err
		}
		if id.empty() {
			return ErrEmpty
		}
		if err := id.check(); err != nil {
			return err
		}
		m, err := readMeta(r.conn)
		if err != nil {
			return err
		}
		first, err := r.ask(1)
		if err != nil {
			return err
		}
		const reserved = 20 // offset in the file's header
		r.logID, r.size, r.usable = m.logID, len(first), len(first)-int(first[reserved])
		return nil
	})
}

// LogID is the id of the log that fills the archive.
func (r *Reader) LogID() string { return r.logID }

// Cursor is the last record that is archived now.
func (r *Reader) Cursor() (cursor mqttetl.Seq, err error) {
	err = r.snapshot(func() error {
		m, err := readMeta(r.conn)
		cursor = m.cursor
		return err
	})
	if err != nil {
		return 0, failed(r.path, "read cursor", err)
	}
	return cursor, nil
}

// Close closes the file.
func (r *Reader) Close() error {
	var err error
	if r.pages != nil {
		err = r.conn.Raw(func(any) error { return r.pages.Close() })
	}
	if r.conn != nil {
		err = errors.Join(err, r.conn.Close())
	}
	if r.db != nil {
		err = errors.Join(err, r.db.Close())
	}
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
	}
	r.pages, r.conn, r.db, r.file = nil, nil, nil, nil
	return err
}

// unlogged says that the transaction, which must have begun to read, sees the
// file as it is: the write-ahead log has nothing for it. That holds until the
// transaction ends: nothing goes from the log to the file that a reader before it
// must not see (https://www.sqlite.org/wal.html, "Checkpointing"), and the log is
// not emptied under a reader that needs it.
func (r *Reader) unlogged() bool {
	if r.resting || r.file == nil {
		return r.file != nil // snapshot checks behind that it was at rest
	}
	wal, err := os.Stat(r.path + walSuffix)
	if err != nil || wal.Size() > 0 {
		return false
	}
	// All three were of the file that SQLite has if that is still in its place.
	is, err := r.file.Stat()
	now, nerr := os.Stat(r.path)
	return errors.Join(err, nerr) == nil && os.SameFile(r.info, is) && os.SameFile(is, now)
}

// snapshot calls f within a transaction. If the file was opened at rest and a
// service has started since, what f has seen may be a mixture: the file is
// opened anew and f called again.
func (r *Reader) snapshot(f func() error) error {
	for r.lost == nil {
		err := r.transaction(f)
		if !r.resting {
			return err
		}
		if undisturbed(r.path, r.info) {
			return err
		}
		if r.lost = r.reopen(); r.lost != nil {
			_ = r.Close() // the first error is the one that says why
		}
	}
	return r.lost
}

// reopen opens the file anew, which must be the same one and hold the same.
func (r *Reader) reopen() error {
	if now, err := os.Stat(r.path); err != nil || !os.SameFile(r.info, now) {
		return errReplaced
	}
	if err := errors.Join(r.Close(), r.open()); err != nil {
		return err
	}
	return r.transaction(func() error {
		m, err := readMeta(r.conn)
		if err == nil && r.logID != "" && m.logID != r.logID {
			err = errReplaced
		}
		return err
	})
}

func (r *Reader) transaction(f func() error) error {
	if _, err := r.conn.ExecContext(background, `BEGIN`); err != nil {
		return err
	}
	err := f()
	_, rerr := r.conn.ExecContext(background, `ROLLBACK`)
	return errors.Join(err, rerr)
}

// Scan returns the next records of the selection among from..to, in the order
// of Seq, and the record behind which the next call goes on. At the end it
// returns io.EOF. The records stand in room; with nil they belong to the caller.
// Limit is the caller's to count. Records up to the cursor never change, so what
// one call after the other returns is one snapshot, if to is not beyond the
// cursor.
func (r *Reader) Scan(ctx context.Context, sel *mqttetl.Selection, from, to mqttetl.Seq, room *Room) (recs []mqttetl.Record, through mqttetl.Seq, err error) {
	if r.meant != sel {
		r.meant, r.topics, r.sources = sel, dictionary{}, dictionary{}
	}
	from = max(from, sel.From)
	if sel.To != 0 {
		to = min(to, sel.To)
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		if from > to {
			return nil, to, io.EOF
		}
		if r.room = room; room == nil {
			r.room = &Room{recs: make([]mqttetl.Record, 0, max(256, r.found+r.found/16))}
		}
		s := scan{r: r, sel: sel, from: from, to: to}
		s.earliest, s.latest = sel.Span()
		if err := r.snapshot(s.run); err != nil {
			return nil, 0, failed(r.path, fmt.Sprintf("read records from %d on", from), err)
		}
		if before := r.room.recs; len(s.recs) < len(before) {
			clear(before[len(s.recs):]) // which may hold on to large payloads
		}
		r.room.recs, r.found = s.recs, len(s.recs)
		if len(s.recs) > 0 {
			return s.recs, s.next - 1, nil
		}
		from = s.next
	}
}

// scan is one transaction's worth of reading.
type scan struct {
	r                *Reader
	sel              *mqttetl.Selection
	earliest, latest int64

	from, to mqttetl.Seq // what is to be read
	next     mqttetl.Seq // of that, the first that has not been
	read     int         // bytes
	full     bool
	recs     []mqttetl.Record

	aside int64 // the next record that has values in table mqttetl_raw
}

// run may be called again, and then begins again.
func (s *scan) run() error {
	s.next, s.recs, s.read, s.full = s.from, s.r.room.begin(), 0, false
	s.r.tree = pages{space: s.r.room.run}
	var root uint32
	var cursor int64 // no row is after it
	var raw bool
	if err := s.r.conn.QueryRowContext(background, `SELECT rootpage, (SELECT cursor FROM meta), EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'mqttetl_raw')
		FROM sqlite_schema WHERE name = 'messages'`).Scan(&root, &cursor, &raw); err != nil {
		return err
	}
	if s.aside = math.MaxInt64; raw {
		if err := s.nextAside(int64(s.from)); err != nil {
			return err
		}
	}
	s.r.direct = s.r.unlogged()
	if err := s.visit(root, 0, 0, cursor); err != nil {
		return err
	}
	if !s.full {
		s.next = s.to + 1
	}
	return nil
}

// visit reads the rows below a page that are still to be read. Their keys must lie
// behind low, and not behind high: a page that was damaged, or stands in for
// another, must not hide the rows that are not where it says.
func (s *scan) visit(number uint32, depth int, low, high int64) error {
	if depth > treeDepth {
		return errPage("the tree of messages is deeper than %d", treeDepth)
	}
	p, err := s.r.page(number)
	if err != nil {
		return err
	}
	s.read += len(p)
	if p.kind() == pageLeaf {
		return s.leaf(p, low, high)
	}
	for i := 0; i <= p.cells() && !s.full; i++ {
		child, key, last, err := p.child(i)
		if err != nil {
			return err
		}
		if last {
			key = high
		} else if key <= low || key > high {
			return errPage("page %d: key %d is not from %d to %d", number, key, low+1, high)
		}
		before := low
		low = key
		if !last && key < int64(s.next) {
			continue
		}
		if err := s.visit(child, depth+1, before, key); err != nil {
			return err
		}
		if !last && key >= int64(s.to) {
			return nil
		}
	}
	return nil
}

// leaf reads the rows of one page, whose keys are bounded as visit says.
func (s *scan) leaf(p page, low, high int64) error {
	taken := 0
	for i := range p.cells() {
		row, err := p.row(i)
		if err != nil {
			return err
		}
		taken += row.bytes
		if row.seq <= low || row.seq > high {
			return errPage("record %d is not from %d to %d", row.seq, low+1, high)
		}
		if low = row.seq; row.seq < int64(s.next) || row.seq > int64(s.to) {
			continue
		}
		if err := s.take(row); err != nil {
			return fmt.Errorf("record %d: %w", row.seq, err)
		}
		s.next = mqttetl.Seq(row.seq) + 1
	}
	if err := p.full(taken); err != nil {
		return err
	}
	s.full = s.read >= scanBytes || len(s.recs) >= scanRows
	return nil
}

// take adds the row to the records if it is selected.
func (s *scan) take(row leafCell) error {
	whole := row.local
	if row.overflow != 0 {
		var err error
		if whole, err = s.r.assemble(row); err != nil {
			return err
		}
		s.read += row.size
	}
	c, err := decodeRow(whole)
	if err != nil || c.time < s.earliest || c.time > s.latest {
		return err
	}
	topic := s.r.topics.known(c.topic)
	if topic == nil {
		if topic, err = s.r.lookUp(&s.r.topics, `SELECT CAST(topic AS BLOB) FROM topics WHERE id = ?`, c.topic, s.sel.MatchesTopic); err != nil {
			return err
		}
	}
	if !topic.wanted {
		return nil
	}
	source := s.r.sources.known(c.source)
	if source == nil {
		if source, err = s.r.lookUp(&s.r.sources, `SELECT CAST(name AS BLOB) FROM sources WHERE id = ?`, c.source,
			func(b []byte) bool { return s.sel.MatchesSource(string(b)) }); err != nil {
			return err
		}
	}
	if !source.wanted {
		return nil
	}
	properties, err := s.r.properties(c.properties)
	if err != nil {
		return err
	}
	s.recs = append(s.recs, mqttetl.Record{Seq: mqttetl.Seq(row.seq), Time: c.time, Source: source.text,
		Message: mqttetl.Message{Topic: topic.bytes, Payload: c.payload, Properties: properties, Flags: mqttetl.Flags(c.flags)}})
	if row.seq < s.aside {
		return nil
	}
	return s.putBack(&s.recs[len(s.recs)-1])
}
