package archive

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// benchRecords are n records of 128 bytes on 100 topics, from first.
func benchRecords(first mqttetl.Seq, n int) []mqttetl.Record {
	rnd := rand.New(rand.NewPCG(1, 2))
	rs := make([]mqttetl.Record, n)
	for i := range rs {
		payload := make([]byte, 128)
		for j := range payload {
			payload[j] = "0123456789abcdef"[rnd.IntN(16)]
		}
		rs[i] = mqttetl.Record{
			Seq: first + mqttetl.Seq(i), Time: 1_760_000_000_000_000_000 + int64(i)*1000, Source: "plant",
			Message: mqttetl.Message{Topic: fmt.Appendf(nil, "factory/line%d/machine%d/temperature", i%10, i/10%10), Payload: payload, Flags: 1},
		}
	}
	return rs
}

// BenchmarkInsert compares the ways into SQLite, 10,000 rows a transaction. The
// product has the first; the others are here to show what it is worth.
func BenchmarkInsert(b *testing.B) {
	const perTx, perAppend = 10_000, 1_000
	for _, way := range []struct {
		name   string
		append func(*testing.B, *Archive) func([]mqttetl.Record) error
	}{
		{"vtab", func(_ *testing.B, a *Archive) func([]mqttetl.Record) error { return a.Append }},
		{"values100", func(b *testing.B, a *Archive) func([]mqttetl.Record) error { return appendValues(b, a, 100) }},
		{"single", func(b *testing.B, a *Archive) func([]mqttetl.Record) error { return appendValues(b, a, 1) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "bench.db")
			a := mustOpen(b, path)
			insert := way.append(b, a)
			records := benchRecords(1, perTx)
			b.ReportAllocs()
			rows := 0
			for b.Loop() {
				for i := range records {
					records[i].Seq = a.Cursor() + 1 + mqttetl.Seq(i)
				}
				for i := 0; i < perTx; i += perAppend {
					must(b, insert(records[i:i+perAppend]))
				}
				must(b, a.Commit())
				rows += perTx
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(rows), "ns/row")
			must(b, a.Close())
			info, err := os.Stat(path)
			must(b, err)
			b.ReportMetric(float64(info.Size())/float64(rows)-128, "B/row-over-payload")
		})
	}
}

// appendValues is Append by INSERT … VALUES with n rows a statement.
func appendValues(b *testing.B, a *Archive, n int) func([]mqttetl.Record) error {
	stmt, err := a.prepareOne(`INSERT INTO messages VALUES` + strings.Repeat(`,(?,?,?,?,?,?,?)`, n)[1:]) // closed with the archive, or its file would not be complete
	must(b, err)
	return func(records []mqttetl.Record) error {
		if err := a.begin(); err != nil {
			return err
		}
		for len(records) > 0 {
			if err := insertValues(a, stmt, records[:n]); err != nil {
				return err
			}
			a.next, records = a.next+mqttetl.Seq(n), records[n:]
		}
		return nil
	}
}

func insertValues(a *Archive, stmt *sql.Stmt, records []mqttetl.Record) error {
	args := make([]any, 0, 7*len(records))
	for i := range records {
		r := &records[i]
		topic, err := a.topics.id(r.Topic)
		if err != nil {
			return err
		}
		source, err := a.sources.id([]byte(r.Source))
		if err != nil {
			return err
		}
		args = append(args, int64(r.Seq), r.Time, topic, source, int64(r.Flags), string(r.Payload), nil)
		a.txBytes += int64(len(r.Payload)) + rowOverhead
	}
	_, err := stmt.ExecContext(background, args...)
	return err
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

const testLog = "0123456789abcdef"

func mustOpen(tb testing.TB, path string) *Archive {
	tb.Helper()
	a, err := Open(path, testLog)
	must(tb, err)
	tb.Cleanup(func() { _ = a.Close() })
	return a
}
