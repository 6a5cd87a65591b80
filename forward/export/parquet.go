//go:build !small

package export

import (
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"github.com/mqttetl/mqttetl"
)

// A row group is written when it has so many rows or bytes, so that memory
// stays flat however many rows there are.
const (
	groupRows  = 128 << 10
	groupBytes = 32 << 20
)

// parquetRow is one row. parquet-go derives the schema from it.
type parquetRow struct {
	Seq        int64  `parquet:"seq,delta"`
	Time       int64  `parquet:"time,timestamp(nanosecond),delta"` // UTC
	Topic      []byte `parquet:"topic,dict,string"`
	Source     string `parquet:"source,dict"`
	QoS        int32  `parquet:"qos"`
	Retain     bool   `parquet:"retain"`
	Dup        bool   `parquet:"dup"`
	Payload    []byte `parquet:"payload"`
	Properties string `parquet:"properties,optional,json"` // "" is null
}

// Parquet writes records as a Parquet file, compressed with zstd: seq INT64,
// time TIMESTAMP(NANOS, UTC), topic and source STRING with a dictionary, qos
// INT32, retain and dup BOOLEAN, payload BYTE_ARRAY, properties JSON or null.
type Parquet struct {
	w     *parquet.GenericWriter[parquetRow]
	rows  []parquetRow
	group int // rows in the open row group
	bytes int
}

// NewParquet begins a file. It is whole only after Close.
func NewParquet(w io.Writer) *Parquet {
	return &Parquet{w: parquet.NewGenericWriter[parquetRow](w, parquet.Compression(&parquet.Zstd),
		parquet.CreatedBy("mqttetl", "1", ""))}
}

// Write adds records, whose bytes it has copied when it returns.
func (p *Parquet) Write(recs []mqttetl.Record) error {
	p.rows = p.rows[:0]
	for i := range recs {
		r := &recs[i]
		row := parquetRow{
			Seq: int64(r.Seq), Time: r.Time, Topic: r.Topic, Source: r.Source,
			QoS: int32(r.Flags.QoS()), Retain: r.Flags.Retain(), Dup: r.Flags.Dup(), Payload: r.Payload,
		}
		if len(r.Properties) > 0 {
			row.Properties = string(r.Properties.AppendJSON(nil))
		}
		p.rows = append(p.rows, row)
		p.bytes += len(r.Payload) + len(r.Properties) + 32
	}
	if _, err := p.w.Write(p.rows); err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	if p.group += len(recs); p.group < groupRows && p.bytes < groupBytes {
		return nil
	}
	p.group, p.bytes = 0, 0
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}

// Close writes what is left and the footer. It does not close the writer below.
func (p *Parquet) Close() error {
	if err := p.w.Close(); err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}
