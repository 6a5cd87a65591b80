package format

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/mqttetl/mqttetl/internal/visible"
)

// float is the payload as a number: four bytes of binary32 with the letter f,
// eight of binary64 with d, little endian (IEEE 754).
func float(verb byte, m *Message) (float64, error) {
	p := m.Payload
	switch {
	case verb == 'f' && len(p) == 4:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(p))), nil
	case verb == 'd' && len(p) == 8:
		return math.Float64frombits(binary.LittleEndian.Uint64(p)), nil
	}
	want := map[byte]string{'f': "a float of 4", 'd': "a double of 8"}[verb]
	return 0, fmt.Errorf("%%%c wants %s bytes, the payload has %d on topic %s", verb, want, len(p), visible.Append(nil, m.Topic))
}

// float prints v as C's %f does, with six digits after the point unless there
// is a precision.
func (p *part) float(dst []byte, v float64) []byte {
	precision := p.precision
	if precision < 0 {
		precision = 6
	}
	var s string
	pad := p.pad
	switch {
	case math.IsNaN(v):
		s, pad = "nan", ' '
	case math.IsInf(v, 0):
		s, pad = "inf", ' '
	default:
		s = strconv.FormatFloat(math.Abs(v), 'f', precision, 64)
	}
	sign := ""
	if math.Signbit(v) {
		sign = "-"
	}
	missing := p.width - len(sign) - len(s)
	switch {
	case p.left:
		return fill(append(append(dst, sign...), s...), ' ', missing)
	case pad == '0':
		return append(fill(append(dst, sign...), pad, missing), s...)
	}
	return append(append(fill(dst, pad, missing), sign...), s...)
}
