// Package archive keeps records in an SQLite file that anyone can query.
//
// Its invariant: the rows and the cursor that says how far they reach change in
// one transaction, so that each record of the log is one row, whatever happens
// between two system calls. The cursor in the file is the authority; what the
// log remembers about it only guides trimming.
//
// The schema is in schema.go. While the service runs, the file can be read by
// any SQLite from 3.37 on: WAL mode, one writer connection, synchronous=FULL.
//
// Bytes are kept as they came. A payload is TEXT when it is valid UTF-8 without
// NUL and a BLOB otherwise. A topic is TEXT whatever its bytes are; what is not
// valid UTF-8 comes back unchanged through CAST(topic AS BLOB).
//
// The write-ahead log is copied into the file whenever it has grown by 8 MiB. A
// reader that holds an old snapshot keeps it from being emptied, so it grows
// while that reader lives and is cut back to 32 MiB after it has gone.
package archive

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// background is the context of all statements: one that can be cancelled costs
// a goroutine a statement.
var background = context.Background()

// Archive is an open archive with the only connection that writes to it. It is
// used by one goroutine at a time. After an error of Append, StartAt,
// AppendDeadLetters or Commit call Rollback, or Close and Open again.
type Archive struct {
	path    string
	options store.Options
	file    os.FileInfo // of the database as opened
	wal     os.FileInfo // of its write-ahead log

	db   *sql.DB
	conn *sql.Conn
	stmt statements
	open []*sql.Stmt // all that were prepared

	topics, sources names
	in              incoming
	shown           []string       // names of the virtual tables
	typed           []*tableFiller // in the order of options.Tables
	readings        readings
	latest          latest
	births          births
	aside           aside

	cursor  mqttetl.Seq // committed
	next    mqttetl.Seq // the record that the open transaction takes next
	inTx    bool
	schema  int64 // SQLite's count of changes of the schema when the archive was opened
	follows bool  // the last row is next-1, so that next is the number SQLite gives by itself

	walGrowth int64 // estimate of bytes added to the write-ahead log since the last checkpoint
	txBytes   int64 // estimate of the same for the open transaction
	walKept   uint64
	walHeld   string // see pending
}

// statements are prepared once; database/sql adds nothing to them a row.
type statements struct {
	begin, commit, rollback *sql.Stmt
	schema                  *sql.Stmt
	insert, insertAt        *sql.Stmt
	lastRow, setCursor      *sql.Stmt
	addGap, addDeadLetter   *sql.Stmt
}

// Cursor is the Seq of the last record that is durably archived, or was
// declared missing by StartAt. Zero: none yet.
func (a *Archive) Cursor() mqttetl.Seq { return a.cursor }

// Append inserts the records, opening a transaction when none is open. They
// must continue without a hole where the archive ends; a record that comes
// again or too early is refused with an error wrapping mqttetl.ErrForeign,
// because it means that the log is not the one that filled the archive. All
// bytes are copied before Append returns. Nothing is durable before Commit.
func (a *Archive) Append(records []mqttetl.Record) error {
	if len(records) == 0 {
		return nil
	}
	if err := a.checkOrder(records); err != nil {
		return err
	}
	first, last := records[0].Seq, records[len(records)-1].Seq
	err := a.begin()
	if err == nil {
		err = a.insert(records)
	}
	if err != nil {
		return a.failed(fmt.Sprintf("records %d..%d", first, last), err)
	}
	a.next = last + 1
	return nil
}

// checkOrder refuses records that do not continue where the archive ends.
func (a *Archive) checkOrder(records []mqttetl.Record) error {
	for i := range records {
		want := a.next + mqttetl.Seq(i)
		switch seq := records[i].Seq; {
		case seq == want && seq <= math.MaxInt64:
		case seq < want:
			return a.failed(fmt.Sprintf("record %d", seq), fmt.Errorf("%w: already archived up to %d", mqttetl.ErrForeign, want-1))
		default:
			return a.failed(fmt.Sprintf("record %d", seq), fmt.Errorf("%w: expected record %d", mqttetl.ErrForeign, want))
		}
	}
	return nil
}

// insert hands the records to SQLite, which reads them out of Go memory
// through the virtual table of incoming.go: one statement for all of them.
func (a *Archive) insert(records []mqttetl.Record) error {
	err := a.insertAll(records)
	if refusedContent(err) {
		return a.insertParts(records, err)
	}
	if err != nil {
		return err
	}
	return a.asideProperties(records)
}

