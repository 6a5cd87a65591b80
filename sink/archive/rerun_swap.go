package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Letters are up to max of the dead letters of a stage that were appended, from
// a record on.
func (r *Rerun) Letters(stage string, from mqttetl.Seq, max int) (list []mqttetl.DeadLetter, err error) {
	rows, err := r.a.conn.QueryContext(background, `SELECT seq, stage, reason, time FROM mqttetl_rerun_letters
		WHERE name = ? AND seq >= ? AND stage = ? ORDER BY seq LIMIT ?`, lower(r.table.Name), int64(from), stage, max)
	if err == nil {
		list, err = scanLetters(rows)
	}
	if err != nil {
		return nil, failed(r.a.path, "read dead letters", err)
	}
	return list, nil
}

func scanLetters(rows *sql.Rows) (list []mqttetl.DeadLetter, err error) {
	err = eachRow(rows, func() error {
		var l mqttetl.DeadLetter
		err := rows.Scan(&l.Seq, &l.Stage, &l.Reason, &l.Time)
		list = append(list, l)
		return err
	})
	return list, err
}

// Redeem adds the rows of a dead letter, which is deleted, or gets the reason
// for what of it has no rows yet.
func (r *Rerun) Redeem(ctx context.Context, rows *store.Rows, l mqttetl.DeadLetter, left string) error {
	err := r.transaction(ctx, func() error {
		if err := r.a.insertRows(r.rows, rows); err != nil {
			return err
		}
		if left != "" {
			return r.exec(`UPDATE mqttetl_rerun_letters SET reason = ? WHERE name = ? AND seq = ? AND stage = ?`, left, lower(r.table.Name), int64(l.Seq), l.Stage)
		}
		return r.exec(`DELETE FROM mqttetl_rerun_letters WHERE name = ? AND seq = ? AND stage = ?`, lower(r.table.Name), int64(l.Seq), l.Stage)
	})
	if err != nil {
		return failed(r.a.path, "rerun table "+r.table.Name, err)
	}
	return nil
}

// Memory is what Sparkplug routes remember when all records are applied.
type Memory struct {
	Routes []string // of the table
	Births *Births  // nil: none
}

// ErrBehind: there is more to catch up with than fits into the transaction of Swap.
var ErrBehind = errors.New("the new table is too far behind")

// Swap has catchUp append what is missing up to the archive's cursor, and puts
// the new table, the dead letters of the stages and the memory of the routes into
// the place of the old ones, in one transaction: the service, which fills the old
// table before it, fills the new one after it. It returns the number of dead
// letters that were deleted and that are there now.
//
// The service waits for the transaction. If catchUp returns ErrBehind, because
// it would take too long, what it has appended is kept, the tables stay as they
// are, and Swap returns ErrBehind, too.
func (r *Rerun) Swap(ctx context.Context, stages []string, catchUp func(cursor mqttetl.Seq) (Memory, error)) (was, are int64, err error) {
	if err := r.exec(`PRAGMA synchronous=FULL`); err != nil {
		return 0, 0, failed(r.a.path, "rerun table "+r.table.Name, err)
	}
	behind := false
	err = r.transaction(ctx, func() error {
		r.inTx = true
		defer func() { r.inTx = false }()
		m, err := readMeta(r.a.conn)
		if err != nil {
			return err
		}
		memory, err := catchUp(m.cursor)
		if behind = errors.Is(err, ErrBehind); behind {
			return nil
		}
		if err != nil {
			return err
		}
		if was, are, err = r.swapLetters(stages, m.cursor); err != nil {
			return err
		}
		return errors.Join(r.swapBirths(memory), r.rename())
	})
	if err != nil {
		return 0, 0, failed(r.a.path, "replace table "+r.table.Name, err)
	}
	if behind {
		return 0, 0, ErrBehind
	}
	r.Found = false
	return was, are, nil
}

