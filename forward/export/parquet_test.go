//go:build !small

package export

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/mqttetl/mqttetl"
)

// column reads all values of a column of a row group; nulls have none.
func column[T any](t *testing.T, r interface {
	ReadBatch(batch int64, values []T, defs, reps []int16) (int64, int, error)
}, rows int64) (values []T, defs []int16) {
	t.Helper()
	values, defs = make([]T, rows), make([]int16, rows)
	n, got, err := r.ReadBatch(rows, values, defs, nil)
	if err != nil || n != rows {
		t.Fatalf("%d of %d values, %v", n, rows, err)
	}
	return values[:got], defs
}

// The file opens in Apache Arrow's reader, with the types that were promised,
// and every value is there.
func TestParquetOpensInAnotherReader(t *testing.T) {
	const n = groupRows + 1000
	var out bytes.Buffer
	w := NewParquet(&out)
	for first := 0; first < n; first += 1000 {
		var recs []mqttetl.Record
		for i := first; i < min(n, first+1000); i++ {
			r := mqttetl.Record{Seq: mqttetl.Seq(i + 1), Time: 1_700_000_000_123_456_789 + int64(i), Source: "plant",
				Message: mqttetl.Message{Topic: fmt.Appendf(nil, "t/%d", i%7), Payload: []byte{0, 255, byte(i)}, Flags: mqttetl.Flags(i % 3)}}
			if i%2 == 0 {
				r.Properties = mqttetl.Properties{1, 1}
				r.Flags |= mqttetl.FlagRetain
			}
			recs = append(recs, r)
		}
		if err := w.Write(recs); err != nil {
			t.Fatal(err)
		}
		for i := range recs { // what was written is used for others
			clear(recs[i].Topic)
			clear(recs[i].Payload)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := file.NewParquetReader(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.NumRows() != n || f.NumRowGroups() != 2 {
		t.Fatalf("%d rows in %d groups", f.NumRows(), f.NumRowGroups())
	}
	types := map[string]string{
		"seq": "INT64", "time": "INT64 Timestamp(isAdjustedToUTC=true, timeUnit=nanoseconds, is_from_converted_type=false, force_set_converted_type=false)",
		"topic": "BYTE_ARRAY String", "source": "BYTE_ARRAY String", "qos": "INT32 Int(bitWidth=32, isSigned=true)",
		"retain": "BOOLEAN", "dup": "BOOLEAN", "payload": "BYTE_ARRAY", "properties": "BYTE_ARRAY JSON",
	}
	s := f.MetaData().Schema
	at := map[string]int{}
	for i := range s.NumColumns() {
		c := s.Column(i)
		at[c.Name()] = i
		got := c.PhysicalType().String()
		if l := c.LogicalType(); l != nil && l.IsValid() && !l.IsNone() && !l.Equals(schema.NewIntLogicalType(64, true)) {
			got += " " + l.String()
		}
		if got != types[c.Name()] {
			t.Errorf("%s is %s, want %s", c.Name(), got, types[c.Name()])
		}
	}
	if len(at) != len(types) {
		t.Fatalf("columns %v", at)
	}
	for g, row := 0, 0; g < 2; g++ {
		group := f.RowGroup(g)
		rows := group.NumRows()
		read := func(name string) file.ColumnChunkReader {
			c, err := group.Column(at[name])
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		seqs, _ := column[int64](t, read("seq").(*file.Int64ColumnChunkReader), rows)
		times, _ := column[int64](t, read("time").(*file.Int64ColumnChunkReader), rows)
		topics, _ := column[parquet.ByteArray](t, read("topic").(*file.ByteArrayColumnChunkReader), rows)
		payloads, _ := column[parquet.ByteArray](t, read("payload").(*file.ByteArrayColumnChunkReader), rows)
		properties, defined := column[parquet.ByteArray](t, read("properties").(*file.ByteArrayColumnChunkReader), rows)
		for i := range seqs {
			if seqs[i] != int64(row+1) || times[i] != 1_700_000_000_123_456_789+int64(row) || string(topics[i]) != fmt.Sprintf("t/%d", row%7) ||
				!bytes.Equal(payloads[i], []byte{0, 255, byte(row)}) || (defined[i] == 1) != (row%2 == 0) {
				t.Fatalf("row %d: %d %d %s %x, definition level %d", row, seqs[i], times[i], topics[i], payloads[i], defined[i])
			}
			row++
		}
		if string(properties[0]) != `{"payload-format-indicator":1}` {
			t.Errorf("properties %s", properties[0])
		}
	}
}
