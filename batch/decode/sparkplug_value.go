package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Data types, Sparkplug 3.0, 6.4.16.
const (
	typeInt8            = 1
	typeInt16           = 2
	typeInt32           = 3
	typeInt64           = 4
	typeBoolean         = 11
	typeDateTime        = 13
	typePropertySet     = 20
	typePropertySetList = 21
	typeInt8Array       = 22
	typeInt16Array      = 23
	typeInt32Array      = 24
	typeInt64Array      = 25
	typeUInt8Array      = 26
	typeUInt16Array     = 27
	typeUInt32Array     = 28
	typeUInt64Array     = 29
	typeFloatArray      = 30
	typeDoubleArray     = 31
	typeBooleanArray    = 32
	typeStringArray     = 33
	typeDateTimeArray   = 34
)

var typeNames = [...]string{
	"Unknown", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float", "Double", "Boolean", "String",
	"DateTime", "Text", "UUID", "DataSet", "Bytes", "File", "Template", "PropertySet", "PropertySetList", "Int8Array", "Int16Array",
	"Int32Array", "Int64Array", "UInt8Array", "UInt16Array", "UInt32Array", "UInt64Array", "FloatArray", "DoubleArray", "BooleanArray",
	"StringArray", "DateTimeArray",
}

func typeName(t uint32) string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return strconv.FormatUint(uint64(t), 10)
}

// metricValue returns the value of a metric of a type. members are those of the
// birth, for the types that a Template's members leave out.
func metricValue(m *wireMetric, datatype uint32, members []BirthMetric, depth int) (any, error) {
	if m.null {
		return nil, nil
	}
	switch m.value.kind {
	case bytesValue:
		return bytesOf(m.value.raw, datatype)
	case dataSetValue:
		return dataSet(m.value.raw)
	case templateValue:
		t, err := parseTemplate(m.value.raw)
		if err != nil {
			return nil, err
		}
		return t.document(members, depth-1)
	}
	return m.value.simple(datatype)
}

// bytesOf returns Bytes, or the array that the type packs into bytes: numbers
// in little endian, which the specification's examples of FloatArray and
// DoubleArray are not.
func bytesOf(raw []byte, datatype uint32) (any, error) {
	le := binary.LittleEndian
	switch datatype {
	case typeInt8Array:
		return packed(raw, 1, func(b []byte) any { return int(int8(b[0])) })
	case typeInt16Array:
		return packed(raw, 2, func(b []byte) any { return int(int16(le.Uint16(b))) })
	case typeInt32Array:
		return packed(raw, 4, func(b []byte) any { return int(int32(le.Uint32(b))) })
	case typeInt64Array, typeDateTimeArray:
		return packed(raw, 8, func(b []byte) any { return int(int64(le.Uint64(b))) })
	case typeUInt8Array:
		return packed(raw, 1, func(b []byte) any { return int(b[0]) })
	case typeUInt16Array:
		return packed(raw, 2, func(b []byte) any { return int(le.Uint16(b)) })
	case typeUInt32Array:
		return packed(raw, 4, func(b []byte) any { return int(le.Uint32(b)) })
	case typeUInt64Array:
		return packed(raw, 8, func(b []byte) any { return fromUint(le.Uint64(b)) })
	case typeFloatArray:
		return packed(raw, 4, func(b []byte) any { return float64(math.Float32frombits(le.Uint32(b))) })
	case typeDoubleArray:
		return packed(raw, 8, func(b []byte) any { return math.Float64frombits(le.Uint64(b)) })
	case typeBooleanArray:
		return booleans(raw)
	case typeStringArray:
		return stringArray(raw)
	}
	return Bytes(bytes.Clone(raw)), nil
}

func packed(raw []byte, size int, element func([]byte) any) (any, error) {
	if len(raw)%size != 0 {
		return nil, fmt.Errorf("an array of %d bytes with elements of %d", len(raw), size)
	}
	a := make([]any, 0, len(raw)/size)
	for ; len(raw) > 0; raw = raw[size:] {
		a = append(a, element(raw))
	}
	return a, nil
}

// maxBooleans bounds what bits grow to as values of a document.
const maxBooleans = 1 << 20

// booleans reads a count of 4 bytes and that many bits, the highest first.
func booleans(raw []byte) (any, error) {
	if len(raw) < 4 {
		return nil, errors.New("a BooleanArray without its count")
	}
	n, bits := int(binary.LittleEndian.Uint32(raw)), raw[4:]
	if len(bits) != (n+7)/8 {
		return nil, fmt.Errorf("a BooleanArray of %d with %d bytes", n, len(bits))
	}
	if n > maxBooleans {
		return nil, fmt.Errorf("a BooleanArray of %d, more than %d", n, maxBooleans)
	}
	a := make([]any, n)
	for i := range a {
		a[i] = bits[i/8]>>(7-i%8)&1 == 1
	}
	return a, nil
}

// stringArray reads strings that each end with a zero byte.
func stringArray(raw []byte) (any, error) {
	a := []any{}
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, 0)
		if i < 0 {
			return nil, errors.New("a StringArray without its last zero byte")
		}
		s, err := field{raw: raw[:i]}.text()
		if err != nil {
			return nil, err
		}
		a = append(a, s)
		raw = raw[i+1:]
	}
	return a, nil
}

// dataSet returns {columns, types, rows}, the rows as arrays.
func dataSet(raw []byte) (any, error) {
	columns, types, rows := []any{}, []uint32{}, [][]byte{}
	err := eachField(raw, func(f field) error {
		switch {
		case f.bytes(2):
			s, err := f.text()
			columns = append(columns, s)
			return err
		case f.varint(3):
			types = append(types, uint32(f.n))
		case f.bytes(3): // packed
			return eachVarint(f.raw, func(n uint64) { types = append(types, uint32(n)) })
		case f.bytes(4):
			rows = append(rows, f.raw)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(types) != len(columns) {
		return nil, fmt.Errorf("a DataSet of %d columns and %d types", len(columns), len(types))
	}
	names, all := make([]any, len(types)), make([]any, len(rows))
	for i, t := range types {
		names[i] = typeName(t)
	}
	for i, r := range rows {
		if all[i], err = dataSetRow(r, types); err != nil {
			return nil, fmt.Errorf("row %d of a DataSet: %w", i, err)
		}
	}
	return map[string]any{"columns": columns, "types": names, "rows": all}, nil
}

func dataSetRow(raw []byte, types []uint32) (any, error) {
	row := make([]any, 0, min(len(types), len(raw)))
	err := eachField(raw, func(f field) error {
		if !f.bytes(1) {
			return nil
		}
		if len(row) == len(types) {
			return fmt.Errorf("more elements than the %d columns", len(types))
		}
		var v wireValue
		if err := eachField(f.raw, func(f field) error { v.take(f, dataSetValueAt, stringValue); return nil }); err != nil {
			return err
		}
		e, err := v.simple(types[len(row)])
		row = append(row, e)
		return err
	})
	if err == nil && len(row) < len(types) {
		err = fmt.Errorf("%d elements for %d columns", len(row), len(types))
	}
	return row, err
}
