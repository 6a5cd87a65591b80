package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// scanAll reads a selection to its end.
func scanAll(r *Reader, sel mqttetl.Selection) (all []mqttetl.Record, err error) {
	cursor, err := r.Cursor()
	if err != nil {
		return nil, err
	}
	for from := mqttetl.Seq(1); ; {
		recs, through, err := r.Scan(context.Background(), &sel, from, cursor, nil)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if through < recs[len(recs)-1].Seq {
			return nil, fmt.Errorf("through %d, last record %d", through, recs[len(recs)-1].Seq)
		}
		all = append(all, recs...)
		from = through + 1
	}
}

func sameRecord(a, b *mqttetl.Record) bool {
	return a.Seq == b.Seq && a.Time == b.Time && a.Source == b.Source && a.Flags == b.Flags &&
		bytes.Equal(a.Topic, b.Topic) && bytes.Equal(a.Payload, b.Payload) && bytes.Equal(a.Properties, b.Properties)
}

// oddRecords have every size about the limits of a page, and bytes of all kinds.
func oddRecords() (rs []mqttetl.Record) {
	add := func(topic, payload string, properties mqttetl.Properties) {
		r := record(mqttetl.Seq(len(rs)+1), topic, payload)
		r.Time = 1_700_000_000_000_000_000 + int64(len(rs))*1_000_000*int64(len(rs)%3-1)
		r.Source = []string{"plant", "lab", "\xff odd"}[len(rs)%3]
		r.Properties, r.Flags = properties, mqttetl.Flags(len(rs)%16)
		rs = append(rs, r)
	}
	for _, p := range []string{"", "\x00", "a\x00b", "\xff\xfe", "21 °C 🌡", "x"} {
		add("a/b", p, nil)
		add("a/\xff\x80", p, mqttetl.Properties{0x26, 0, 1, 'k', 0, 1, 0xff})
		add("", p, mqttetl.Properties{1, 1, 3, 0, 4, 't', 'e', 'x', 't'})
	}
	for n := 7900; n < 8300; n++ { // about pageSize
		add("size", strings.Repeat("s", n), nil)
	}
	for _, n := range []int{16371, 16372, 16400, 65535, 1 << 20, 5 << 20} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		add("large", string(b), nil)
	}
	for i := range 30000 {
		add(fmt.Sprintf("many/%d/v", i%100), fmt.Sprint(i), nil)
	}
	return rs
}

func TestScanReturnsWhatWasAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	want := oddRecords()
	check := func(state string, n int) {
		t.Helper()
		r, err := OpenReader(path)
		must(t, err)
		defer r.Close()
		got, err := scanAll(r, mqttetl.Selection{})
		must(t, err)
		if len(got) != n {
			t.Fatalf("%s: %d records, want %d", state, len(got), n)
		}
		for i := range got {
			if !sameRecord(&got[i], &want[i]) {
				t.Fatalf("%s: record %d: %v, want %v", state, i+1, got[i].Seq, want[i].Seq)
			}
		}
	}
	half := len(want) / 2
	must(t, a.Append(want[:half]))
	must(t, a.Commit())
	check("while open, in the write-ahead log", half)
	must(t, a.Append(want[half:]))
	check("while a transaction is open", half)
	must(t, a.Commit())
	check("while open", len(want))
	must(t, a.Close())
	check("at rest", len(want))
}

// A room holds what was read until it is used again.
func TestScanIntoRooms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	want := oddRecords()
	must(t, a.Append(want))
	must(t, a.Commit())
	must(t, a.Close())
	r, err := OpenReader(path)
	must(t, err)
	defer r.Close()
	var rooms [2]Room
	var sel mqttetl.Selection
	var before []mqttetl.Record
	seen := 0
	same := func(recs []mqttetl.Record, from int) {
		t.Helper()
		for i := range recs {
			if !sameRecord(&recs[i], &want[from+i]) {
				t.Fatalf("record %d: %d", from+i+1, recs[i].Seq)
			}
		}
	}
	for turn := 0; ; turn++ {
		recs, through, err := r.Scan(t.Context(), &sel, mqttetl.Seq(seen+1), mqttetl.Seq(len(want)), &rooms[turn%2])
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		same(before, seen-len(before))
		same(recs, seen)
		seen, before = int(through), recs
	}
	if seen != len(want) {
		t.Errorf("%d of %d records", seen, len(want))
	}
}

// A reader opened at rest goes on when the service starts and archives more.
func TestScanWhileTheServiceStartsAndStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 40000)))
	must(t, a.Commit())
	must(t, a.Close())
	r, err := OpenReader(path)
	must(t, err)
	defer r.Close()
	sel := mqttetl.Selection{}
	seen := mqttetl.Seq(0)
	for step := 0; seen < 40000; step++ {
		recs, through, err := r.Scan(t.Context(), &sel, seen+1, 40000, nil)
		must(t, err)
		for i := range recs {
			if want := record(seen+1, fmt.Sprintf("t/%d", (seen+1)%7), fmt.Sprint("payload ", seen+1)); !sameRecord(&recs[i], &want) {
				t.Fatalf("record %d, want %d", recs[i].Seq, seen+1)
			}
			seen++
		}
		if through != seen {
			t.Fatalf("through %d after record %d", through, seen)
		}
		switch step {
		case 0:
			a = mustOpen(t, path)
			must(t, a.Append(records(40001, 80000)))
			must(t, a.Commit())
		case 1:
			must(t, a.Close())
		}
	}
	if cursor, err := r.Cursor(); err != nil || cursor != 80000 {
		t.Errorf("cursor %d, %v", cursor, err)
	}
}

