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
func metricValue(m *wireMetric, datatype uint32, members *Birth, depth int, left *budget) (any, error) {
	if m.null {
		return nil, nil
	}
	switch m.value.kind {
	case bytesValue:
		return bytesOf(m.value.raw, datatype, left)
	case dataSetValue:
		return dataSet(m.value.raw, left)
	case templateValue:
		t, err := parseTemplate(m.value.raw, left)
		if err == nil {
			err = left.members(len(t.metrics))
		}
		if err != nil {
			return nil, err
		}
		return t.document(members, depth-1, left)
	}
	if err := left.take(textCost + len(m.value.raw)); err != nil {
		return nil, err
	}
	return m.value.simple(datatype)
}

// bytesOf returns Bytes, or the array that the type packs into bytes: numbers
// in little endian, which the specification's examples of FloatArray and
// DoubleArray are not.
func bytesOf(raw []byte, datatype uint32, left *budget) (any, error) {
	le := binary.LittleEndian
	switch datatype {
	case typeInt8Array:
		return packed(raw, 1, left, func(b []byte) any { return int(int8(b[0])) })
	case typeInt16Array:
		return packed(raw, 2, left, func(b []byte) any { return int(int16(le.Uint16(b))) })
	case typeInt32Array:
		return packed(raw, 4, left, func(b []byte) any { return int(int32(le.Uint32(b))) })
	case typeInt64Array, typeDateTimeArray:
		return packed(raw, 8, left, func(b []byte) any { return int(int64(le.Uint64(b))) })
	case typeUInt8Array:
		return packed(raw, 1, left, func(b []byte) any { return int(b[0]) })
	case typeUInt16Array:
		return packed(raw, 2, left, func(b []byte) any { return int(le.Uint16(b)) })
	case typeUInt32Array:
		return packed(raw, 4, left, func(b []byte) any { return int(le.Uint32(b)) })
	case typeUInt64Array:
		return packed(raw, 8, left, func(b []byte) any { return fromUint(le.Uint64(b)) })
	case typeFloatArray:
		return packed(raw, 4, left, func(b []byte) any { return float64(math.Float32frombits(le.Uint32(b))) })
	case typeDoubleArray:
		return packed(raw, 8, left, func(b []byte) any { return math.Float64frombits(le.Uint64(b)) })
	case typeBooleanArray:
		return booleans(raw, left)
	case typeStringArray:
		return stringArray(raw, left)
	}
	if err := left.take(textCost + len(raw)); err != nil {
		return nil, err
	}
	return Bytes(bytes.Clone(raw)), nil
}

func packed(raw []byte, size int, left *budget, element func([]byte) any) (any, error) {
	if len(raw)%size != 0 {
		return nil, fmt.Errorf("an array of %d bytes with elements of %d", len(raw), size)
	}
	if err := left.take((exactCost + scalarCost) * (len(raw) / size)); err != nil {
		return nil, err
	}
	a := make([]any, 0, len(raw)/size)
	for ; len(raw) > 0; raw = raw[size:] {
		a = append(a, element(raw))
	}
	return a, nil
}

// booleans reads a count of 4 bytes and that many bits, the highest first.
func booleans(raw []byte, left *budget) (any, error) {
	if len(raw) < 4 {
		return nil, errors.New("a BooleanArray without its count")
	}
	n, bits := int(binary.LittleEndian.Uint32(raw)), raw[4:]
	if len(bits) != (n+7)/8 {
		return nil, fmt.Errorf("a BooleanArray of %d with %d bytes", n, len(bits))
	}
	if err := left.take(exactCost * n); err != nil {
		return nil, err
	}
	a := make([]any, n)
	for i := range a {
		a[i] = bits[i/8]>>(7-i%8)&1 == 1
	}
	return a, nil
}

// stringArray reads strings that each end with a zero byte.
func stringArray(raw []byte, left *budget) (any, error) {
	n := bytes.Count(raw, []byte{0})
	if err := left.take(len(raw) + (exactCost+textCost)*n); err != nil {
		return nil, err
	}
	a := make([]any, 0, n)
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

// Of a DataSet, while its lists grow.
const (
	columnCost = 160
	rowCost    = 256
	cellCost   = 96
)

// dataSet returns {columns, types, rows}, the rows as arrays.
func dataSet(raw []byte, left *budget) (any, error) {
	columns, types, rows := []any{}, []uint32{}, [][]byte{}
	err := eachField(raw, func(f field) error {
		switch {
		case f.bytes(2):
			if err := left.take(columnCost + len(f.raw)); err != nil {
				return err
			}
			s, err := f.text()
			columns = append(columns, s)
			return err
		case f.varint(3):
			types = append(types, uint32(f.n))
			return left.take(columnCost)
		case f.bytes(3): // packed
			return eachVarint(f.raw, func(n uint64) error {
				types = append(types, uint32(n))
				return left.take(columnCost)
			})
		case f.bytes(4):
			if err := left.take(rowCost); err != nil {
				return err
			}
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
		if all[i], err = dataSetRow(r, types, left); err != nil {
			return nil, fmt.Errorf("row %d of a DataSet: %w", i, err)
		}
	}
	return map[string]any{"columns": columns, "types": names, "rows": all}, nil
}

func dataSetRow(raw []byte, types []uint32, left *budget) (any, error) {
	row := make([]any, 0, min(len(types), len(raw)/2))
	if err := left.take(exactCost * cap(row)); err != nil {
		return nil, err
	}
	err := eachField(raw, func(f field) error {
		if !f.bytes(1) {
			return nil
		}
		if len(row) == len(types) {
			return fmt.Errorf("more elements than the %d columns", len(types))
		}
		if err := left.take(cellCost + len(f.raw)); err != nil {
			return err
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
