package archive

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

func tableOf(name string) store.Table {
	return store.Table{Name: name, Columns: []store.Column{{Name: "v", Type: store.Real}}}
}

// The name that the index of a table should have may be taken.
func TestIndexesFindAFreeName(t *testing.T) {
	for _, names := range [][]string{{"a", "a_time"}, {"a_time", "a"}, {"a", "A_Time", "a_time_2"}} {
		path := filepath.Join(t.TempDir(), "a.db")
		var o store.Options
		for _, name := range names {
			o.Tables = append(o.Tables, tableOf(name))
		}
		must(t, openWith(t, path, o).Close())
		for _, name := range names {
			if got := shell(t, path, fmt.Sprintf("explain query plan select * from %s where time > 3", name)); !strings.Contains(got, "USING INDEX") {
				t.Errorf("%v: no index on time of %s: %s", names, name, got)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "a.db")
	o := store.Options{Tables: []store.Table{climate}}
	for i := range 3 {
		must(t, openWith(t, path, o).Close())
		shell(t, path, fmt.Sprintf("alter table climate rename to climate_%d", i))
	}
}

// Nor is an index in the way of a table that is configured later, also where an
// earlier version has named it so.
func TestIndexIsInTheWayOfNoTable(t *testing.T) {
	for _, old := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "a.db")
		o := store.Options{Tables: []store.Table{tableOf("a")}}
		must(t, openWith(t, path, o).Close())
		if old {
			shell(t, path, `drop index "a.time"; create index a_time on a(time)`)
			must(t, openWith(t, path, o).Close())
			if got := shell(t, path, "explain query plan select * from a where time > 3"); !strings.Contains(got, "INDEX a_time") {
				t.Errorf("the old index is not used: %s", got)
			}
		}
		o.Tables = append(o.Tables, tableOf("a_time"))
		must(t, openWith(t, path, o).Close())
		for _, name := range []string{"a", "a_time"} {
			if got := shell(t, path, fmt.Sprintf("explain query plan select * from %s where time > 3", name)); !strings.Contains(got, "INDEX "+name+".time") {
				t.Errorf("old %v: no index on time of %s: %s", old, name, got)
			}
		}
	}
}

// What a rerun leaves when it is killed is not in the way of the service, also
// where the table was not there yet, and a second rerun finds a free name, too.
func TestTableAfterAnInterruptedRebuild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	o := store.Options{Tables: []store.Table{tableOf("rows_0")}} // also: no temporary table has this name
	must(t, mustOpen(t, path).Close())
	for i := range 3 {
		r, err := OpenRerun(t.Context(), path, o.Tables[0])
		must(t, err)
		must(t, r.Begin(t.Context(), RerunState{First: 1}))
		must(t, r.Close())
		a := openWith(t, path, o)
		rows := &store.Rows{Table: &o.Tables[0]}
		climateRow(rows, mqttetl.Seq(i+1), store.IntValue(1), store.FloatValue(2))
		must(t, a.Append(benchRecords(mqttetl.Seq(i+1), 1)))
		must(t, a.AppendRows(0, rows))
		must(t, a.Commit())
		must(t, a.Close())
		r, err = OpenRerun(t.Context(), path, o.Tables[0])
		must(t, err)
		must(t, r.Begin(t.Context(), RerunState{First: mqttetl.Seq(i + 2)}))
		must(t, r.Keep(t.Context(), func(int64) {}))
		if list, err := r.Indexes(); err != nil || len(list) != 0 {
			t.Errorf("indexes of others: %q, %v", list, err)
		}
		_, _, err = r.Swap(t.Context(), nil, func(mqttetl.Seq) (Memory, error) { return Memory{}, nil })
		must(t, err)
		if i < 2 {
			must(t, r.Discard(t.Context()))
		}
		must(t, r.Close())
	}
	if got := shell(t, path, "select group_concat(seq) from rows_0"); got != "1,2,3" {
		t.Errorf("rows %s", got)
	}
	// Nor of a table that is named as an index.
	r, err := OpenRerun(t.Context(), path, tableOf("b"))
	must(t, err)
	must(t, r.Begin(t.Context(), RerunState{First: 1}))
	must(t, r.Close())
	must(t, openWith(t, path, store.Options{Tables: []store.Table{tableOf("b_time")}}).Close())

	shell(t, path, "create index mine on rows_0(v); create unique index theirs on rows_0(time, seq)")
	r, err = OpenRerun(t.Context(), path, o.Tables[0])
	must(t, err)
	defer r.Close()
	if list, err := r.Indexes(); err != nil || len(list) != 2 {
		t.Errorf("indexes of others: %q, %v", list, err)
	}
}

