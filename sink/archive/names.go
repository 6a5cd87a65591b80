package archive

import (
	"database/sql"
	"database/sql/driver"
	"errors"

	"github.com/mqttetl/mqttetl"
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

	ids   map[string]*entry
	bytes int
	fresh []string // learned in the open transaction
}

// entry is one name of a dictionary.
type entry struct {
	id   driver.Value // boxed once, used in every row
	last mqttetl.Seq  // of a topic: the newest record of the open transaction, 0 if it has none
}

func (a *Archive) prepareNames(n *names, table, column string) (err error) {
	n.ids = make(map[string]*entry)
	if n.find, err = a.prepareOne(`SELECT id FROM ` + table + ` WHERE ` + column + ` = ?`); err != nil {
		return err
	}
	n.add, err = a.prepareOne(`INSERT INTO ` + table + `(` + column + `) VALUES(?)`)
	return err
}

// get is the entry of the name, which is added to the table if it is new. The
// name is stored as TEXT, byte for byte, whether it is valid UTF-8 or not.
func (n *names) get(text []byte) (*entry, error) {
	if e, ok := n.ids[string(text)]; ok {
		return e, nil
	}
	s := string(text)
	return n.enter(s, s)
}

// enter makes an entry of the key for the row with these columns, which is
// added to the table if it is new.
func (n *names) enter(key string, columns ...any) (*entry, error) {
	id, err := n.learn(columns)
	if err != nil {
		return nil, err
	}
	if len(n.ids) >= maxNames || n.bytes+len(key) > maxNameBytes {
		clear(n.ids)
		n.fresh, n.bytes = n.fresh[:0], 0
	}
	e := &entry{id: id}
	n.ids[key] = e
	n.bytes += len(key)
	n.fresh = append(n.fresh, key)
	return e, nil
}

// id is the row id of the name.
func (n *names) id(text []byte) (driver.Value, error) {
	e, err := n.get(text)
	if err != nil {
		return nil, err
	}
	return e.id, nil
}

func (n *names) learn(columns []any) (id int64, err error) {
	err = n.find.QueryRowContext(background, columns...).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	res, err := n.add.ExecContext(background, columns...)
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
