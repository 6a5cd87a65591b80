package archive

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// ErrTable: a typed table cannot be used as it is configured.
var ErrTable = errors.New("the table does not fit its routes")

// quote makes any text an SQL identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// CreateTable is the SQL that makes a typed table under the given name, which
// may differ from that of t, and its index.
//
// The rows have no key of their own: one message may have several, and exactly
// once comes from the transaction, not from a constraint. Rows of one message
// stand in the order of rowid.
func CreateTable(name string, t *mqttetl.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s(\n  seq INTEGER NOT NULL,\n  time INTEGER", quote(name))
	for _, c := range t.Columns {
		fmt.Fprintf(&b, ",\n  %s %s", quote(c.Name), c.Type)
	}
	fmt.Fprintf(&b, "\n) STRICT;\nCREATE INDEX %s ON %s(time);", quote(name+"_time"), quote(name))
	return b.String()
}

// extend adds to the schema what the options ask for and the file lacks, in
// one transaction, none if nothing is missing.
func (a *Archive) extend() error {
	missing, err := a.missing()
	if err != nil || missing == "" {
		return err
	}
	if _, err := a.conn.ExecContext(background, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	_, err = a.conn.ExecContext(background, missing)
	if err == nil {
		_, err = a.conn.ExecContext(background, `COMMIT`)
	}
	if err != nil {
		_, _ = a.conn.ExecContext(background, `ROLLBACK`) // the first error is the one that says why
	}
	return err
}

// missing is the SQL that adds what the file lacks.
func (a *Archive) missing() (string, error) {
	var b strings.Builder
	for _, part := range []struct {
		on            bool
		table, schema string
	}{{a.options.Readings, "readings", readingsSchema}, {a.options.Latest, "latest", latestSchema}, {a.options.Births, "births", birthsSchema}} {
		if !part.on {
			continue
		}
		have, err := tableColumns(a.conn, part.table)
		if err != nil {
			return "", err
		}
		if have == nil {
			b.WriteString(part.schema)
		}
	}
	for i := range a.options.Tables {
		t := &a.options.Tables[i]
		have, err := tableColumns(a.conn, t.Name)
		if err != nil {
			return "", err
		}
		if have == nil {
			b.WriteString(CreateTable(t.Name, t))
			continue
		}
		added, err := addedColumns(t, have)
		if err != nil {
			return "", err
		}
		b.WriteString(added)
	}
	return b.String(), nil
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
func addedColumns(t *mqttetl.Table, have map[string]string) (string, error) {
	if have["seq"] != "INTEGER" || have["time"] != "INTEGER" {
		return "", mqttetl.WithHint(fmt.Errorf("%w: table %s is there and was not made by a route", ErrTable, t.Name),
			"give the route another table")
	}
	var b strings.Builder
	for _, c := range t.Columns {
		switch kind, ok := have[strings.ToLower(c.Name)]; {
		case !ok:
			fmt.Fprintf(&b, "ALTER TABLE %s ADD COLUMN %s %s;\n", quote(t.Name), quote(c.Name), c.Type)
		case kind != c.Type.String():
			return "", mqttetl.WithHint(fmt.Errorf("%w: column %s of table %s is %s, the configuration says %s", ErrTable, c.Name, t.Name, kind, c.Type),
				"mqttetl transform rerun builds the table anew with the new type from all messages; or give the route another table")
		}
	}
	return b.String(), nil
}

// typed is a typed table and the rows on their way into it.
type typed struct {
	mqttetl.Table
	insert *sql.Stmt
	in     *mqttetl.Rows
	cells
}

func (t *typed) declaration() string {
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

func (t *typed) rows() int {
	if t.in == nil {
		return 0
	}
	return t.in.Len()
}

func (t *typed) rowid(row int) int64 { return int64(row) }

func (t *typed) column(row, col int) driver.Value { return t.value(&t.in.Row(row)[col]) }

// value is v as SQLite's driver takes it, until the next call.
func (c *cells) value(v *mqttetl.Value) driver.Value {
	switch v.Kind {
	case mqttetl.Int:
		return c.time.set(v.Int())
	case mqttetl.Float:
		return c.float.set(v.Float())
	case mqttetl.String:
		return c.text.set(v.Text())
	case mqttetl.Bytes:
		return c.blob.set(stringBytes(v.Text()))
	}
	return nil
}

func (a *Archive) prepareTyped() error {
	for i := range a.options.Tables {
		t := &typed{Table: a.options.Tables[i], cells: newCells()}
		shown := fmt.Sprintf("rows_%d", i)
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
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		a.typed = append(a.typed, t)
	}
	return nil
}

// AppendRows inserts rows into the typed table of the given index among
// Options.Tables, opening a transaction when none is open. Everything is copied
// before it returns.
func (a *Archive) AppendRows(index int, rows *mqttetl.Rows) error {
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

func (a *Archive) insertRows(t *typed, rows *mqttetl.Rows) error {
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
		return err
	}
	if n, err := res.RowsAffected(); err != nil || int(n) != rows.Len() {
		return errors.Join(fmt.Errorf("%w: %d of %d rows inserted", mqttetl.ErrDamaged, n, rows.Len()), err)
	}
	return nil
}
