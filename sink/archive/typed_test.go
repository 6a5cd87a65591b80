package archive

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

var climate = store.Table{Name: "climate", Columns: []store.Column{
	{Name: "device", Type: store.Text}, {Name: "temperature", Type: store.Real}, {Name: "battery", Type: store.Integer},
}}

func openWith(t *testing.T, path string, o store.Options) *Archive {
	t.Helper()
	a, err := OpenWith(path, testLog, o)
	must(t, err)
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// climateRow fills a row behind seq.
func climateRow(rows *store.Rows, seq mqttetl.Seq, values ...store.Value) {
	copy(rows.Add(seq)[1:], values)
}

func TestTypedRowsInTheTransactionOfTheMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	o := store.Options{Tables: []store.Table{climate}}
	a := openWith(t, path, o)
	rows := &store.Rows{Table: &o.Tables[0]}
	climateRow(rows, 1, store.IntValue(5), store.StringValue("a\x00b"), store.FloatValue(21.5), store.IntValue(math.MinInt64))
	climateRow(rows, 1, store.Value{}, store.StringValue("é"), store.Value{}, store.IntValue(math.MaxInt64))
	must(t, a.Append(benchRecords(1, 1)))
	must(t, a.AppendRows(0, rows))
	must(t, a.Rollback())
	if got := shell(t, path, "select count(*) from climate"); got != "0" {
		t.Fatalf("%s rows after a rollback", got)
	}
	must(t, a.Append(benchRecords(1, 1)))
	must(t, a.AppendRows(0, rows))
	must(t, a.Commit())
	want := "1|5|610062|21.5|-9223372036854775808\n1||C3A9||9223372036854775807"
	if got := shell(t, path, "select seq, time, hex(device), temperature, battery from climate order by rowid"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := shell(t, path, "explain query plan select * from climate where time > 3"); !strings.Contains(got, "climate.time") {
		t.Errorf("no index on time: %s", got)
	}
	// A value of the wrong type is refused, and takes nothing with it.
	rows.Truncate(0)
	climateRow(rows, 2, store.Value{}, store.Value{}, store.StringValue("warm"))
	must(t, a.Append(benchRecords(2, 1)))
	if err := a.AppendRows(0, rows); err == nil {
		t.Error("text in a REAL column")
	}
	must(t, a.Rollback())
	if a.Cursor() != 1 {
		t.Errorf("cursor %d", a.Cursor())
	}
}

func TestTablesGrowAndAreNeverChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	must(t, mustOpen(t, path).Close()) // as made before there were routes
	must(t, openWith(t, path, store.Options{Tables: []store.Table{climate}}).Close())
	wider := climate
	wider.Columns = append([]store.Column{{Name: "humidity", Type: store.Real}}, climate.Columns...)
	must(t, openWith(t, path, store.Options{Tables: []store.Table{wider}}).Close())
	if got := shell(t, path, "select group_concat(name) from pragma_table_info('climate')"); got != "seq,time,device,temperature,battery,humidity" {
		t.Errorf("columns %s", got)
	}
	must(t, openWith(t, path, store.Options{Tables: []store.Table{climate}}).Close()) // one that went stays

	other := store.Table{Name: "climate", Columns: []store.Column{{Name: "Temperature", Type: store.Text}}}
	_, err := OpenWith(path, testLog, store.Options{Tables: []store.Table{other}})
	if !errors.Is(err, store.ErrTable) || !strings.Contains(mqttetl.Hint(err), "transform rerun") || !strings.Contains(err.Error(), "is REAL, the configuration says TEXT") {
		t.Errorf("a changed type: %v, %q", err, mqttetl.Hint(err))
	}
	shell(t, path, "create table mine(a)")
	_, err = OpenWith(path, testLog, store.Options{Tables: []store.Table{{Name: "mine"}}})
	if !errors.Is(err, store.ErrTable) {
		t.Errorf("a foreign table: %v", err)
	}
}