func TestScanSelects(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	var all []mqttetl.Record
	topics := []string{"a", "a/b", "a/b/c", "$SYS/x", "b//c", "b/+"}
	for i := range 3000 {
		r := record(mqttetl.Seq(i+1), topics[i%len(topics)], fmt.Sprint(i))
		r.Time, r.Source = int64(i)*int64(time.Second)-1e12, []string{"x", "y"}[i/7%2]
		all = append(all, r)
	}
	must(t, a.Append(all))
	must(t, a.Commit())
	must(t, a.Close())
	r, err := OpenReader(path)
	must(t, err)
	defer r.Close()
	at := func(i int) time.Time { return time.Unix(0, -1e12).Add(time.Duration(i) * time.Second) }
	rapid.Check(t, func(t *rapid.T) {
		sel := mqttetl.Selection{
			From: mqttetl.Seq(rapid.IntRange(0, 3100).Draw(t, "from")), To: mqttetl.Seq(rapid.IntRange(0, 3100).Draw(t, "to")),
			Topics:  rapid.SliceOfN(rapid.SampledFrom([]mqttetl.Filter{"#", "a", "a/#", "+/b", "$SYS/#", "b/+/c", "none"}), 0, 2).Draw(t, "topics"),
			Sources: rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y", "z"}), 0, 2).Draw(t, "sources"),
		}
		if rapid.Bool().Draw(t, "times") {
			sel.Since, sel.Until = at(rapid.IntRange(-5, 3005).Draw(t, "since")), at(rapid.IntRange(-5, 3005).Draw(t, "until"))
		}
		var want []mqttetl.Record
		for i := range all {
			if sel.Matches(&all[i]) {
				want = append(want, all[i])
			}
		}
		got, err := scanAll(r, sel)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%+v: %d records, want %d", sel, len(got), len(want))
		}
		for i := range got {
			if !sameRecord(&got[i], &want[i]) {
				t.Fatalf("%+v: record %d, want %d", sel, got[i].Seq, want[i].Seq)
			}
		}
	})
}

func TestReaderRefuses(t *testing.T) {
	dir := t.TempDir()
	newer := filepath.Join(dir, "newer.db")
	must(t, mustOpen(t, newer).Close())
	shell(t, newer, "pragma user_version=99; update meta set schema_version=99")
	other := filepath.Join(dir, "other.db")
	shell(t, other, "create table t(x)")
	for path, want := range map[string]error{
		newer: store.ErrVersion, other: mqttetl.ErrForeign, filepath.Join(dir, "none.db"): mqttetl.ErrUnavailable,
	} {
		if _, err := OpenReader(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func TestScanFindsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 5000)))
	must(t, a.Commit())
	must(t, a.Close())
	shell(t, path, "delete from topics where id=3")
	r, err := OpenReader(path)
	must(t, err)
	defer r.Close()
	if _, _, err := r.Scan(t.Context(), &mqttetl.Selection{}, 1, 5000, nil); !errors.Is(err, mqttetl.ErrDamaged) || !strings.Contains(err.Error(), "record 3") {
		t.Errorf("a missing topic: %v", err)
	}
}

// BenchmarkScan beside the sqlite3 command line over the same rows.
func BenchmarkScan(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.db")
	a := mustOpen(b, path)
	const rows = 200_000
	rs := records(1, rows)
	for i := range rs {
		rs[i].Payload = fmt.Appendf(nil, `{"value":%d,"pad":"%0100d"}`, i, i)
	}
	must(b, a.Append(rs))
	must(b, a.Commit())
	must(b, a.Close())
	r, err := OpenReader(path)
	must(b, err)
	defer r.Close()
	sel := mqttetl.Selection{}
	for b.Loop() {
		n := 0
		for through := mqttetl.Seq(0); n < rows; {
			var recs []mqttetl.Record
			recs, through, err = r.Scan(b.Context(), &sel, through+1, rows, nil)
			must(b, err)
			n += len(recs)
		}
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
}

// What is no archive, or half of one, is damage, not a panic.
func TestReaderOfNoArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "whole.db")
	a, err := Open(path, "0123456789abcdef")
	if err == nil {
		err = errors.Join(a.Append(oddRecords()), a.Commit(), a.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"text": []byte("{\"topic\":\"a\"}\n{\"topic\":\"b\"}\n"), "cut": whole[:len(whole)/3]} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReader(path)
		if err == nil {
			_, err = scanAll(r, mqttetl.Selection{})
			r.Close()
		}
		if !errors.Is(err, mqttetl.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
