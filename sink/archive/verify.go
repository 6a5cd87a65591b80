package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Report is what Verify has found.
type Report struct {
	LogID    string      // of the log that fills the archive, "" if it is new and empty
	Cursor   mqttetl.Seq // the last archived record
	Gaps     []Gap       // records that were never archived, oldest first
	Problems []Problem   // none: the archive is sound
}

// Gap is a range of records that were no longer in the log when the archive
// came to them. It is no damage: they were lost before, and this was noted.
type Gap struct{ First, Last mqttetl.Seq }

// Problem is a place where the archive is not as it was written.
type Problem struct {
	Table string
	Seq   mqttetl.Seq // the record, or the first of several; 0 where it is about none
	Text  string
}

func (p Problem) String() string {
	if p.Seq == 0 {
		return fmt.Sprintf("table %s: %s", p.Table, p.Text)
	}
	return fmt.Sprintf("table %s, record %d: %s", p.Table, p.Seq, p.Text)
}

// maxProblems bounds the report: one broken page can make very many.
const maxProblems = 100

// Verify checks the archive's bookkeeping: that every record up to the cursor
// is a row or lies in a noted gap, and none is beyond it. That costs a few
// look-ups, whatever the size: it looks at the ends of each range. With full it
// reads everything: each record is there, each row's topic and source, each value
// that stands beside its row, and the pages (SQLite's quick_check). It sees one snapshot, also while the service
// runs; meanwhile the write-ahead log cannot be emptied.
//
// Damage is in the report; an error says why the archive could not be read:
// mqttetl.ErrUnavailable, mqttetl.ErrForeign, store.ErrVersion. Nothing is changed,
// see ReadCursor.
func Verify(ctx context.Context, path string, full bool) (*Report, error) {
	v := &verification{}
	err := read(ctx, path, func(c *sql.Conn) error {
		v = &verification{ctx: ctx, c: c}
		return v.run(full)
	})
	if err != nil {
		return nil, failed(path, "verify", err)
	}
	return &v.Report, nil
}

type verification struct {
	Report
	ctx context.Context
	c   *sql.Conn
}

func (v *verification) run(full bool) error {
	id, err := readIdentity(v.c)
	switch {
	case err != nil:
		return v.damage("sqlite_schema", err)
	case id.empty():
		return nil
	}
	if err := id.check(); err != nil {
		return v.damage("sqlite_schema", err)
	}
	checks := []struct {
		table string
		check func() error
	}{{"meta", func() error { return v.meta(id) }}, {"gaps", v.gaps}, {"messages", v.ends}}
	if full {
		checks = append(checks, []struct {
			table string
			check func() error
		}{{"messages", v.holes}, {"messages", v.references}, {"mqttetl_raw", v.aside}, {"sqlite_schema", v.pages}}...)
	}
	for _, c := range checks {
		if err := v.damage(c.table, c.check()); err != nil {
			return err
		}
	}
	return nil
}

// damage turns an error that is damage into a problem and returns any other.
func (v *verification) damage(table string, err error) error {
	if err == nil {
		return nil
	}
	if _, kind := kindOf(err); errors.Is(err, mqttetl.ErrDamaged) || kind == mqttetl.ErrDamaged || v.unfit(err) {
		v.problem(table, 0, err.Error())
		return nil
	}
	return err
}

// unfit recognises the error of a column that holds what it was never given,
// which database/sql has no type for: it is neither SQLite's nor one of ours.
func (v *verification) unfit(err error) bool {
	for _, known := range []error{mqttetl.ErrForeign, mqttetl.ErrUnavailable, store.ErrVersion} {
		if errors.Is(err, known) {
			return false
		}
	}
	_, kind := kindOf(err)
	return v.ctx.Err() == nil && code(err) == 0 && kind == nil
}

func (v *verification) problem(table string, seq mqttetl.Seq, text string) {
	if len(v.Problems) < maxProblems {
		v.Problems = append(v.Problems, Problem{table, seq, text})
	}
}

func (v *verification) meta(id identity) error {
	var rows int
	if err := v.c.QueryRowContext(v.ctx, `SELECT count(*) FROM meta`).Scan(&rows); err != nil {
		return err
	}
	if rows != 1 {
		v.problem("meta", 0, fmt.Sprintf("%d rows instead of one", rows))
	}
	m, err := readMeta(v.c)
	if err != nil {
		return err
	}
	v.LogID, v.Cursor = m.logID, m.cursor
	if m.version != id.version {
		v.problem("meta", 0, fmt.Sprintf("schema_version is %d, user_version %d", m.version, id.version))
	}
	return nil
}

// gaps reads the gaps and checks that they are in order and hold no rows.
func (v *verification) gaps() error {
	rows, err := v.c.QueryContext(v.ctx, `SELECT first, last FROM gaps ORDER BY first`)
	if err != nil {
		return err
	}
	defer rows.Close()
	end := mqttetl.Seq(0)
	for rows.Next() {
		var g Gap
		if err := rows.Scan(&g.First, &g.Last); err != nil {
			return err
		}
		if g.First <= end || g.Last < g.First || g.Last > v.Cursor {
			v.problem("gaps", g.First, fmt.Sprintf("gap %d..%d overlaps another, is empty or passes the cursor %d", g.First, g.Last, v.Cursor))
			continue
		}
		v.Gaps, end = append(v.Gaps, g), g.Last
	}
	return rows.Err()
}

