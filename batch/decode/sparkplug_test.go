package decode

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"
)

// drawValue draws a value of a data type: the field of the oneof to set, and
// what a document must have.
func drawValue(t *rapid.T, datatype, depth int) (name string, field, want any) {
	signed := func(bits int) (string, any, any) {
		v := rapid.Int64Range(-1<<(bits-1), 1<<(bits-1)-1).Draw(t, "int")
		n := uint32(v)
		if rapid.Bool().Draw(t, "own width") {
			n &= uint32(1<<bits - 1)
		}
		return "int_value", n, int(v)
	}
	unsigned := func(bits int) (string, any, any) {
		v := rapid.Uint32Max(uint32(1<<bits-1)).Draw(t, "uint")
		return "int_value", v, int(v)
	}
	switch datatype {
	case 1:
		return signed(8)
	case 2:
		return signed(16)
	case 3:
		return signed(32)
	case 4:
		v := rapid.Int64().Draw(t, "int64")
		return "long_value", uint64(v), int(v)
	case 5:
		return unsigned(8)
	case 6:
		return unsigned(16)
	case 7:
		return unsigned(32)
	case 8:
		v := rapid.Uint64().Draw(t, "uint64")
		if v > math.MaxInt64 {
			return "long_value", v, bigInt(fmt.Sprint(v))
		}
		return "long_value", v, int(v)
	case 9:
		v := rapid.Float32().Draw(t, "float")
		return "float_value", v, float64(v)
	case 10:
		v := rapid.Float64().Draw(t, "double")
		return "double_value", v, v
	case 11:
		v := rapid.Bool().Draw(t, "bool")
		return "boolean_value", v, v
	case 13:
		v := rapid.Int64Range(0, 1<<52).Draw(t, "ms")
		return "long_value", uint64(v), int(v)
	case 12, 14, 15:
		v := rapid.String().Draw(t, "string")
		return "string_value", v, v
	case 16:
		field, want := drawDataSet(t)
		return "dataset_value", field, want
	case 17, 18:
		v := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		return "bytes_value", v, Bytes(v)
	case 19:
		field, want := drawTemplate(t, depth-1)
		return "template_value", field, want
	}
	v, w := drawArray(t, datatype)
	return "bytes_value", v, w
}

// drawArray packs an array as 6.4.17 says.
func drawArray(t *rapid.T, datatype int) (packed []byte, want []any) {
	want = []any{}
	n := rapid.IntRange(0, 20).Draw(t, "length")
	bits := []byte{}
	for i := range n {
		var v any
		le := binary.LittleEndian
		switch datatype {
		case 22:
			x := rapid.Int8().Draw(t, "x")
			packed, v = append(packed, byte(x)), int(x)
		case 23:
			x := rapid.Int16().Draw(t, "x")
			packed, v = le.AppendUint16(packed, uint16(x)), int(x)
		case 24:
			x := rapid.Int32().Draw(t, "x")
			packed, v = le.AppendUint32(packed, uint32(x)), int(x)
		case 25, 34:
			x := rapid.Int64().Draw(t, "x")
			packed, v = le.AppendUint64(packed, uint64(x)), int(x)
		case 26:
			x := rapid.Byte().Draw(t, "x")
			packed, v = append(packed, x), int(x)
		case 27:
			x := rapid.Uint16().Draw(t, "x")
			packed, v = le.AppendUint16(packed, x), int(x)
		case 28:
			x := rapid.Uint32().Draw(t, "x")
			packed, v = le.AppendUint32(packed, x), int(x)
		case 29:
			x := rapid.Uint64Max(math.MaxInt64).Draw(t, "x")
			packed, v = le.AppendUint64(packed, x), int(x)
		case 30:
			x := rapid.Float32().Draw(t, "x")
			packed, v = le.AppendUint32(packed, math.Float32bits(x)), float64(x)
		case 31:
			x := rapid.Float64().Draw(t, "x")
			packed, v = le.AppendUint64(packed, math.Float64bits(x)), x
		case 32:
			x := rapid.Bool().Draw(t, "x")
			if i%8 == 0 {
				bits = append(bits, 0)
			}
			if x {
				bits[i/8] |= 0x80 >> (i % 8)
			}
			v = x
		case 33:
			x := strings.ReplaceAll(rapid.String().Draw(t, "x"), "\x00", "")
			packed, v = append(append(packed, x...), 0), x
		}
		want = append(want, v)
	}
	if datatype == 32 {
		packed = append(binary.LittleEndian.AppendUint32(nil, uint32(n)), bits...)
	}
	return packed, want
}

