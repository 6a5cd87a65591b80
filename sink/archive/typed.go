package archive

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// quote makes any text an SQL identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// createTable is the SQL that makes a typed table under the given name, which
// may differ from that of t, and its index.
//
// The rows have no key of their own: one message may have several, and exactly
// once comes from the transaction, not from a constraint. Rows of one message
// are in the order of rowid.
func createTable(name, index string, t *store.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s(\n  seq INTEGER NOT NULL,\n  time INTEGER", quote(name))
	for _, c := range t.Columns {
		fmt.Fprintf(&b, ",\n  %s %s", quote(c.Name), c.Type)
	}
	fmt.Fprintf(&b, "\n) STRICT;\nCREATE INDEX %s ON %s(time);", quote(index), quote(name))
	return b.String()
}

// indexSuffix makes the name of a table that of its index on time. Indexes and
// tables share one space of names, and no table of a route has a dot in its own.
// Until this was noticed it was _time; indexes of that name stay.
const indexSuffix = ".time"

// moveIndex is the SQL that gives the index on time of another typed table its
// new name where it has that of the table t; "" if there is no such index.
func (a *Archive) moveIndex(t *store.Table) (string, error) {
	var index, table string
	err := a.conn.QueryRowContext(background, `SELECT name, tbl_name FROM main.sqlite_schema WHERE type = 'index' AND lower(name) = lower(?)
		AND lower(name) = lower(tbl_name || '_time') AND sql NOT LIKE 'CREATE UNIQUE %'
		AND (SELECT group_concat(name) FROM pragma_index_info(sqlite_schema.name, 'main')) = 'time'`, t.Name).Scan(&index, &table)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	free, err := freeIndex(a.conn, table+indexSuffix, nil)
	return fmt.Sprintf("DROP INDEX %s; CREATE INDEX %s ON %s(time);\n", quote(index), quote(free), quote(table)), err
}

// freeIndex is a name for an index on time: name itself, or with a number after
// it where that is taken. An index keeps its name when its table is renamed.
func freeIndex(c *sql.Conn, name string, tables []store.Table) (string, error) {
	free := name
	for i := 2; ; i++ {
		var n int
		if err := c.QueryRowContext(background, `SELECT count(*) FROM main.sqlite_schema WHERE lower(name) = lower(?)`, free).Scan(&n); err != nil {
			return "", err
		}
		if n == 0 && !slices.ContainsFunc(tables, func(t store.Table) bool { return strings.EqualFold(t.Name, free) }) {
			return free, nil
		}
		free = fmt.Sprintf("%s_%d", name, i)
	}
}

// extend adds to the schema what the options ask for and the file lacks, in
// one transaction, none if nothing is missing.
func (a *Archive) extend() error {
	missing, err := a.missing()
	if err != nil || len(missing) == 0 {
		return err
	}
	if _, err := a.conn.ExecContext(background, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	for _, m := range missing {
		if _, err = a.conn.ExecContext(background, m.sql); err != nil {
			err = ofTable(m.table, err)
			break
		}
	}
	if err == nil {
		_, err = a.conn.ExecContext(background, `COMMIT`)
	}
	if err != nil {
		_, _ = a.conn.ExecContext(background, `ROLLBACK`) // the first error is the one that says why
	}
	return err
}

// ofTable says of which typed table an error is. What SQLite refuses there is no
// damage of the archive.
func ofTable(table string, err error) error {
	if c := code(err); c != codeError && c != codeConstraint {
		return fmt.Errorf("table %s: %w", table, err)
	}
	return mqttetl.WithHint(fmt.Errorf("%w: table %s: %w", store.ErrTable, table, err),
		"drop the index, view, trigger or table of another program that is in the way, or give the route another table")
}

// addition is SQL that adds something to the table.
type addition struct{ table, sql string }

// missing is what the file lacks.
func (a *Archive) missing() (list []addition, err error) {
	for _, part := range []struct {
		on            bool
		table, schema string
	}{{true, "mqttetl_raw", rawSchema}, {a.options.Readings, "readings", readingsSchema}, {a.options.Latest, "latest", latestSchema}, {a.options.Births, "births", birthsSchema}} {
		if !part.on {
			continue
		}
		have, err := tableColumns(a.conn, part.table)
		if err != nil {
			return nil, err
		}
		if have == nil {
			list = append(list, addition{part.table, part.schema})
		}
	}
	for i := range a.options.Tables {
		t := &a.options.Tables[i]
		have, err := tableColumns(a.conn, t.Name)
		if err != nil {
			return nil, err
		}
		var text string
		if have == nil {
			if text, err = a.newTable(t); err != nil {
				return nil, err
			}
		} else {
			text, err = addedColumns(t, have)
		}
		if err != nil {
			return nil, err
		}
		if text != "" {
			list = append(list, addition{t.Name, text})
		}
	}
	return list, nil
}

// newTable is the SQL that makes a typed table.
func (a *Archive) newTable(t *store.Table) (string, error) {
	move, err := a.moveIndex(t)
	if err != nil {
		return "", err
	}
	index, err := freeIndex(a.conn, t.Name+indexSuffix, a.options.Tables)
	return move + createTable(t.Name, index, t), err
}

// tableColumns are the columns of a table, by their names in lower case, with
// their types. nil: there is no such table.
func tableColumns(c *sql.Conn, table string) (map[string]string, error) {
	rows, err := c.QueryContext(background, `SELECT lower(name), upper(type) FROM pragma_table_xinfo(?)`, table)
	if err != nil {
		return nil, err
	}
	var have map[string]string
	err = eachRow(rows, func() error {
		var name, kind string
		err := rows.Scan(&name, &kind)
		if have == nil {
			have = map[string]string{}
		}
		have[name] = kind
		return err
	})
	return have, err
}

// addedColumns is the SQL for the columns of t that the table lacks. It refuses
// a table whose columns are of other types: rows of two types in one column
// would be nobody's gain.
func addedColumns(t *store.Table, have map[string]string) (string, error) {
	if have["seq"] != "INTEGER" || have["time"] != "INTEGER" {
		return "", mqttetl.WithHint(fmt.Errorf("%w: table %s is there and was not made by a route", store.ErrTable, t.Name),
			"give the route another table")
	}
	var b strings.Builder
	for _, c := range t.Columns {
		switch kind, ok := have[strings.ToLower(c.Name)]; {
		case !ok:
			fmt.Fprintf(&b, "ALTER TABLE %s ADD COLUMN %s %s;\n", quote(t.Name), quote(c.Name), c.Type)
		case kind != c.Type.String():
			return "", mqttetl.WithHint(fmt.Errorf("%w: column %s of table %s is %s, the configuration says %s", store.ErrTable, c.Name, t.Name, kind, c.Type),
				"mqttetl transform rerun builds the table anew with the new type from all messages; or give the route another table")
		}
	}
	return b.String(), nil
}

// tableFiller is a typed table and the rows on their way into it.
type tableFiller struct {
	store.Table
	insert *sql.Stmt
	in     *store.Rows
	cells
}

func (t *tableFiller) declaration() string {
	return `CREATE TABLE x(` + strings.Join(numbered("c%d", 2+len(t.Columns)), ",") + `)`
}

// numbered is format with 0 to n-1.
func numbered(format string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i)
	}
	return list
}

