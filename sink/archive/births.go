package archive

import (
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// birthsSchema: what Sparkplug routes remember, see store.Birth.
const birthsSchema = `
CREATE TABLE births(
  route TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,                             -- JSON
  PRIMARY KEY(route, key)
) STRICT, WITHOUT ROWID;
`

// births are the statements of the table, in the archive or a temporary database.
type births struct{ put, drop, dropBelow, find, after *sql.Stmt }

func (b *births) prepare(prepare func(string) (*sql.Stmt, error)) (err error) {
	for to, text := range map[**sql.Stmt]string{
		&b.put:       `INSERT OR REPLACE INTO births(route, key, value) VALUES(?, ?, ?)`,
		&b.drop:      `DELETE FROM births WHERE route = ? AND key = ?`,
		&b.dropBelow: `DELETE FROM births WHERE route = ? AND key >= ? AND key < ?`,
		&b.find:      `SELECT value FROM births WHERE route = ? AND key = ?`,
		&b.after:     `SELECT route, key, value FROM births WHERE route = ? AND key > ? ORDER BY key LIMIT ?`,
	} {
		if *to, err = prepare(text); err != nil {
			return err
		}
	}
	return nil
}

// write puts one birth into the table, or takes it out.
func (b *births) write(v *store.Birth) error {
	switch last := len(v.Key) - 1; {
	case v.Below: // the first key after all that begin so
		return run(b.dropBelow, v.Route, v.Key, v.Key[:last]+string(rune(v.Key[last]+1)))
	case v.Value == "":
		return run(b.drop, v.Route, v.Key)
	}
	return run(b.put, v.Route, v.Key, v.Value)
}

func (b *births) one(route, key string) (value string, err error) {
	err = b.find.QueryRowContext(background, route, key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, err
}

func (b *births) page(route, after string, max int) (list []store.Birth, err error) {
	rows, err := b.after.QueryContext(background, route, after, max)
	if err != nil {
		return nil, err
	}
	err = eachBirth(rows, func(v store.Birth) error { list = append(list, v); return nil })
	return list, err
}

func eachBirth(rows *sql.Rows, f func(store.Birth) error) error {
	return eachRow(rows, func() error {
		var v store.Birth
		if err := rows.Scan(&v.Route, &v.Key, &v.Value); err != nil {
			return err
		}
		return f(v)
	})
}

func (a *Archive) prepareBirths() error {
	if !a.options.Births {
		return nil
	}
	return a.births.prepare(a.prepareOne)
}

// Birth is the value that AppendBirths has kept under the key, in the open
// transaction or before it; "" if there is none.
func (a *Archive) Birth(route, key string) (string, error) {
	value, err := a.births.one(route, key)
	if err != nil {
		return "", a.failed("read births", err)
	}
	return value, nil
}

// BirthsAfter are those of a route whose keys are greater than after, up to max
// of them, in the order of keys.
func (a *Archive) BirthsAfter(route, after string, max int) ([]store.Birth, error) {
	list, err := a.births.page(route, after, max)
	if err != nil {
		return nil, a.failed("read births", err)
	}
	return list, nil
}

// AppendBirths keeps births, opening a transaction when none is open. The
// archive was opened with Options.Births.
func (a *Archive) AppendBirths(list []store.Birth) error {
	if len(list) == 0 {
		return nil
	}
	err := a.begin()
	for i := 0; err == nil && i < len(list); i++ {
		b := &list[i]
		a.txBytes += int64(len(b.Route)+len(b.Key)+len(b.Value)) + rowOverhead
		err = a.births.write(b)
	}
	if err != nil {
		return a.failed(fmt.Sprintf("%d births", len(list)), err)
	}
	return nil
}

// Births is such a table in a temporary database, for who applies routes beside
// the archive's transactions. SQLite keeps 8 MiB of it in memory and the rest in
// a file without a name, in TMPDIR or /var/tmp. It is for one goroutine.
type Births struct {
	births
	db   *sql.DB
	conn *sql.Conn
	open []*sql.Stmt
}

// OpenBirths makes an empty one.
func OpenBirths() (*Births, error) {
	b := &Births{}
	err := b.start()
	if err != nil {
		_ = b.Close() // the first error is the one that says why
		return nil, b.failed(err)
	}
	return b, nil
}

func (b *Births) start() (err error) {
	connector, err := sqlite.NewConnector("file:?_error_rc=1") // no name: SQLite makes a temporary one
	if err != nil {
		return err
	}
	b.db = sql.OpenDB(connector)
	b.db.SetMaxOpenConns(1)
	if b.conn, err = b.db.Conn(background); err != nil {
		return err
	}
	if _, err := b.conn.ExecContext(background, `PRAGMA temp_store=FILE; PRAGMA cache_size=-8192;`+birthsSchema); err != nil {
		return err
	}
	return b.prepare(func(text string) (*sql.Stmt, error) {
		s, err := b.conn.PrepareContext(background, text)
		if err == nil {
			b.open = append(b.open, s)
		}
		return s, err
	})
}

func (b *Births) failed(err error) error {
	if err == nil {
		return nil
	}
	return mqttetl.WithHint(fmt.Errorf("temporary table of Sparkplug births: %w: %w", mqttetl.ErrUnavailable, err),
		"make room in TMPDIR or /var/tmp, or set TMPDIR to a directory on a larger disk")
}

// Birth is as that of Archive.
func (b *Births) Birth(route, key string) (string, error) {
	value, err := b.one(route, key)
	return value, b.failed(err)
}

// BirthsAfter is as that of Archive.
func (b *Births) BirthsAfter(route, after string, max int) ([]store.Birth, error) {
	list, err := b.page(route, after, max)
	return list, b.failed(err)
}

// Append keeps all of the list, or after an error nothing of it.
func (b *Births) Append(list []store.Birth) error {
	if len(list) == 0 {
		return nil
	}
	tx := func(text string) error { _, err := b.conn.ExecContext(background, text); return err }
	err := tx(`BEGIN`)
	for i := 0; err == nil && i < len(list); i++ {
		err = b.write(&list[i])
	}
	if err == nil {
		err = tx(`COMMIT`)
	}
	if err != nil {
		_ = tx(`ROLLBACK`) // SQLite may have done so by itself; the first error is the one that says why
	}
	return b.failed(err)
}

// each calls f with all of them.
func (b *Births) each(f func(store.Birth) error) error {
	rows, err := b.conn.QueryContext(background, `SELECT route, key, value FROM births`)
	if err != nil {
		return b.failed(err)
	}
	return eachBirth(rows, f)
}

// Close removes it.
func (b *Births) Close() (err error) {
	for _, s := range b.open {
		err = errors.Join(err, s.Close())
	}
	b.open = nil
	if b.conn != nil {
		err = errors.Join(err, b.conn.Close())
	}
	if b.db != nil {
		err = errors.Join(err, b.db.Close())
	}
	return err
}