// archived yields the ranges of records that must be rows.
func (v *verification) archived() (ranges []Gap) {
	first := mqttetl.Seq(1)
	for _, g := range v.Gaps {
		if g.First > first {
			ranges = append(ranges, Gap{first, g.First - 1})
		}
		first = g.Last + 1
	}
	if first <= v.Cursor {
		ranges = append(ranges, Gap{first, v.Cursor})
	}
	return ranges
}

// ends checks that each range has its first and last row, and that there is
// none in a gap or beyond the cursor.
func (v *verification) ends() error {
	for _, r := range v.archived() {
		for _, seq := range []mqttetl.Seq{r.First, r.Last} {
			found, err := v.firstRow(seq, seq)
			if err != nil {
				return err
			}
			if found == 0 {
				v.problem("messages", seq, fmt.Sprintf("missing, although records up to %d are archived", v.Cursor))
			}
			if r.First == r.Last {
				break
			}
		}
	}
	for _, g := range append(v.Gaps[:len(v.Gaps):len(v.Gaps)], Gap{v.Cursor + 1, maxSeq}) {
		found, err := v.firstRow(g.First, g.Last)
		if err != nil {
			return err
		}
		if found > v.Cursor {
			v.problem("messages", found, fmt.Sprintf("beyond the cursor %d", v.Cursor))
		} else if found > 0 {
			v.problem("messages", found, fmt.Sprintf("in the gap %d..%d", g.First, g.Last))
		}
	}
	var low sql.Null[int64]
	if err := v.c.QueryRowContext(v.ctx, `SELECT min(seq) FROM messages WHERE seq < 1`).Scan(&low); err != nil {
		return err
	}
	if low.Valid {
		v.problem("messages", 0, fmt.Sprintf("row %d: the first record is 1", low.V))
	}
	return nil
}

const maxSeq = mqttetl.Seq(1<<63 - 1)

// firstRow is the first record of the range that is a row, 0 if there is none.
func (v *verification) firstRow(first, last mqttetl.Seq) (mqttetl.Seq, error) {
	var seq sql.Null[mqttetl.Seq]
	err := v.c.QueryRowContext(v.ctx, `SELECT min(seq) FROM messages WHERE seq BETWEEN ? AND ?`, int64(first), int64(last)).Scan(&seq)
	return seq.V, err
}

// holes reports the records missing inside the ranges; ends has the outer ones.
func (v *verification) holes() error {
	for _, r := range v.archived() {
		rows, err := v.c.QueryContext(v.ctx, `SELECT seq+1, next-1 FROM
			(SELECT seq, lead(seq) OVER (ORDER BY seq) AS next FROM messages WHERE seq BETWEEN ? AND ?)
			WHERE next > seq+1 LIMIT ?`, int64(r.First), int64(r.Last), maxProblems)
		if err != nil {
			return err
		}
		err = eachRow(rows, func() error {
			var h Gap
			err := rows.Scan(&h.First, &h.Last)
			v.problem("messages", h.First, fmt.Sprintf("missing, with all up to %d", h.Last))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) references() error {
	rows, err := v.c.QueryContext(v.ctx, `SELECT "table", rowid, parent FROM pragma_foreign_key_check LIMIT ?`, maxProblems)
	if err != nil {
		return err
	}
	return eachRow(rows, func() error {
		var table, parent string
		var seq mqttetl.Seq
		err := rows.Scan(&table, &seq, &parent)
		v.problem(table, seq, "its row in "+parent+" is missing")
		return err
	})
}

// aside reports values that were too large for their row and are not there as a whole.
func (v *verification) aside() error {
	have, err := tableColumns(v.c, "mqttetl_raw")
	if err != nil || have == nil { // an archive of an earlier version
		return err
	}
	rows, err := v.c.QueryContext(v.ctx, `SELECT seq, name, CASE WHEN NOT EXISTS (SELECT 1 FROM messages m WHERE m.seq = r.seq) THEN 'its row is missing' ELSE 'parts are missing' END AS why
		FROM mqttetl_raw r GROUP BY seq, name HAVING why = 'its row is missing' OR min(part) <> 0 OR max(part) <> count(*) - 1
		UNION ALL SELECT seq, 'value', 'missing, although a dead letter says that it is there' FROM dead_letters
		WHERE stage = ? AND seq NOT IN (SELECT seq FROM mqttetl_raw) LIMIT ?`, mqttetl.StageArchive, maxProblems)
	if err != nil {
		return err
	}
	return eachRow(rows, func() error {
		var seq mqttetl.Seq
		var name, why string
		err := rows.Scan(&seq, &name, &why)
		v.problem("mqttetl_raw", seq, name+": "+why)
		return err
	})
}

func (v *verification) pages() error {
	rows, err := v.c.QueryContext(v.ctx, fmt.Sprintf(`PRAGMA quick_check(%d)`, maxProblems))
	if err != nil {
		return err
	}
	return eachRow(rows, func() error {
		var text string
		err := rows.Scan(&text)
		if text != "ok" {
			v.problem("sqlite_schema", 0, text)
		}
		return err
	})
}

// eachRow calls f for each row and closes the rows.
func eachRow(rows *sql.Rows, f func() error) error {
	for rows.Next() {
		if err := f(); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}
