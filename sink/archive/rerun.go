package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Rerun makes a typed table anew from the archived messages, beside the
// program that continues to fill the archive. The rows gather in a table of their
// own, with the position up to which they reach, in transactions of a few
// milliseconds; Swap puts the table into the place of the old one.
//
// It belongs to one goroutine, and there is one of an archive at a time. What a
// crash leaves is found by the next one.
type Rerun struct {
	a     *Archive // the connection, which writes nothing of messages
	table store.Table
	lock  *os.File
	rows  *tableFiller
	inTx  bool // Swap's

	ended time.Time     // the last transaction
	spent time.Duration // in it

	State RerunState
	Found bool // State is that of a rerun that was interrupted
}

// RerunState is how far a rerun has come.
type RerunState struct {
	Routes string      // the caller's description of what makes the rows
	First  mqttetl.Seq // rows of earlier records are kept as they are
	Next   mqttetl.Seq // the record that comes next

	kept int64 // rowid of the old table up to which those rows are copied
}

const rerunSchema = `
CREATE TABLE IF NOT EXISTS mqttetl_rerun(
  name TEXT PRIMARY KEY,                           -- of the typed table
  routes TEXT NOT NULL,
  first INTEGER NOT NULL,
  next INTEGER NOT NULL,
  kept INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS mqttetl_rerun_letters(
  name TEXT, seq INTEGER, stage TEXT, reason TEXT, time INTEGER, UNIQUE(name, seq, stage)
) STRICT;
`

// rerunSuffix is that of the file which is locked while a Rerun is open.
const rerunSuffix = "-rerun"

// lockTime is how long a Rerun waits for its locks: those of a transaction of
// the service, which leaves gaps (see rerunning), and of another look at the
// lock file.
const lockTime = 30 * time.Second

// OpenRerun opens the archive at path, to build the table. Errors are those of
// OpenReader, and mqttetl.ErrLocked while another Rerun is open.
func OpenRerun(ctx context.Context, path string, t store.Table) (*Rerun, error) {
	r := &Rerun{a: &Archive{path: behindLinks(path)}, table: t}
	err := r.open(ctx)
	if err != nil {
		_ = r.Close() // the first error is the one that says why
		return nil, failed(path, "rerun table "+t.Name, err)
	}
	return r, nil
}

func (r *Rerun) open(ctx context.Context) error {
	if err := r.openBeside(ctx); err != nil {
		return err
	}
	if err := r.transaction(ctx, func() error { return r.exec(rerunSchema) }); err != nil {
		return err
	}
	s := &r.State
	err := r.a.conn.QueryRowContext(ctx, `SELECT routes, first, next, kept FROM mqttetl_rerun WHERE name = ?`, lower(r.table.Name)).
		Scan(&s.Routes, &s.First, &s.Next, &s.kept)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	r.Found = err == nil
	return err
}

// openBeside opens the archive for transactions beside those of the service.
func (r *Rerun) openBeside(ctx context.Context) error {
	if err := r.takeLock(ctx); err != nil {
		return err
	}
	a := r.a
	if err := a.connect(); err != nil {
		return err
	}
	id, err := readIdentity(a.conn)
	switch {
	case err != nil:
		return err
	case id.empty():
		return ErrEmpty
	}
	if err := id.check(); err != nil {
		return err
	}
	// Positions and rows that a power cut takes back are made again. Swap syncs.
	// legacy_alter_table: views of the table stay views of its name.
	if _, err := a.conn.ExecContext(ctx, `PRAGMA busy_timeout=0; PRAGMA synchronous=NORMAL; PRAGMA legacy_alter_table=ON`); err != nil {
		return err
	}
	for to, text := range map[**sql.Stmt]string{&a.stmt.begin: `BEGIN IMMEDIATE`, &a.stmt.commit: `COMMIT`, &a.stmt.rollback: `ROLLBACK`} {
		if *to, err = a.prepareOne(text); err != nil {
			return err
		}
	}
	return nil
}

// lower is the name under which tables are known here: SQLite ignores case.
func lower(name string) string { return strings.ToLower(name) }