// A table that cannot be used is no damage of the archive: the error names it
// and says what to do.
func TestTableInTheWay(t *testing.T) {
	wide := tableOf("climate")
	for i := range 2100 {
		wide.Columns = append(wide.Columns, store.Column{Name: fmt.Sprint("c", i), Type: store.Real})
	}
	for name, c := range map[string]struct {
		sql   string
		table store.Table
	}{
		"index of its name": {"create table b(x); create index climate on b(x)", tableOf("climate")},
		"view":              {"create table b(seq integer, time integer, v real); create view climate as select * from b", tableOf("climate")},
		"columns":           {"", wide},
	} {
		path := filepath.Join(t.TempDir(), "a.db")
		must(t, mustOpen(t, path).Close())
		if c.sql != "" {
			shell(t, path, c.sql)
		}
		_, err := OpenWith(path, testLog, store.Options{Tables: []store.Table{c.table}})
		wantTableError(t, name, err)
		must(t, mustOpen(t, path).Close())
	}

	path := filepath.Join(t.TempDir(), "a.db")
	o := store.Options{Tables: []store.Table{tableOf("climate")}}
	must(t, openWith(t, path, o).Close())
	shell(t, path, "create unique index u on climate(time)")
	a := openWith(t, path, o)
	rows := &store.Rows{Table: &o.Tables[0]}
	climateRow(rows, 1, store.IntValue(5))
	climateRow(rows, 1, store.IntValue(5))
	must(t, a.Append(benchRecords(1, 1)))
	wantTableError(t, "unique index", a.AppendRows(0, rows))
}

func wantTableError(t *testing.T, name string, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrTable) || errors.Is(err, mqttetl.ErrDamaged) || !strings.Contains(err.Error(), "table climate") || !strings.Contains(mqttetl.Hint(err), "give the route another table") {
		t.Errorf("%s: %v, %q", name, err, mqttetl.Hint(err))
	}
}

// A trigger that keeps rows out is no damage; the error names it. Without it the
// archive goes on.
func TestTriggerKeepsRowsOut(t *testing.T) {
	for _, table := range []string{"messages", "climate"} {
		path := filepath.Join(t.TempDir(), "a.db")
		o := store.Options{Tables: []store.Table{tableOf("climate")}}
		must(t, openWith(t, path, o).Close())
		shell(t, path, "create trigger mine before insert on "+table+" begin select raise(ignore); end")
		fill := func() error {
			a := openWith(t, path, o)
			rows := &store.Rows{Table: &o.Tables[0]}
			climateRow(rows, 1, store.IntValue(5))
			err := errors.Join(a.Append(benchRecords(1, 1)), a.AppendRows(0, rows))
			if err == nil {
				err = a.Commit()
			}
			return errors.Join(err, a.Close())
		}
		err := fill()
		if !errors.Is(err, mqttetl.ErrUnavailable) || errors.Is(err, mqttetl.ErrDamaged) || !strings.Contains(err.Error(), "trigger mine keeps rows out of table "+table) ||
			!strings.Contains(mqttetl.Hint(err), `drop trigger "mine"`) {
			t.Errorf("%s: %v, %q", table, err, mqttetl.Hint(err))
		}
		shell(t, path, "drop trigger mine")
		must(t, fill())
	}
}