func (a *Archive) insertAll(records []mqttetl.Record) error {
	a.in.reset(records)
	defer a.in.reset(nil)
	for i := range records {
		topic, err := a.topics.get(records[i].Topic)
		if err != nil {
			return err
		}
		a.latest.saw(topic, records[i].Seq)
		source, err := a.sources.id(stringBytes(records[i].Source))
		if err != nil {
			return err
		}
		a.in.keys = append(a.in.keys, keys{topic.id, source})
		a.txBytes += int64(len(records[i].Payload)+len(records[i].Properties)) + rowOverhead
	}
	stmt := a.stmt.insert
	if !a.follows {
		stmt = a.stmt.insertAt
	}
	res, err := stmt.ExecContext(background)
	if err != nil {
		return err
	}
	return a.checkRows(res, records)
}

// checkRows rolls the transaction back if SQLite has numbered the rows
// otherwise than the log, or left some out.
func (a *Archive) checkRows(res sql.Result, records []mqttetl.Record) error {
	rows, err := res.RowsAffected()
	if err != nil {
		return err
	}
	last, err := res.LastInsertId()
	if err != nil {
		return err
	}
	if want := records[len(records)-1].Seq; int(rows) != len(records) || mqttetl.Seq(last) != want {
		var err error
		if int(rows) < len(records) {
			err = a.keptOut("messages")
		}
		if err == nil {
			err = mqttetl.WithHint(fmt.Errorf("%w: %d of %d rows inserted, the last as record %d, not %d", mqttetl.ErrDamaged, rows, len(records), last, want), hintRows)
		}
		return errors.Join(err, a.Rollback())
	}
	a.follows = true
	return nil
}

// StartAt declares that the records from the archive's end up to next-1 will
// never come, because the log had trimmed them before they were archived. It
// writes the gap down, in the open transaction or one it opens, so that Verify
// can tell it from damage. Going back is refused with an error wrapping
// mqttetl.ErrForeign; the next expected record is no gap and changes nothing.
func (a *Archive) StartAt(next mqttetl.Seq) error {
	switch {
	case next == a.next:
		return nil
	case next < a.next || next > math.MaxInt64:
		return a.failed(fmt.Sprintf("start at record %d", next), fmt.Errorf("%w: already archived up to %d", mqttetl.ErrForeign, a.next-1))
	}
	err := a.begin()
	if err == nil {
		err = run(a.stmt.addGap, int64(a.next), int64(next-1), now())
	}
	if err != nil {
		return a.failed(fmt.Sprintf("note that records %d..%d are missing", a.next, next-1), err)
	}
	a.next, a.follows = next, false
	return nil
}

// AppendDeadLetters inserts dead letters, opening a transaction when none is
// open. One that is there already, by record and stage, stays as it is, so
// that the same letters may be handed over again after a crash.
func (a *Archive) AppendDeadLetters(letters []mqttetl.DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	err := a.begin()
	for i := 0; err == nil && i < len(letters); i++ {
		l := &letters[i]
		err = run(a.stmt.addDeadLetter, int64(l.Seq), l.Stage, l.Reason, l.Time)
		a.txBytes += int64(len(l.Stage)+len(l.Reason)) + rowOverhead
	}
	if err != nil {
		return a.failed(fmt.Sprintf("%d dead letters", len(letters)), err)
	}
	return nil
}