func (r *Rerun) newName() string { return "mqttetl_new_" + lower(r.table.Name) }
func (r *Rerun) oldName() string { return "mqttetl_old_" + lower(r.table.Name) }

// takeLock makes sure that there is no other Rerun, and tells the service.
func (r *Rerun) takeLock(ctx context.Context) error {
	if _, err := os.Stat(r.a.path); err != nil {
		return err
	}
	path := r.a.path + rerunSuffix
	for until := time.Now().Add(time.Second); ; {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		info, serr := f.Stat()
		if err == nil && serr == nil && sameFile(path, info) {
			r.lock = f
			return nil
		}
		_ = f.Close() // nothing was written
		if time.Now().After(until) {
			return fmt.Errorf("%w: another rerun is under way", mqttetl.ErrLocked)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// pause is a moment between two attempts.
func pause(ctx context.Context) error {
	t := time.NewTimer(time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// rerunning says that a Rerun is under way in some process. Its transactions
// are short, and need gaps between those of the archive.
func (a *Archive) rerunning() bool {
	f, err := os.Open(a.path + rerunSuffix)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Close ends the rerun; what was not committed is undone.
func (r *Rerun) Close() error {
	err := r.a.Close()
	if r.lock != nil {
		_ = os.Remove(r.a.path + rerunSuffix) // one that stays does no harm
		err = errors.Join(err, r.lock.Close())
		r.lock = nil
	}
	return err
}

func (r *Rerun) exec(text string, args ...any) error {
	_, err := r.a.conn.ExecContext(background, text, args...)
	return err
}

// transaction calls f in a transaction, for which it waits.
func (r *Rerun) transaction(ctx context.Context, f func() error) error {
	a := r.a
	if err := a.checkpoint(); err != nil {
		return err
	}
	for time.Since(r.ended) < r.spent/2 { // a gap for the service, unless the caller has left one
		if err := pause(ctx); err != nil {
			return err
		}
	}
	for until := time.Now().Add(lockTime); ; {
		err := run(a.stmt.begin)
		if err == nil {
			break
		}
		if code(err) != codeBusy || time.Now().After(until) {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	a.txBytes = txOverhead
	begun := time.Now()
	defer func() { r.ended = time.Now(); r.spent = r.ended.Sub(begun) }()
	err := f()
	if err == nil {
		err = run(a.stmt.commit)
	}
	if err != nil {
		_ = run(a.stmt.rollback) // the first error is the one that says why
		return err
	}
	a.walGrowth += a.txBytes
	return nil
}

// Changed are the columns of the table that is there whose types will be others,
// and whether there is a table.
func (r *Rerun) Changed() (columns []string, exists bool, err error) {
	have, err := tableColumns(r.a.conn, r.table.Name)
	if err != nil || have == nil {
		return nil, false, err
	}
	for _, c := range r.table.Columns {
		if kind, ok := have[strings.ToLower(c.Name)]; ok && kind != c.Type.String() {
			columns = append(columns, c.Name)
		}
	}
	return columns, true, nil
}

// Indexes is the SQL of the old table's indexes and triggers, without a plain
// index on time, which the new one has. They go with it.
func (r *Rerun) Indexes() (list []string, err error) {
	rows, err := r.a.conn.QueryContext(background, `SELECT sql FROM main.sqlite_schema WHERE lower(tbl_name) = ?1 AND sql IS NOT NULL
		AND (type = 'trigger' OR type = 'index' AND name NOT IN (SELECT i.name FROM pragma_index_list(?1, 'main') i WHERE NOT i."unique" AND NOT i.partial
			AND (SELECT group_concat(coalesce(lower(name), '')) FROM pragma_index_info(i.name, 'main')) = 'time'))`, lower(r.table.Name))
	if err != nil {
		return nil, err
	}
	err = eachRow(rows, func() error {
		var s string
		err := rows.Scan(&s)
		list = append(list, s)
		return err
	})
	return list, err
}

// Begin begins anew, with the rows of the old table that belong to records
// before s.First.
func (r *Rerun) Begin(ctx context.Context, s RerunState) error {
	r.Found = false
	if err := r.Discard(ctx); err != nil {
		return err
	}
	s.Next, s.kept = s.First, 0
	// The old table's index keeps its name until the old table is gone. The
	// reserved one is in the way of no table, whenever this is interrupted.
	index, err := freeIndex(r.a.conn, "mqttetl_time_"+lower(r.table.Name), nil)
	if err != nil {
		return err
	}
	err = r.transaction(ctx, func() error {
		return errors.Join(r.exec(createTable(r.newName(), index, &r.table)),
			r.exec(`INSERT INTO mqttetl_rerun(name, routes, first, next, kept) VALUES(?, ?, ?, ?, 0)`, lower(r.table.Name), s.Routes, int64(s.First), int64(s.Next)))
	})
	if err != nil {
		return failed(r.a.path, "begin to rerun table "+r.table.Name, err)
	}
	r.State = s
	return r.Resume()
}

// Resume continues from State.
func (r *Rerun) Resume() error {
	t := r.table
	t.Name = r.newName()
	r.a.options.Tables = []store.Table{t}
	if err := r.a.prepareTyped(); err != nil {
		return failed(r.a.path, "rerun table "+r.table.Name, err)
	}
	r.rows = r.a.typed[0]
	return nil
}

// rerunRows is how many rows are moved or deleted in one transaction.
const rerunRows = 10_000

// Keep copies the rows that are kept, if it has not been done. It tells how
// many there were each time.
func (r *Rerun) Keep(ctx context.Context, copied func(rows int64)) error {
	have, err := tableColumns(r.a.conn, r.table.Name)
	if err != nil || have == nil || r.State.First <= 1 {
		return err
	}
	columns := []string{"seq", "time"}
	for _, c := range r.table.Columns {
		if have[strings.ToLower(c.Name)] != "" {
			columns = append(columns, quote(c.Name))
		}
	}
	list := strings.Join(columns, ",")
	move := fmt.Sprintf(`INSERT INTO %s(%s) SELECT %s FROM %s WHERE rowid > ? AND rowid <= ? AND seq < ? ORDER BY rowid`,
		quote(r.newName()), list, list, quote(r.table.Name))
	ahead := fmt.Sprintf(`SELECT max(rowid) FROM (SELECT rowid FROM %s WHERE rowid > ? ORDER BY rowid LIMIT %d)`, quote(r.table.Name), rerunRows)
	for {
		var to sql.NullInt64
		err := r.transaction(ctx, func() error {
			if err := r.a.conn.QueryRowContext(background, ahead, r.State.kept).Scan(&to); err != nil || !to.Valid {
				return err
			}
			res, err := r.a.conn.ExecContext(background, move, r.State.kept, to.Int64, int64(r.State.First))
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			r.a.txBytes += n * 4 * rowOverhead
			copied(n)
			return errors.Join(err, r.exec(`UPDATE mqttetl_rerun SET kept = ? WHERE name = ?`, to.Int64, lower(r.table.Name)))
		})
		if err != nil {
			return failed(r.a.path, "keep rows of table "+r.table.Name, err)
		}
		if !to.Valid {
			return nil
		}
		r.State.kept = to.Int64
	}
}

// Append adds rows and dead letters of the records up to next, and moves the
// position there, in one transaction; in that of Swap if it is called there.
func (r *Rerun) Append(ctx context.Context, rows *store.Rows, letters []mqttetl.DeadLetter, next mqttetl.Seq) error {
	f := func() error {
		if rows != nil && rows.Len() > 0 {
			if err := r.a.insertRows(r.rows, rows); err != nil {
				return err
			}
		}
		for i := range letters {
			l := &letters[i]
			if err := r.exec(`INSERT INTO mqttetl_rerun_letters VALUES(?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				lower(r.table.Name), int64(l.Seq), l.Stage, l.Reason, l.Time); err != nil {
				return err
			}
		}
		return r.exec(`UPDATE mqttetl_rerun SET next = ? WHERE name = ?`, int64(next), lower(r.table.Name))
	}
	var err error
	if r.inTx {
		err = f()
	} else {
		err = r.transaction(ctx, f)
	}
	if err != nil {
		return failed(r.a.path, "rerun table "+r.table.Name, err)
	}
	r.State.Next = next
	return nil
}