func drawDataSet(t *rapid.T) (field object, want any) {
	columns, types, names, rows, wantRows := []any{}, []any{}, []any{}, []any{}, []any{}
	n := rapid.IntRange(0, 4).Draw(t, "columns")
	for i := range n {
		columns = append(columns, fmt.Sprintf("column %d", i))
		datatype := rapid.Uint32Range(1, 15).Draw(t, "type")
		types, names = append(types, datatype), append(names, typeNames[datatype])
	}
	for range rapid.IntRange(0, 3).Draw(t, "rows") {
		elements, wantRow := []any{}, []any{}
		for _, datatype := range types {
			name, v, w := drawValue(t, int(datatype.(uint32)), 0)
			elements, wantRow = append(elements, object{name: v}), append(wantRow, w)
		}
		rows, wantRows = append(rows, object{"elements": elements}), append(wantRows, wantRow)
	}
	return object{"num_of_columns": uint64(n), "columns": columns, "types": types, "rows": rows},
		object{"columns": columns, "types": names, "rows": wantRows}
}

func drawTemplate(t *rapid.T, depth int) (field object, want any) {
	metrics, wantMetrics := []any{}, object{}
	for i := range rapid.IntRange(0, 3).Draw(t, "members") {
		datatype := drawType(t, depth)
		name, v, w := drawValue(t, datatype, depth)
		member := fmt.Sprintf("member %d", i)
		metrics = append(metrics, object{"name": member, "datatype": uint32(datatype), name: v})
		wantMetrics[member] = w
	}
	name, v, w := drawValue(t, rapid.IntRange(1, 15).Draw(t, "parameter"), 0)
	parameter := object{"name": "p", "type": uint32(12), name: v}
	if _, isInt := v.(uint32); isInt {
		parameter["type"], w = uint32(7), int(v.(uint32))
	} else if name == "long_value" {
		parameter["type"], w = uint32(4), int(int64(v.(uint64)))
	}
	return object{"version": "1.0", "metrics": metrics, "template_ref": "Motor", "is_definition": false, "parameters": []any{parameter}},
		object{"version": "1.0", "template_ref": "Motor", "is_definition": false, "metrics": wantMetrics, "parameters": object{"p": w}}
}

// drawType draws a data type that a metric can have.
func drawType(t *rapid.T, depth int) int {
	datatype := rapid.IntRange(1, 32).Draw(t, "type")
	if datatype >= 20 {
		datatype += 2 // PropertySet and PropertySetList are none
	}
	if datatype == 19 && depth == 0 {
		return 12
	}
	return datatype
}

// TestSparkplugAgreesWithProtoc: what an encoder made of the .proto by protoc
// writes, the decoder reads, by name in the birth and by alias afterwards.
func TestSparkplugAgreesWithProtoc(t *testing.T) {
	d := payloadType(t)
	rapid.Check(t, func(t *rapid.T) {
		var birth, data []any
		var want []any
		for i := range rapid.IntRange(0, 8).Draw(t, "metrics") {
			datatype := drawType(t, 2)
			name, v, w := drawValue(t, datatype, 2)
			null := rapid.IntRange(0, 5).Draw(t, "null") == 0
			alias, ms := rapid.Uint64().Draw(t, "alias")<<4|uint64(i), rapid.Uint64Max(1<<50).Draw(t, "timestamp")
			historical := rapid.Bool().Draw(t, "historical")
			m := object{"alias": alias, "timestamp": ms, "is_historical": historical, "is_transient": !historical, "is_null": null, name: v,
				"metadata":   object{"content_type": "x"},
				"properties": object{"keys": []any{"Quality", "none"}, "values": []any{object{"type": uint32(3), "int_value": uint32(192)}, object{"is_null": true}}}}
			if null {
				w = nil
			}
			want = append(want, object{"group": "g", "node": "n", "device": nil, "metric": fmt.Sprintf("folder/metric %d", i),
				"type": typeNames[datatype], "value": w, "timestamp": int(ms), "is_null": null, "is_historical": historical,
				"is_transient": !historical, "properties": object{"Quality": 192, "none": nil}})
			born := object{"name": fmt.Sprintf("folder/metric %d", i), "datatype": uint32(datatype)}
			for k, v := range m {
				born[k] = v
			}
			birth, data = append(birth, born), append(data, m)
			switch rapid.IntRange(0, 3).Draw(t, "encoder") { // some write defaults beside an alias, and some all of it
			case 1:
				m["name"], m["datatype"] = "", uint32(0)
			case 2:
				m["name"] = ""
			case 3:
				m["name"] = born["name"]
			}
		}
		dec := &sparkplug{births: newMemory(), depth: DefaultMaxDepth, max: DefaultMaxTreeBytes}
		for seq, message := range []string{"NBIRTH", "NDATA"} {
			metrics := birth
			if message == "NDATA" {
				metrics = data
			}
			payload := encode(t, d, object{"timestamp": uint64(5), "seq": uint64(seq), "metrics": metrics})
			docs, err := all(dec, "spBv1.0/g/"+message+"/n", payload)
			if err != nil {
				t.Fatalf("%s: %v", message, err)
			}
			for _, w := range want {
				w.(object)["message"] = message
			}
			if !same(docs, want) && len(want)+len(docs) > 0 {
				t.Fatalf("%s:\n%#v\nwant\n%#v", message, docs, want)
			}
		}
	})
}

