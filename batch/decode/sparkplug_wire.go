package decode

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// wirePayload is a Payload as it is on the wire, names unresolved.
type wirePayload struct {
	timestamp *uint64
	seq       *uint64
	uuid      string
	body      []byte
	metrics   []wireMetric
}

// wireMetric is a Metric. Its name is never empty.
type wireMetric struct {
	err        error // it cannot be read; the rest may be missing
	name       *string
	alias      *uint64
	timestamp  *uint64
	datatype   *uint32
	historical bool
	transient  bool
	null       bool
	properties []byte
	value      wireValue
}

// wireValue is the oneof that Metric, Parameter, PropertyValue and DataSetValue
// have, in the same order and at different field numbers.
type wireValue struct {
	kind valueKind
	n    uint64 // numbers and booleans
	raw  []byte // anything else
}

type valueKind int

const (
	noValue valueKind = iota
	intValue
	longValue
	floatValue
	doubleValue
	boolValue
	stringValue
	bytesValue // of a Metric; of a PropertyValue its PropertySet
	dataSetValue
	templateValue
)

// Where the oneof starts.
const (
	metricValueAt    = 10
	parameterValueAt = 3
	propertyValueAt  = 3
	dataSetValueAt   = 1
)

// take takes a field if it belongs to the oneof that starts at number at.
func (v *wireValue) take(f field, at protowire.Number, last valueKind) {
	kind := valueKind(f.num-at) + intValue
	if kind < intValue || kind > last || f.typ != wireTypes[min(kind, stringValue)] {
		return
	}
	n := f.n
	switch kind {
	case intValue:
		n = uint64(uint32(n))
	case boolValue:
		n = uint64(protowire.EncodeBool(n != 0))
	}
	*v = wireValue{kind, n, f.raw}
}

var wireTypes = [...]protowire.Type{
	intValue: protowire.VarintType, longValue: protowire.VarintType, floatValue: protowire.Fixed32Type,
	doubleValue: protowire.Fixed64Type, boolValue: protowire.VarintType, stringValue: protowire.BytesType,
}

// field is a field of a message: n of the number types, raw of bytes.
type field struct {
	num protowire.Number
	typ protowire.Type
	n   uint64
	raw []byte
}

// varint, bytes: the field has this number and the type that belongs to it. A
// field with another type is an unknown one, as protobuf has it.
func (f field) varint(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.VarintType
}
func (f field) bytes(num protowire.Number) bool { return f.num == num && f.typ == protowire.BytesType }

// text returns a field that must be UTF-8.
func (f field) text() (string, error) {
	if !utf8.Valid(f.raw) {
		return "", errInvalidText
	}
	return string(f.raw), nil
}

var errInvalidText = errors.New("a string with invalid UTF-8")