func TestReadings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := openWith(t, path, store.Options{Readings: true})
	list := []store.Reading{
		{Topic: []byte("a/b"), Path: []byte(".t"), Time: 1, Value: 2.5},
		{Topic: []byte("a/b"), Path: []byte(".h"), Time: 1, Value: 3},
		{Topic: []byte("a/b"), Path: []byte(".t"), Time: 1, Value: 4},
	}
	must(t, a.AppendReadings(list))
	must(t, a.Rollback())
	must(t, a.AppendReadings(list))
	must(t, a.Commit())
	must(t, a.AppendReadings(list[:1]))
	must(t, a.Commit())
	want := "a/b|.h|1|3.0\na/b|.t|1|2.5\na/b|.t|1|4.0\na/b|.t|1|2.5"
	if got := shell(t, path, "select topic, path, time, value from readings join series on id = series_id order by path, readings.rowid"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Whatever is committed, rolled back, and archived while it is off: latest is
// the last message of each topic.
// However many messages a topic has in a transaction, latest is written once for it.
func TestLatestIsWrittenOnce(t *testing.T) {
	a := openWith(t, filepath.Join(t.TempDir(), "a.db"), store.Options{Latest: true})
	defer a.Close()
	changes := func() (n int) {
		must(t, a.conn.QueryRowContext(background, `SELECT total_changes()`).Scan(&n))
		return n
	}
	const topics, each = 3, 100
	for range 2 { // new topics, and those that are there
		for round := range each {
			var records []mqttetl.Record
			for i := range topics {
				records = append(records, record(a.next+mqttetl.Seq(i), fmt.Sprint("t", i), fmt.Sprint(round)))
			}
			must(t, a.Append(records))
		}
		before := changes()
		must(t, a.Commit())
		if got, want := changes()-before, topics+1; got != want { // the cursor
			t.Errorf("%d rows changed by the commit of %d messages of %d topics, want %d", got, topics*each, topics, want)
		}
	}
}

func TestLatestIsTheLastMessage(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		o := store.Options{Latest: rapid.Bool().Draw(r, "on")}
		a := openWith(t, path, o)
		for i := range rapid.IntRange(1, 6).Draw(r, "steps") {
			var records []mqttetl.Record
			for range rapid.IntRange(1, 5).Draw(r, "records") {
				topic := fmt.Sprint(rapid.IntRange(0, 3).Draw(r, "topic"))
				records = append(records, mqttetl.Record{Seq: a.next + mqttetl.Seq(len(records)), Time: int64(i), Source: "s",
					Message: mqttetl.Message{Topic: []byte(topic), Payload: fmt.Appendf(nil, "%d", i)}})
			}
			must(t, a.Append(records))
			switch rapid.IntRange(0, 3).Draw(r, "then") {
			case 0:
				must(t, a.Rollback())
			case 1:
				must(t, a.Commit())
				must(t, a.Close())
				a = openWith(t, path, store.Options{Latest: rapid.Bool().Draw(r, "on")})
			default:
				must(t, a.Commit())
			}
		}
		must(t, a.Commit())
		must(t, a.Close())
		a = openWith(t, path, store.Options{Latest: true})
		must(t, a.Close())
		const diff = `select count(*) from (select t.topic, max(seq) s, payload from messages join topics t on t.id = topic_id group by topic_id) m
			full join latest l on l.topic = m.topic and l.seq = m.s and l.payload = m.payload where m.s is null or l.seq is null`
		if got := shell(t, path, diff); got != "0" {
			r.Fatalf("%s topics differ:\n%s", got, shell(t, path, "select * from latest; select * from messages"))
		}
	})
}