// FuzzSparkplug: whatever protobuf's own parser takes for a payload has the
// same metrics in the decoder's eyes; nothing panics.
func FuzzSparkplug(f *testing.F) {
	d := payloadType(f)
	f.Add([]byte{})
	f.Add(encode(f, d, object{"timestamp": uint64(1), "seq": uint64(0), "metrics": []any{
		object{"name": "bdSeq", "datatype": uint32(4), "long_value": uint64(3)},
		object{"name": "t", "alias": uint64(1), "datatype": uint32(19), "template_value": object{"metrics": []any{
			object{"name": "x", "datatype": uint32(32), "bytes_value": []byte{2, 0, 0, 0, 0xc0}}}}},
		object{"name": "d", "datatype": uint32(16), "dataset_value": object{"columns": []any{"a"}, "types": []any{uint32(1)},
			"rows": []any{object{"elements": []any{object{"int_value": uint32(255)}}}}}},
		object{"name": "p", "properties": object{"keys": []any{"q"}, "values": []any{object{"propertysets_value": object{}}}}},
	}}))
	f.Add(encode(f, d, object{"uuid": compressedUUID, "body": gzipped([]byte{0x12, 2, 0x0a, 0, 0x12, 4, 0x0a, 2, 'a', 'b'})}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		dec := &sparkplug{births: newMemory(), depth: 50, max: 1 << 20}
		births, birthErr := all(dec, "spBv1.0/g/NBIRTH/n", payload)
		data, err := all(dec, "spBv1.0/g/NDATA/n", payload)
		if (birthErr == nil) != (err == nil) || len(data) != len(births) {
			t.Fatalf("data of %d metrics, %v; its birth has %d, %v", len(data), err, len(births), birthErr)
		}
		for i := range data {
			_, lost := data[i].(Failed)
			if _, was := births[i].(Failed); was != lost {
				t.Fatalf("metric %d is %v in its birth and %v in data", i, births[i], data[i])
			}
		}
		m := dynamicpb.NewMessage(d)
		if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(payload, m) != nil {
			// The decoder does not look into what no document shows.
			return
		}
		left := budgetOf(payload)
		p, err := parsePlain(payload, &left)
		if err != nil {
			if !errors.Is(err, errInvalidText) {
				t.Fatalf("protobuf takes it, the decoder says %v", err)
			}
			return
		}
		metrics := m.Get(d.Fields().ByName("metrics")).List()
		if metrics.Len() != len(p.metrics) {
			t.Fatalf("%d metrics, protobuf has %d", len(p.metrics), metrics.Len())
		}
		for i := range p.metrics {
			if p.metrics[i].err != nil {
				continue
			}
			sameMetric(t, &p.metrics[i], metrics.Get(i).Message())
		}
	})
}

func sameMetric(t *testing.T, m *wireMetric, other protoreflect.Message) {
	t.Helper()
	fields := other.Descriptor().Fields()
	get := func(name string) any {
		f := fields.ByName(protoreflect.Name(name))
		if !other.Has(f) {
			return nil
		}
		return other.Get(f).Interface()
	}
	pointed := func(p any, nothing bool, v any) {
		if nothing != (v == nil) || !nothing && fmt.Sprint(p) != fmt.Sprint(v) {
			t.Errorf("%v, protobuf has %v", p, v)
		}
	}
	if m.name != nil {
		pointed(*m.name, false, get("name"))
	}
	if m.alias != nil {
		pointed(*m.alias, false, get("alias"))
	}
	if m.datatype != nil {
		pointed(*m.datatype, false, get("datatype"))
	}
	names := []string{"int_value", "long_value", "float_value", "double_value", "boolean_value"}
	for i, name := range names {
		v := get(name)
		if (m.value.kind == intValue+valueKind(i)) != (v != nil) {
			t.Errorf("kind %d, but protobuf's %s is %v", m.value.kind, name, v)
		}
		if v == nil {
			continue
		}
		if got, _ := m.value.simple(0); fmt.Sprint(got) != fmt.Sprint(exactNumber(v)) {
			t.Errorf("%s: %v, protobuf has %v", name, got, v)
		}
	}
}

func exactNumber(v any) any {
	switch v := v.(type) {
	case float32:
		return float64(v)
	case uint64:
		return json.Number(fmt.Sprint(v))
	}
	return v
}