// eachField calls take with each field of a message.
func eachField(b []byte, take func(f field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		f := field{num: num, typ: typ}
		switch typ {
		case protowire.VarintType:
			f.n, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.n = uint64(v)
		case protowire.Fixed64Type:
			f.n, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.raw, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := take(f); err != nil {
			return err
		}
	}
	return nil
}

// maxMetrics is how many metrics a payload has at the most.
const maxMetrics = 100_000

// parsePayload reads a payload, or the one that it holds compressed.
func (d *sparkplug) parsePayload(b []byte) (p wirePayload, err error) {
	d.left = budgetOf(b).until(d.late)
	if p, err = parsePlain(b, &d.left); err != nil || !strings.HasPrefix(p.uuid, compressedUUID) {
		return p, err
	}
	inner, err := p.inflated(&d.inflater, d.max)
	if err != nil {
		return p, fmt.Errorf("compressed: %w", err)
	}
	outer := p
	d.left = budgetOf(inner).until(d.late)
	if p, err = parsePlain(inner, &d.left); err != nil {
		return p, fmt.Errorf("compressed: %w", err)
	}
	if strings.HasPrefix(p.uuid, compressedUUID) {
		return p, errors.New("compressed twice")
	}
	if p.seq == nil {
		p.seq = outer.seq
	}
	if p.timestamp == nil {
		p.timestamp = outer.timestamp
	}
	return p, nil
}

func parsePlain(b []byte, left *budget) (p wirePayload, err error) {
	metrics, _ := countFields(b, 2)
	if err := left.take(metricCost * metrics); err != nil {
		return p, err
	}
	p.metrics = make([]wireMetric, 0, min(metrics, maxMetrics))
	err = eachField(b, func(f field) (err error) {
		switch {
		case f.varint(1):
			p.timestamp = new(f.n)
		case f.bytes(2):
			if len(p.metrics) == maxMetrics {
				return fmt.Errorf("more than %d metrics", maxMetrics)
			}
			m, err := parseMetric(f.raw, left)
			if isSpent(err) {
				return err
			}
			m.err = err
			p.metrics = append(p.metrics, m)
		case f.varint(3):
			p.seq = new(f.n)
		case f.bytes(4):
			p.uuid, err = f.text()
		case f.bytes(5):
			p.body = f.raw
		}
		return err
	})
	return p, err
}

// countFields counts the fields of a number, up to what is no message.
func countFields(b []byte, num protowire.Number) (n int, err error) {
	err = eachField(b, func(f field) error {
		if f.bytes(num) {
			n++
		}
		return nil
	})
	return n, err
}

// parseMetric reads a metric. An empty name is none, and so is a data type of
// 0: protobuf's defaults, which some encoders write beside an alias.
func parseMetric(b []byte, left *budget) (m wireMetric, err error) {
	err = eachField(b, func(f field) error {
		switch {
		case f.bytes(1):
			if err := left.take(len(f.raw)); err != nil {
				return err
			}
			s, err := f.text()
			if m.name = &s; s == "" {
				m.name = nil
			}
			return err
		case f.varint(2):
			m.alias = new(f.n)
		case f.varint(3):
			m.timestamp = new(f.n)
		case f.varint(4):
			t := uint32(f.n)
			if m.datatype = &t; t == 0 {
				m.datatype = nil
			}
		case f.varint(5):
			m.historical = f.n != 0
		case f.varint(6):
			m.transient = f.n != 0
		case f.varint(7):
			m.null = f.n != 0
		case f.bytes(9):
			m.properties = f.raw
		default:
			m.value.take(f, metricValueAt, templateValue)
		}
		return nil
	})
	return m, err
}

// simple returns a value of the kinds that all four oneofs have.
func (v wireValue) simple(datatype uint32) (any, error) {
	switch v.kind {
	case intValue:
		return integer(v.n, 32, datatype), nil
	case longValue:
		return integer(v.n, 64, datatype), nil
	case floatValue:
		return float64(math.Float32frombits(uint32(v.n))), nil
	case doubleValue:
		return math.Float64frombits(v.n), nil
	case boolValue:
		return v.n != 0, nil
	case stringValue:
		return field{raw: v.raw}.text()
	}
	return nil, nil
}

// integer reads a field of 32 or 64 bits as its data type says. Signed types
// are two's complement, of their own width or of the field's: senders do either.
// What does not fit the type stays as it was sent.
func integer(n uint64, bits int, datatype uint32) any {
	var width int
	switch datatype {
	case typeInt8:
		width = 8
	case typeInt16:
		width = 16
	case typeInt32:
		width = 32
	case typeInt64, typeDateTime:
		return int(int64(n))
	case typeBoolean:
		return n != 0
	default:
		return fromUint(n)
	}
	v := int64(n)
	if bits == 32 {
		v = int64(int32(n))
	}
	half := int64(1) << (width - 1)
	switch narrow := int64(int32(n)); {
	case v >= half && v < 2*half:
		v -= 2 * half
	case n <= math.MaxUint32 && narrow < 0 && narrow >= -half: // 32 bits in a field of 64
		v = narrow
	}
	return int(v)
}
