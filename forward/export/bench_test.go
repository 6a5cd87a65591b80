package export

import (
	"bytes"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// The text of one record of 128 bytes.
func BenchmarkEncode(b *testing.B) {
	r := mqttetl.Record{Seq: 1_000_000, Time: 1_700_000_000_123_456_789, Source: "plant", Message: mqttetl.Message{
		Topic: []byte("factory/line7/temperature"), Payload: bytes.Repeat([]byte(`{"temperature":21.5,"unit":"C"} `), 4), Flags: 1}}
	for name, e := range map[string]Encoder{"as=ndjson": &JSON{}, "as=csv": &CSV{}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				dst = e.Append(dst[:0], &r)
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}
