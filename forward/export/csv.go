package export

import (
	"bytes"
	"encoding/base64"
	"strconv"

	"github.com/mqttetl/mqttetl"
)

// CSVHeader is the first line of CSV (RFC 4180, with plain line feeds).
const CSVHeader = "seq,time,topic,source,qos,retain,dup,payload,payload_base64,properties\n"

// CSV writes records as lines under CSVHeader. A payload that is binary, or
// holds a carriage return, which readers of CSV drop, stands in payload_base64;
// payload is empty then.
type CSV struct {
	clock clock
	buf   []byte
}

// Append appends the line of a record.
func (c *CSV) Append(dst []byte, r *mqttetl.Record) []byte {
	dst = strconv.AppendUint(dst, uint64(r.Seq), 10)
	dst = append(dst, ',')
	dst = c.clock.append(dst, r.Time, 9)
	dst = append(dst, "Z,"...)
	dst = appendCell(dst, r.Topic)
	dst = append(dst, ',')
	dst = appendCell(dst, []byte(r.Source))
	dst = append(dst, ',', '0'+byte(r.Flags.QoS()), ',', bit(r.Flags.Retain()), ',', bit(r.Flags.Dup()), ',')
	if Binary(r.Payload) || bytes.IndexByte(r.Payload, '\r') >= 0 {
		dst = append(dst, ',')
		dst = base64.StdEncoding.AppendEncode(dst, r.Payload)
	} else {
		dst = append(appendCell(dst, r.Payload), ',')
	}
	dst = append(dst, ',')
	if len(r.Properties) > 0 {
		c.buf = r.Properties.AppendJSON(c.buf[:0])
		dst = appendCell(dst, c.buf)
	}
	return append(dst, '\n')
}

// appendCell quotes where it must.
func appendCell(dst, s []byte) []byte {
	if !bytes.ContainsAny(s, ",\"\r\n") && !bytes.HasPrefix(s, []byte(" ")) {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for _, c := range s {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