func TestBirths(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := openWith(t, path, store.Options{Births: true})
	birth := func(key, value string) store.Birth { return store.Birth{Route: "r", Key: key, Value: value} }
	list := []store.Birth{birth("a", "1"), birth("b", "2"), birth("b/c", "3"), birth("b/d/e", "4"), birth("b0", "5")}
	kept := func() []store.Birth {
		t.Helper()
		got, err := a.BirthsAfter("r", "", 10)
		must(t, err)
		return got
	}
	must(t, a.AppendBirths(list))
	if value, err := a.Birth("r", "b/c"); err != nil || value != "3" {
		t.Errorf("in the transaction: %q, %v", value, err)
	}
	must(t, a.Commit())
	changes := []store.Birth{{Route: "r", Key: "b/", Below: true}, {Route: "r", Key: "a"}, birth("b", "6")}
	must(t, a.AppendBirths(changes))
	must(t, a.Rollback())
	if got := kept(); !slices.Equal(got, list) {
		t.Errorf("after a rollback %v", got)
	}
	must(t, a.AppendBirths(changes))
	must(t, a.Commit())
	must(t, a.Close())
	a = openWith(t, path, store.Options{Births: true})
	if got := kept(); !slices.Equal(got, []store.Birth{birth("b", "6"), birth("b0", "5")}) {
		t.Errorf("got %v", got)
	}
	if got, err := a.BirthsAfter("r", "b", 1); err != nil || !slices.Equal(got, []store.Birth{birth("b0", "5")}) {
		t.Errorf("after b: %v, %v", got, err)
	}
	if value, err := a.Birth("q", "b"); err != nil || value != "" {
		t.Errorf("of another route: %q, %v", value, err)
	}
}

// The temporary table does the same, and has not kept a list that it could not keep all of.
func TestTemporaryBirths(t *testing.T) {
	b, err := OpenBirths()
	must(t, err)
	defer b.Close()
	large := strings.Repeat("x", 1<<20)
	for i := range 40 { // more than SQLite keeps in memory
		must(t, b.Append([]store.Birth{{Route: "r", Key: fmt.Sprintf("birth g/n%02d", i), Value: large}, {Route: "r", Key: fmt.Sprintf("birth g/n%02d/d", i), Value: "{}"}}))
	}
	must(t, b.Append([]store.Birth{{Route: "r", Key: "birth g/n07/", Below: true}, {Route: "r", Key: "birth g/n39"}}))
	list, err := b.BirthsAfter("r", "birth g/n06", 3)
	must(t, err)
	if len(list) != 3 || list[0].Key != "birth g/n06/d" || list[1].Key != "birth g/n07" || list[2].Key != "birth g/n08" || list[1].Value != large {
		t.Errorf("%d births", len(list))
	}
	n := 0
	must(t, b.each(func(store.Birth) error { n++; return nil }))
	if n != 78 {
		t.Errorf("%d births, want 78", n)
	}
	_, err = b.conn.ExecContext(background, `PRAGMA max_page_count=1`) // it becomes what there is
	must(t, err)
	if err := b.Append([]store.Birth{{Route: "r", Key: "new", Value: "1"}, {Route: "r", Key: "large", Value: strings.Repeat("y", 4<<20)}}); !errors.Is(err, mqttetl.ErrUnavailable) || mqttetl.Hint(err) == "" {
		t.Errorf("without room: %v", err)
	}
	if value, err := b.Birth("r", "new"); err != nil || value != "" {
		t.Errorf("half a list: %q, %v", value, err)
	}
}

// No typed table can take the name of something that the archive has for itself.
func TestInnerNamesAreReserved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := openWith(t, path, store.Options{Readings: true, Latest: true, Births: true, Tables: []store.Table{{Name: "mine", Columns: []store.Column{{Name: "x", Type: store.Any}}}}})
	defer a.Close()
	rows, err := a.conn.QueryContext(t.Context(), `SELECT name FROM main.sqlite_schema`)
	must(t, err)
	n := 0
	must(t, eachRow(rows, func() error {
		var name string
		err := rows.Scan(&name)
		if n++; !strings.HasPrefix(name, "mine") && !store.Reserved(name) {
			t.Errorf("%s is not reserved", name)
		}
		return err
	}))
	if n < 10 || store.Reserved("mine") {
		t.Errorf("%d names, mine is reserved: %v", n, store.Reserved("mine"))
	}
}
