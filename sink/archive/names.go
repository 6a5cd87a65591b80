package archive

import (
	"database/sql"
	"database/sql/driver"
	"errors"
)

// Bounds of a dictionary. Where there are more names than that, it is started
// anew and filled from the table again.
const (
	maxNames     = 100_000
	maxNameBytes = 16 << 20
)

// names is the dictionary of a table (id, name) in memory: topics, sources. An
// entry of a transaction that was rolled back is taken out again, because its
// id may then be given to another name.
type names struct {
	find, add *sql.Stmt

	ids   map[string]driver.Value // boxed once, used in every row
	bytes int
	fresh []string // learned in the open transaction
}

func (a *Archive) prepareNames(n *names, table, column string) (err error) {
	n.ids = make(map[string]driver.Value)
	if n.find, err = a.prepareOne(`SELECT id FROM ` + table + ` WHERE ` + column + ` = ?`); err != nil {
		return err
	}
	n.add, err = a.prepareOne(`INSERT INTO ` + table + `(` + column + `) VALUES(?)`)
	return err
}

// id is the row id of the name, which is added to the table if it is new. The
// name is stored as TEXT, byte for byte, whether it is valid UTF-8 or not.
func (n *names) id(name []byte) (driver.Value, error) {
	if id, ok := n.ids[string(name)]; ok {
		return id, nil
	}
	s := string(name)
	id, err := n.learn(s)
	if err != nil {
		return nil, err
	}
	if len(n.ids) >= maxNames || n.bytes+len(s) > maxNameBytes {
		clear(n.ids)
		n.fresh, n.bytes = n.fresh[:0], 0
	}
	v := driver.Value(id)
	n.ids[s] = v
	n.bytes += len(s)
	n.fresh = append(n.fresh, s)
	return v, nil
}

func (n *names) learn(name string) (id int64, err error) {
	err = n.find.QueryRowContext(background, name).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	res, err := n.add.ExecContext(background, name)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// keep: the open transaction was committed.
func (n *names) keep() { n.fresh = n.fresh[:0] }

// undo: the open transaction was rolled back.
func (n *names) undo() {
	for _, s := range n.fresh {
		delete(n.ids, s)
		n.bytes -= len(s)
	}
	n.fresh = n.fresh[:0]
}