func (t *tableFiller) rows() int {
	if t.in == nil {
		return 0
	}
	return t.in.Len()
}

func (t *tableFiller) rowid(row int) int64 { return int64(row) }

func (t *tableFiller) column(row, col int) driver.Value { return t.value(&t.in.Row(row)[col]) }

// value is v as SQLite's driver takes it, until the next call.
func (c *cells) value(v *store.Value) driver.Value {
	switch v.Kind {
	case store.Int:
		return c.time.set(v.Int())
	case store.Float:
		return c.float.set(v.Float())
	case store.String:
		return c.text.set(v.Text())
	case store.Bytes:
		return c.blob.set(stringBytes(v.Text()))
	}
	return nil
}

func (a *Archive) prepareTyped() error {
	for i := range a.options.Tables {
		t := &tableFiller{Table: a.options.Tables[i], cells: newCells()}
		shown := fmt.Sprintf("mqttetl_rows_%d", i) // a name that no table of main has
		if err := a.show(shown, t); err != nil {
			return err
		}
		columns := []string{"seq", "time"}
		for _, c := range t.Columns {
			columns = append(columns, quote(c.Name))
		}
		var err error
		t.insert, err = a.prepareOne(`INSERT INTO main.` + quote(t.Name) + `(` + strings.Join(columns, ",") + `) SELECT ` +
			strings.Join(numbered("c%d", len(columns)), ",") + ` FROM temp.` + shown)
		if err != nil {
			return ofTable(t.Name, err)
		}
		a.typed = append(a.typed, t)
	}
	return nil
}

// AppendRows inserts rows into the typed table of the given index among
// Options.Tables, opening a transaction when none is open. Everything is copied
// before it returns.
func (a *Archive) AppendRows(index int, rows *store.Rows) error {
	if rows.Len() == 0 {
		return nil
	}
	t := a.typed[index]
	err := a.begin()
	if err == nil {
		err = a.insertRows(t, rows)
	}
	if err != nil {
		return a.failed(fmt.Sprintf("%d rows of table %s", rows.Len(), t.Name), err)
	}
	return nil
}

func (a *Archive) insertRows(t *tableFiller, rows *store.Rows) error {
	for i := range rows.Len() {
		a.txBytes += rowOverhead
		for _, v := range rows.Row(i) {
			a.txBytes += int64(8 + len(v.Text()))
		}
	}
	t.in = rows
	defer func() { t.in = nil }()
	res, err := t.insert.ExecContext(background)
	if err != nil {
		return ofTable(t.Name, err)
	}
	if n, err := res.RowsAffected(); err != nil || int(n) != rows.Len() {
		if why := a.keptOut(t.Name); err == nil && why != nil {
			return why
		}
		return errors.Join(fmt.Errorf("%w: %d of %d rows inserted", mqttetl.ErrDamaged, n, rows.Len()), err)
	}
	return nil
}
