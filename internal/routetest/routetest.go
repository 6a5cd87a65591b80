// Package routetest runs the tests of a configuration: it gives their messages to
// the routes, and compares the rows with those that are expected. It opens no
// stores and no connections.
package routetest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/visible"
	"github.com/mqttetl/mqttetl/sink/store"
)

// A Failure is a test that does not hold, and how.
type Failure struct {
	Line  int      // of the file of the configuration
	Topic string   // as it is there
	Lines []string // of which none commands a terminal
}

// Run gives the messages to the routes in their order. The error is that of
// routes that cannot be used.
func Run(cfg *config.Config) (failed []Failure, err error) {
	set, err := transform.Compile(cfg.Routes)
	if err != nil {
		return nil, err
	}
	a, err := set.Applier(transform.Options{})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	for i := range cfg.Tests {
		t := &cfg.Tests[i]
		a.Reset()
		a.Apply(testRecord(t, mqttetl.Seq(i+1)))
		if lines := differences(t, a); len(lines) > 0 {
			failed = append(failed, Failure{t.Line, t.Topic, lines})
		}
	}
	return failed, nil
}

func testRecord(t *config.Test, seq mqttetl.Seq) *mqttetl.Record {
	received := t.Received
	if received.IsZero() {
		received = time.Now()
	}
	return &mqttetl.Record{Seq: seq, Time: received.UnixNano(), Source: "test",
		Message: mqttetl.Message{Topic: []byte(t.Topic), Payload: t.Payload}}
}

// differences compares what the routes have made with what the test expects.
func differences(t *config.Test, a *transform.Applier) (lines []string) {
	expected := t.Error == ""
	for i := range a.Failures {
		f := &a.Failures[i]
		reason := f.DeadLetter().Reason
		if t.Error != "" && strings.Contains(reason, t.Error) {
			expected = true
			continue
		}
		lines = append(lines, fmt.Sprintf("route %s: %s", f.Route, visible.Text(reason)))
	}
	if !expected {
		lines = append(lines, fmt.Sprintf("want an error with %q, no route has failed with it", t.Error))
	}
	if t.Expect == nil {
		return lines
	}
	tables := map[string]bool{}
	for i := range a.Rows {
		rows := &a.Rows[i]
		want, named := t.Expect[rows.Table.Name]
		tables[rows.Table.Name] = true
		if named || len(t.Expect) == 0 {
			lines = append(lines, compareRows(rows, want)...)
		}
	}
	for _, table := range slices.Sorted(maps.Keys(t.Expect)) {
		if !tables[table] {
			lines = append(lines, fmt.Sprintf("no route has the table %s", table))
		}
	}
	return lines
}

// compareRows tells each row of a table that is not as expected.
func compareRows(rows *store.Rows, want []map[string]any) (lines []string) {
	for i := range max(rows.Len(), len(want)) {
		at := fmt.Sprintf("%s, row %d: ", rows.Table.Name, i+1)
		switch {
		case i >= rows.Len():
			lines = append(lines, at+"missing, want "+wantText(want[i]))
		case i >= len(want):
			lines = append(lines, at+"not expected: "+rowText(rows.Table, rows.Row(i)))
		default:
			for _, d := range compareRow(rows.Table, rows.Row(i), want[i]) {
				lines = append(lines, at+d)
			}
		}
	}
	return lines
}

func compareRow(t *store.Table, row []store.Value, want map[string]any) (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		at := slices.Index(Columns(t), name)
		if at < 0 {
			lines = append(lines, fmt.Sprintf("there is no column %s, only %s", name, strings.Join(Columns(t)[1:], ", ")))
			continue
		}
		if !equalValue(want[name], row[at], name == "time") {
			lines = append(lines, fmt.Sprintf("%s: want %s, got %s", name, wantValue(want[name]), Text(row[at], name == "time")))
		}
	}
	return lines
}

// Columns are the names of the columns of a table, in the order of a row.
func Columns(t *store.Table) []string {
	list := []string{"seq", "time"}
	for _, c := range t.Columns {
		list = append(list, c.Name)
	}
	return list
}

// equalValue compares what a test says with what is in a row: numbers by
// their value, true as 1, a BLOB as text or base64, time as RFC 3339 or Unix
// nanoseconds.
func equalValue(want any, have store.Value, isTime bool) bool {
	switch w := want.(type) {
	case nil:
		return have.IsNull()
	case bool:
		n := 0.0
		if w {
			n = 1
		}
		return equalNumber(n, have)
	case int64:
		if have.Kind == store.Int {
			return have.Int() == w
		}
		return equalNumber(float64(w), have)
	case float64:
		return equalNumber(w, have)
	case string:
		switch have.Kind {
		case store.String:
			return have.Text() == w
		case store.Bytes:
			return have.Text() == w || base64.StdEncoding.EncodeToString([]byte(have.Text())) == w
		case store.Int:
			at, err := mqttetl.ParseTime(w, time.Unix(0, 0).UTC())
			return isTime && err == nil && at.UnixNano() == have.Int()
		}
	}
	return false
}

// equalNumber allows for a REAL the rounding of its last digit.
func equalNumber(want float64, have store.Value) bool {
	switch have.Kind {
	case store.Int:
		return float64(have.Int()) == want
	case store.Float:
		return have.Float() == want || math.Abs(have.Float()-want) <= 1e-15*math.Abs(want)
	}
	return false
}

// Text is a value for people; that of a column of a time is one.
func Text(v store.Value, isTime bool) string {
	switch v.Kind {
	case store.Null:
		return "NULL"
	case store.Int:
		if isTime {
			return time.Unix(0, v.Int()).UTC().Format(time.RFC3339Nano)
		}
		return strconv.FormatInt(v.Int(), 10)
	case store.Float:
		return realText(v.Float())
	case store.Bytes:
		return fmt.Sprintf("x'%X'", v.Text())
	}
	return strconv.Quote(v.Text())
}

// realText shows that a number is REAL.
func realText(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func wantValue(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return strconv.Quote(v)
	}
	return fmt.Sprint(v)
}

func wantText(row map[string]any) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(row)) {
		parts = append(parts, name+"="+wantValue(row[name]))
	}
	return strings.Join(parts, " ")
}

// rowText is a row without its seq.
func rowText(t *store.Table, row []store.Value) string {
	var parts []string
	for i, name := range Columns(t)[1:] {
		parts = append(parts, name+"="+Text(row[i+1], i == 0))
	}
	return strings.Join(parts, " ")
}
