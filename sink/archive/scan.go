package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive/pages"
)

const (
	// scanBytes is about how much one transaction reads. It is short: while a
	// reader holds a snapshot the write-ahead log cannot be emptied.
	scanBytes = 1 << 20
	// scanRows bounds the records that are returned at a time.
	scanRows = 16384
)

// Reader reads the records of an archive, whether its service runs or not. It
// belongs to one goroutine. It writes nothing and holds no lock between two
// calls.
type Reader struct {
	path  string
	logID string

	db      *sql.DB
	conn    *sql.Conn
	resting bool        // it was at rest, see read
	info    os.FileInfo // the file as opened
	pages   *pages.File

	topics  dictionary
	sources dictionary
	known   map[string]mqttetl.Properties // JSON → wire form
	asked   *mqttetl.Selection            // for which the dictionaries hold answers

	lost  error // why there is no connection any more
	room  *Room // of the Scan that runs
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
	r.pages, err = pages.Open(r.conn, r.path, r.info, r.resting)
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
		r.logID = m.logID
		return r.pages.Shape()
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
	err := r.pages.Close()
	if r.conn != nil {
		err = errors.Join(err, r.conn.Close())
	}
	if r.db != nil {
		err = errors.Join(err, r.db.Close())
	}
	r.pages, r.conn, r.db = nil, nil, nil
	return err
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
		if err != nil {
			return err
		}
		return r.pages.Shape()
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
// of Seq, and the record after which the next call continues. At the end it
// returns io.EOF. The records are in room; with nil they belong to the caller.
// Limit is the caller's to count. Records up to the cursor never change, so what
// one call after the other returns is one snapshot, if to is not beyond the
// cursor.
func (r *Reader) Scan(ctx context.Context, sel *mqttetl.Selection, from, to mqttetl.Seq, room *Room) (recs []mqttetl.Record, through mqttetl.Seq, err error) {
	if r.asked != sel {
		r.asked, r.topics, r.sources = sel, dictionary{}, dictionary{}
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
	next     mqttetl.Seq // of that, the first that has not been read
	recs     []mqttetl.Record

	aside int64 // the next record that has values in table mqttetl_raw
	extra int   // bytes read of that table
}

// run may be called again, and then begins again.
func (s *scan) run() error {
	s.recs, s.extra = s.r.room.begin(), 0
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
	full := func(read int) bool { return read+s.extra >= scanBytes || len(s.recs) >= scanRows }
	next, err := s.r.pages.Pass(&pages.Pass{Root: root, From: int64(s.from), To: int64(min(s.to, math.MaxInt64-1)), Last: cursor, Space: s.r.room.run, Row: s.take, Full: full})
	s.next = mqttetl.Seq(next)
	return err
}

// take adds the row to the records if it is selected.
func (s *scan) take(seq int64, c *pages.Message) error {
	if c.Time < s.earliest || c.Time > s.latest {
		return nil
	}
	var err error
	topic := s.r.topics.known(c.Topic)
	if topic == nil {
		if topic, err = s.r.lookUp(&s.r.topics, `SELECT CAST(topic AS BLOB) FROM topics WHERE id = ?`, c.Topic, s.sel.MatchesTopic); err != nil {
			return err
		}
	}
	if !topic.wanted {
		return nil
	}
	source := s.r.sources.known(c.Source)
	if source == nil {
		if source, err = s.r.lookUp(&s.r.sources, `SELECT CAST(name AS BLOB) FROM sources WHERE id = ?`, c.Source,
			func(b []byte) bool { return s.sel.MatchesSource(string(b)) }); err != nil {
			return err
		}
	}
	if !source.wanted {
		return nil
	}
	properties, err := s.r.properties(c.Properties)
	if err != nil {
		return err
	}
	s.recs = append(s.recs, mqttetl.Record{Seq: mqttetl.Seq(seq), Time: c.Time, Source: source.text,
		Message: mqttetl.Message{Topic: topic.bytes, Payload: c.Payload, Properties: properties, Flags: mqttetl.Flags(c.Flags)}})
	if seq < s.aside {
		return nil
	}
	return s.putBack(&s.recs[len(s.recs)-1])
}
