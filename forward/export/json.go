// Package export writes records for other programs: as NDJSON, CSV or Parquet.
//
// Its invariant: what is written is a function of the record alone, and no byte
// of a record is lost. The same record gives the same bytes at any time, in any
// time zone, on any machine; what is not text stands as base64.
package export

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl"
)

// Binary says whether a payload is not text, and is written as base64: invalid
// UTF-8, or a NUL byte within. The archive keeps the same ones as BLOB.
func Binary(payload []byte) bool {
	return bytes.IndexByte(payload, 0) >= 0 || !utf8.Valid(payload)
}

// JSON writes records as JSON objects, one a line. The keys are those of
// mosquitto_sub's %J, and then ours:
//
//	tst             receipt, microseconds, UTC: 2026-01-02T03:04:05.678901+0000
//	topic           a string, or {"base64": …} where it is not UTF-8
//	qos, retain     numbers
//	dup             1; absent for 0
//	payloadlen      bytes of the payload
//	properties      as in the archive; absent if there are none
//	payload         a string, or
//	payload_base64  where the payload is binary
//	seq, source     as recorded
//	time            receipt, nanoseconds, RFC 3339
//
// A JSON keeps a little state to be fast, and belongs to one goroutine.
type JSON struct{ clock clock }

// Append appends the line of a record.
func (j *JSON) Append(dst []byte, r *mqttetl.Record) []byte {
	dst = append(dst, `{"tst":"`...)
	dst = j.clock.append(dst, r.Time, 6)
	dst = append(dst, `+0000","topic":`...)
	dst = mqttetl.AppendJSONString(dst, r.Topic)
	dst = append(dst, `,"qos":`...)
	dst = append(dst, '0'+byte(r.Flags.QoS()))
	dst = append(dst, `,"retain":`...)
	dst = append(dst, bit(r.Flags.Retain()))
	if r.Flags.Dup() {
		dst = append(dst, `,"dup":1`...)
	}
	dst = append(dst, `,"payloadlen":`...)
	dst = strconv.AppendInt(dst, int64(len(r.Payload)), 10)
	if len(r.Properties) > 0 {
		dst = append(dst, `,"properties":`...)
		dst = r.Properties.AppendJSON(dst)
	}
	if Binary(r.Payload) {
		dst = append(dst, `,"payload_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, r.Payload)
		dst = append(dst, '"')
	} else {
		dst = append(dst, `,"payload":`...)
		dst = mqttetl.AppendJSONText(dst, r.Payload)
	}
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, uint64(r.Seq), 10)
	dst = append(dst, `,"source":`...)
	dst = mqttetl.AppendJSONString(dst, []byte(r.Source))
	dst = append(dst, `,"time":"`...)
	dst = j.clock.append(dst, r.Time, 9)
	return append(dst, "Z\"}\n"...)
}

func bit(b bool) byte {
	if b {
		return '1'
	}
	return '0'
}

// clock writes times in UTC, most of which are in the second of the one before.
type clock struct {
	second int64
	text   []byte // of second, to the second
}

// append appends the time with so many digits of the second, cut, not rounded.
func (c *clock) append(dst []byte, ns int64, digits int) []byte {
	second, rest := ns/1e9, ns%1e9
	if rest < 0 {
		second, rest = second-1, rest+1e9
	}
	if c.text == nil || second != c.second {
		c.second, c.text = second, time.Unix(second, 0).UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05")
	}
	text := [10]byte{'.'}
	for i := 9; i > 0; i-- {
		text[i] = '0' + byte(rest%10)
		rest /= 10
	}
	return append(append(dst, c.text...), text[:1+digits]...)
}