func (r *Rerun) swapLetters(stages []string, cursor mqttetl.Seq) (was, are int64, err error) {
	for _, stage := range stages {
		res, err := r.a.conn.ExecContext(background, `DELETE FROM dead_letters WHERE stage = ? AND seq BETWEEN ? AND ?`, stage, int64(r.State.First), int64(cursor))
		if err != nil {
			return 0, 0, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return 0, 0, err
		}
		was += n
	}
	res, err := r.a.conn.ExecContext(background, `INSERT INTO dead_letters(seq, stage, reason, time)
		SELECT seq, stage, reason, time FROM mqttetl_rerun_letters WHERE name = ? ORDER BY seq ON CONFLICT DO NOTHING`, lower(r.table.Name))
	if err != nil {
		return 0, 0, err
	}
	are, err = res.RowsAffected()
	return was, are, errors.Join(err, r.exec(`DELETE FROM mqttetl_rerun_letters WHERE name = ?`, lower(r.table.Name)),
		r.exec(`DELETE FROM mqttetl_rerun WHERE name = ?`, lower(r.table.Name)))
}

func (r *Rerun) swapBirths(m Memory) error {
	have, err := tableColumns(r.a.conn, "births")
	if err != nil || have == nil && m.Births == nil {
		return err
	}
	if have == nil {
		if err := r.exec(birthsSchema); err != nil {
			return err
		}
	}
	for _, route := range m.Routes {
		if err := r.exec(`DELETE FROM births WHERE route = ?`, route); err != nil {
			return err
		}
	}
	if m.Births == nil {
		return nil
	}
	return m.Births.each(func(b store.Birth) error {
		r.a.txBytes += int64(len(b.Key)+len(b.Value)) + rowOverhead
		return r.exec(`INSERT INTO births(route, key, value) VALUES(?, ?, ?)`, b.Route, b.Key, b.Value)
	})
}

func (r *Rerun) rename() error {
	have, err := tableColumns(r.a.conn, r.table.Name)
	if err != nil {
		return err
	}
	if have != nil {
		if err := r.exec(fmt.Sprintf(`ALTER TABLE %s RENAME TO %s`, quote(r.table.Name), quote(r.oldName()))); err != nil {
			return err
		}
	}
	return r.exec(fmt.Sprintf(`ALTER TABLE %s RENAME TO %s`, quote(r.newName()), quote(r.table.Name)))
}

// Leftover says that there is an old table that Discard removes.
func (r *Rerun) Leftover() (bool, error) {
	have, err := tableColumns(r.a.conn, r.oldName())
	return have != nil, err
}

// Discard removes what an earlier rerun has left, and the table that Swap has
// replaced, a part at a time.
func (r *Rerun) Discard(ctx context.Context) error {
	for _, name := range []string{r.newName(), r.oldName()} {
		if err := r.drop(ctx, name); err != nil {
			return failed(r.a.path, "remove table "+name, err)
		}
	}
	err := r.transaction(ctx, func() error {
		return errors.Join(r.exec(`DELETE FROM mqttetl_rerun WHERE name = ?`, lower(r.table.Name)),
			r.exec(`DELETE FROM mqttetl_rerun_letters WHERE name = ?`, lower(r.table.Name)))
	})
	if err != nil {
		return failed(r.a.path, "remove what a rerun has left", err)
	}
	return nil
}

func (r *Rerun) drop(ctx context.Context, name string) error {
	have, err := tableColumns(r.a.conn, name)
	if err != nil || have == nil {
		return err
	}
	for left := int64(1); left > 0; {
		err := r.transaction(ctx, func() error {
			res, err := r.a.conn.ExecContext(background, fmt.Sprintf(`DELETE FROM %s WHERE rowid <= (SELECT max(rowid) FROM (SELECT rowid FROM %s ORDER BY rowid LIMIT %d))`,
				quote(name), quote(name), rerunRows))
			if err != nil {
				return err
			}
			left, err = res.RowsAffected()
			r.a.txBytes += left * 4 * rowOverhead
			return err
		})
		if err != nil {
			return err
		}
	}
	return r.transaction(ctx, func() error { return r.exec(`DROP TABLE ` + quote(name)) })
}