// begin opens a transaction unless one is open. Before it, the write-ahead log
// is copied into the file when that is due, so that a failure of the copying
// is an error of work not yet begun, never of a commit that has happened.
func (a *Archive) begin() error {
	if a.inTx {
		return nil
	}
	if err := a.checkpoint(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := a.beginBeside(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	a.inTx, a.next, a.txBytes = true, a.cursor+1, txOverhead
	last, err := a.lastRow()
	if err == nil {
		err = a.checkSchema()
	}
	if err != nil {
		return errors.Join(err, a.Rollback())
	}
	a.follows = last == a.cursor
	return nil
}

// besideTime is how long a transaction waits for those of a Rerun, which are
// many and short: that one of them is in the way is no outage.
const besideTime = 5 * time.Second

func (a *Archive) beginBeside() error {
	err := run(a.stmt.begin)
	for until := time.Now().Add(besideTime); code(err) == codeBusy && a.rerunning() && time.Now().Before(until); {
		err = run(a.stmt.begin)
	}
	return err
}

func (a *Archive) checkSchema() error {
	var now int64
	if err := a.stmt.schema.QueryRowContext(background).Scan(&now); err != nil {
		return err
	}
	if now != a.schema {
		return store.ErrChanged
	}
	return nil
}

// lastRow is the number of the last row, 0 if there is none. One beyond the
// cursor was put there by somebody else.
func (a *Archive) lastRow() (mqttetl.Seq, error) {
	var last sql.Null[mqttetl.Seq]
	if err := a.stmt.lastRow.QueryRowContext(background).Scan(&last); err != nil {
		return 0, err
	}
	if last.V > a.cursor {
		return 0, mqttetl.WithHint(fmt.Errorf("%w: table messages holds record %d, beyond the cursor %d", mqttetl.ErrDamaged, last.V, a.cursor), hintRows)
	}
	return last.V, nil
}

// Commit makes everything since the last Commit durable, rows and cursor at
// once. After it Cursor has moved. Without an open transaction it does nothing.
func (a *Archive) Commit() error {
	if !a.inTx {
		return nil
	}
	if err := a.finish(); err != nil {
		return a.failed(fmt.Sprintf("commit after record %d", a.cursor), err)
	}
	a.inTx = false
	a.cursor = a.next - 1
	a.walGrowth += a.txBytes
	a.topics.keep()
	a.sources.keep()
	a.readings.series.keep()
	return nil
}

func (a *Archive) finish() error {
	if err := a.writeLatest(); err != nil {
		return fmt.Errorf("table latest: %w", err)
	}
	if a.next-1 != a.cursor {
		if err := run(a.stmt.setCursor, int64(a.next-1)); err != nil {
			return err
		}
	}
	return run(a.stmt.commit)
}

// Rollback undoes everything since the last Commit. SQLite may have done so by
// itself after an I/O error or on a full disk; that is no error.
func (a *Archive) Rollback() error {
	if !a.inTx {
		return nil
	}
	a.inTx = false
	a.next = a.cursor + 1
	a.topics.undo()
	a.sources.undo()
	a.readings.series.undo()
	a.latest.forget()
	a.aside.letters = nil
	if err := run(a.stmt.rollback); err != nil && code(err) != codeError {
		return a.failed("rollback", err)
	}
	return nil
}

// Keep keeps what was made of the records, opening a transaction when none is
// open. Everything is copied before it returns.
func (a *Archive) Keep(m *store.Made) error {
	for i := range m.Rows {
		if err := a.AppendRows(i, &m.Rows[i]); err != nil {
			return err
		}
	}
	if err := a.AppendReadings(m.Readings); err != nil {
		return err
	}
	if err := a.AppendBirths(m.Births); err != nil {
		return err
	}
	return a.AppendDeadLetters(m.Letters)
}

// State is how the archive is now. It is an error if the file at the path is no
// longer the one that is open: it or its write-ahead log was deleted, or replaced
// by another.
func (a *Archive) State() (store.State, error) {
	if !sameFile(a.path, a.file) || !sameFile(a.path+walSuffix, a.wal) {
		return store.State{}, fmt.Errorf("archive %s: %w: the file was deleted or replaced", a.path, mqttetl.ErrUnavailable)
	}
	return store.State{Shared: a.rerunning(), Room: a.free(), SetAside: a.setAsides(), Pending: a.pending()}, nil
}

func sameFile(path string, was os.FileInfo) bool {
	is, err := os.Stat(path)
	return err == nil && os.SameFile(is, was)
}

// Close rolls back what was not committed and closes the file. If no other
// connection is open, SQLite copies the write-ahead log into the file and
// removes it.
func (a *Archive) Close() error {
	err := a.Rollback()
	for _, name := range a.shown {
		withdraw(name)
	}
	a.shown = nil
	for _, s := range a.open { // one left open would keep SQLite from closing the file
		err = errors.Join(err, s.Close())
	}
	a.open = nil
	if a.conn != nil {
		err = errors.Join(err, a.conn.Close())
	}
	if a.db != nil {
		err = errors.Join(err, a.db.Close())
	}
	if err != nil {
		return a.failed("close", err)
	}
	return nil
}

func run(s *sql.Stmt, args ...driver.Value) error {
	list := make([]any, len(args))
	for i, v := range args {
		list[i] = v
	}
	_, err := s.ExecContext(background, list...)
	return err
}
