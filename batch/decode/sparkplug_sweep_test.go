package decode

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// ends are the ends of each data type of Sparkplug 3.0, 6.4.16: the field of
// the oneof, what is in it, and the value.
var ends = map[string][]struct {
	field       string
	sent, value any
}{
	"Int8":     {{"int_value", u32(-128), -128}, {"int_value", uint32(0x80), -128}, {"int_value", uint32(127), 127}, {"long_value", u64(-13), -13}, {"long_value", uint64(4294967283), -13}},
	"Int16":    {{"int_value", u32(-32768), -32768}, {"int_value", uint32(0xfff3), -13}, {"int_value", uint32(32767), 32767}, {"long_value", u64(-13), -13}, {"long_value", uint64(4294967283), -13}},
	"Int32":    {{"int_value", u32(math.MinInt32), math.MinInt32}, {"int_value", uint32(4294967283), -13}, {"int_value", uint32(math.MaxInt32), math.MaxInt32}, {"long_value", uint64(4294967283), -13}, {"long_value", u64(-13), -13}},
	"Int64":    {{"long_value", u64(math.MinInt64), math.MinInt64}, {"long_value", u64(-13), -13}, {"long_value", uint64(math.MaxInt64), math.MaxInt64}, {"long_value", uint64(4294967283), 4294967283}},
	"UInt8":    {{"int_value", uint32(0), 0}, {"int_value", uint32(255), 255}},
	"UInt16":   {{"int_value", uint32(0), 0}, {"int_value", uint32(65535), 65535}},
	"UInt32":   {{"int_value", uint32(math.MaxUint32), math.MaxUint32}, {"long_value", uint64(math.MaxUint32), math.MaxUint32}},
	"UInt64":   {{"long_value", uint64(math.MaxInt64), math.MaxInt64}, {"long_value", uint64(math.MaxUint64), bigInt("18446744073709551615")}},
	"Float":    {{"float_value", float32(-0.5), -0.5}, {"float_value", float32(math.MaxFloat32), math.MaxFloat32}},
	"Double":   {{"double_value", math.SmallestNonzeroFloat64, math.SmallestNonzeroFloat64}, {"double_value", -math.MaxFloat64, -math.MaxFloat64}},
	"Boolean":  {{"boolean_value", true, true}, {"boolean_value", false, false}, {"int_value", uint32(1), true}},
	"String":   {{"string_value", "", ""}, {"string_value", "é\x00", "é\x00"}},
	"DateTime": {{"long_value", uint64(1767642776123), 1767642776123}, {"long_value", u64(-1), -1}},
	"Text":     {{"string_value", "a\nb", "a\nb"}},
	"UUID":     {{"string_value", "3d3ea4b6-6e08-4f0a-a9a7-2b1d4d8e4b10", "3d3ea4b6-6e08-4f0a-a9a7-2b1d4d8e4b10"}},
	"DataSet": {{"dataset_value", object{"num_of_columns": uint64(2), "columns": []any{"a", "b"}, "types": []any{uint32(1), uint32(12)}, "rows": []any{
		object{"elements": []any{object{"int_value": uint32(0xff)}, object{}}}}},
		object{"columns": []any{"a", "b"}, "types": []any{"Int8", "String"}, "rows": []any{[]any{-1, nil}}}}},
	"Bytes": {{"bytes_value", []byte{0, 0xff}, Bytes{0, 0xff}}, {"bytes_value", []byte{}, Bytes{}}},
	"File":  {{"bytes_value", []byte("%PDF"), Bytes("%PDF")}},
	"Template": {{"template_value", object{"template_ref": "Motor", "metrics": []any{object{"name": "rpm", "datatype": uint32(2), "int_value": uint32(0xffff)}}},
		object{"version": nil, "template_ref": "Motor", "is_definition": false, "metrics": object{"rpm": -1}, "parameters": object{}}}},
	"Int8Array":     {{"bytes_value", []byte{0x80, 0xf3, 0x7f}, []any{-128, -13, 127}}},
	"Int16Array":    {{"bytes_value", []byte{0, 0x80, 0xf3, 0xff}, []any{-32768, -13}}},
	"Int32Array":    {{"bytes_value", []byte{0xf3, 0xff, 0xff, 0xff}, []any{-13}}},
	"Int64Array":    {{"bytes_value", []byte{0xf3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []any{-13}}},
	"UInt8Array":    {{"bytes_value", []byte{0, 0xff}, []any{0, 255}}, {"bytes_value", []byte{}, []any{}}},
	"UInt16Array":   {{"bytes_value", []byte{0xff, 0xff}, []any{65535}}},
	"UInt32Array":   {{"bytes_value", []byte{0xff, 0xff, 0xff, 0xff}, []any{math.MaxUint32}}},
	"UInt64Array":   {{"bytes_value", bytes.Repeat([]byte{0xff}, 8), []any{bigInt("18446744073709551615")}}},
	"FloatArray":    {{"bytes_value", []byte{0, 0, 0, 0xbf}, []any{-0.5}}},
	"DoubleArray":   {{"bytes_value", []byte{0, 0, 0, 0, 0, 0, 0xe0, 0xbf}, []any{-0.5}}},
	"BooleanArray":  {{"bytes_value", []byte{9, 0, 0, 0, 0x80, 0x80}, []any{true, false, false, false, false, false, false, false, true}}},
	"StringArray":   {{"bytes_value", []byte("a\x00\x00é\x00"), []any{"a", "", "é"}}},
	"DateTimeArray": {{"bytes_value", []byte{1, 0, 0, 0, 0, 0, 0, 0}, []any{1}}},
}

func u32(v int32) uint32 { return uint32(v) }
func u64(v int64) uint64 { return uint64(v) }

// TestSparkplugTypes: every type of a metric, at its ends, from an encoder that
// protoc made: in the birth, and in data by name or by alias, whatever defaults
// the encoder writes beside it, and null.
func TestSparkplugTypes(t *testing.T) {
	d := payloadType(t)
	for datatype, name := range typeNames {
		if datatype == 0 || datatype == typePropertySet || datatype == typePropertySetList {
			continue // types of properties
		}
		if len(ends[name]) == 0 {
			t.Errorf("no values of %s", name)
		}
		for _, end := range ends[name] {
			dec := mustNew(t, "sparkplug_b", Options{})
			send := func(message string, metrics ...any) []any {
				docs, err := all(dec, "spBv1.0/g/"+message+"/n", encode(t, d, object{"metrics": metrics}))
				if err != nil {
					t.Fatal(err)
				}
				return docs
			}
			kind := uint32(datatype)
			docs := send("NBIRTH", object{"name": "m", "alias": uint64(7), "datatype": kind, end.field: end.sent})
			docs = append(docs, send("NDATA",
				object{"alias": uint64(7), end.field: end.sent},
				object{"alias": uint64(7), "name": "", end.field: end.sent},
				object{"alias": uint64(7), "name": "", "datatype": uint32(0), end.field: end.sent},
				object{"alias": uint64(7), "datatype": kind, end.field: end.sent},
				object{"name": "m", end.field: end.sent},
				object{"name": "m", "datatype": uint32(0), end.field: end.sent},
				object{"name": "other", "datatype": kind, end.field: end.sent},
				object{"alias": uint64(7), "is_null": true},
				object{"alias": uint64(7), "name": "", "is_null": true, end.field: end.sent},
				object{"alias": uint64(7), "is_null": false, end.field: end.sent},
			)...)
			for i, doc := range docs {
				m, ok := doc.(object)
				if !ok {
					t.Fatalf("%s, metric %d: %v", name, i, doc)
				}
				want, wantName, null := end.value, "m", i == 8 || i == 9
				if null {
					want = nil
				}
				if i == 7 {
					wantName = "other"
				}
				if m["metric"] != wantName || m["type"] != name || m["is_null"] != null || !same(m["value"], want) {
					t.Errorf("%s, metric %d: got %v %v %#v, want %s %s %#v", name, i, m["metric"], m["type"], m["value"], wantName, name, want)
				}
			}
		}
	}
}

// TestSparkplugPropertyTypes: every type of a property and of a DataSet's column,
// at its ends.
func TestSparkplugPropertyTypes(t *testing.T) {
	d := payloadType(t)
	for datatype, name := range typeNames[:typeDateTime+3] {
		for _, end := range ends[name] {
			kind := uint32(datatype)
			nested := object{"type": uint32(typePropertySet), "propertyset_value": object{"keys": []any{"k"}, "values": []any{object{"type": kind, end.field: end.sent}}}}
			list := object{"type": uint32(typePropertySetList), "propertysets_value": object{"propertyset": []any{nested["propertyset_value"]}}}
			m := object{"name": "m", "datatype": uint32(16),
				"properties": object{"keys": []any{"p", "null", "set", "list"}, "values": []any{
					object{"type": kind, end.field: end.sent}, object{"type": kind, "is_null": true, end.field: end.sent}, nested, list}},
				"dataset_value": object{"columns": []any{"c"}, "types": []any{kind}, "rows": []any{object{"elements": []any{object{end.field: end.sent}}}}}}
			docs, err := all(mustNew(t, "sparkplug_b", Options{}), "spBv1.0/g/NBIRTH/n", encode(t, d, object{"metrics": []any{m}}))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got := docs[0].(object)
			set := object{"k": end.value}
			if want := (object{"p": end.value, "null": nil, "set": set, "list": []any{set}}); !same(got["properties"], want) {
				t.Errorf("%s: properties %#v, want %#v", name, got["properties"], want)
			}
			if want := (object{"columns": []any{"c"}, "types": []any{name}, "rows": []any{[]any{end.value}}}); !same(got["value"], want) {
				t.Errorf("%s: DataSet %#v, want %#v", name, got["value"], want)
			}
		}
	}
}

// TestSparkplugOneBadMetric: what is wrong with one metric costs that metric.
func TestSparkplugOneBadMetric(t *testing.T) {
	d := payloadType(t)
	good := object{"name": "good", "alias": uint64(1), "datatype": uint32(3), "int_value": u32(-13)}
	for name, c := range map[string]struct {
		bad  object
		want string
	}{
		"unknown alias":       {object{"alias": uint64(9), "int_value": uint32(1)}, "metric 1: alias 9 is not in its birth"},
		"neither":             {object{"int_value": uint32(1)}, "metric 1: neither name nor alias"},
		"empty name":          {object{"name": "", "int_value": uint32(1)}, "metric 1: neither name nor alias"},
		"name not UTF-8":      {object{"name": "\xff", "int_value": uint32(1)}, "metric 1: a string with invalid UTF-8"},
		"value not UTF-8":     {object{"name": "x", "datatype": uint32(12), "string_value": "\xff"}, "metric x: a string with invalid UTF-8"},
		"array of half":       {object{"name": "x", "datatype": uint32(23), "bytes_value": []byte{1}}, "metric x: an array of 1 bytes with elements of 2"},
		"property not UTF-8":  {object{"name": "x", "properties": object{"keys": []any{"\xff"}}}, "metric x: a string with invalid UTF-8"},
		"member of an unborn": {object{"name": "x", "datatype": uint32(19), "template_value": object{"metrics": []any{object{"alias": uint64(5)}}}}, "metric x: member 0 of a Template: alias 5 is not in its birth"},
	} {
		for _, birth := range []bool{false, true} {
			dec := mustNew(t, "sparkplug_b", Options{})
			first, second := []any{good}, []any{good, c.bad, good}
			if birth {
				first = second
			}
			for _, step := range []spStep{{"NBIRTH", 0, first, "", 0}, {"NDATA", 1, second, "", 0}} {
				want := "good=-13"
				if len(step.metrics) > 1 {
					want = "good=-13 " + step.message + " of g/n: " + c.want + " good=-13"
				}
				if got := step.run(t, d, dec); got != want {
					t.Errorf("%s: got %s\nwant %s", name, got, want)
				}
			}
		}
	}
}

// TestSparkplugRebirth: the command is what protobuf reads as one.
func TestSparkplugRebirth(t *testing.T) {
	d := payloadType(t)
	got := dynamicpb.NewMessage(d)
	if err := proto.Unmarshal(Rebirth(time.UnixMilli(1767642776123)), got); err != nil {
		t.Fatal(err)
	}
	want := build(t, d, object{"timestamp": uint64(1767642776123), "metrics": []any{object{
		"name": "Node Control/Rebirth", "timestamp": uint64(1767642776123), "datatype": uint32(11), "boolean_value": true}}})
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if topic := RebirthTopic("g", "n"); topic != "spBv1.0/g/NCMD/n" {
		t.Errorf("topic %s", topic)
	}
}

func gzipped(p []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(p) // a buffer takes all
	_ = w.Close()
	return b.Bytes()
}

func zlibbed(p []byte) []byte {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write(p)
	_ = w.Close()
	return b.Bytes()
}

func deflated(p []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	_, _ = w.Write(p)
	_ = w.Close()
	return b.Bytes()
}

// TestSparkplugCompressed: births and data that a node compresses, and what
// would grow too much.
func TestSparkplugCompressed(t *testing.T) {
	d := payloadType(t)
	algorithm := func(name string) []any {
		return []any{object{"name": "algorithm", "datatype": uint32(12), "string_value": name}}
	}
	birth := encode(t, d, object{"timestamp": uint64(1767642776000), "seq": uint64(0), "metrics": []any{bd(1), born("x", 1, -13)}})
	large := make([]byte, 5<<20)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range large {
		large[i] = byte(rnd.IntN(16))
	}
	dense := encode(t, d, object{"body": make([]byte, 2<<20)})
	for name, c := range map[string]struct {
		body    []byte
		metrics []any
		want    string
	}{
		"GZIP":             {gzipped(birth), algorithm("GZIP"), "bdSeq=1 x=-13"},
		"gzip":             {gzipped(birth), algorithm("gzip"), "bdSeq=1 x=-13"},
		"DEFLATE":          {zlibbed(birth), algorithm("DEFLATE"), "bdSeq=1 x=-13"},
		"DEFLATE, raw":     {deflated(birth), algorithm("DEFLATE"), "bdSeq=1 x=-13"},
		"no algorithm":     {zlibbed(birth), nil, "bdSeq=1 x=-13"},
		"another":          {birth, algorithm("LZ4"), `the algorithm is "LZ4", not GZIP or DEFLATE`},
		"nothing":          {nil, algorithm("GZIP"), "there is no body"},
		"not compressed":   {birth, algorithm("GZIP"), "compressed: "},
		"cut off":          {gzipped(birth)[:30], algorithm("GZIP"), "compressed: payload is not gzip: it ends too early, at byte 30"},
		"wrong checksum":   {append(gzipped(birth)[:len(gzipped(birth))-8], make([]byte, 8)...), algorithm("GZIP"), "compressed: payload is not gzip: gzip: invalid checksum"},
		"too large":        {gzipped(large), algorithm("GZIP"), "becomes more than 4194304, which is refused"},
		"too dense":        {gzipped(dense), algorithm("GZIP"), "becomes more than 1048576, which is refused"},
		"twice":            {gzipped(encode(t, d, object{"uuid": compressedUUID, "body": gzipped(birth)})), algorithm("GZIP"), "compressed twice"},
		"not of Sparkplug": {gzipped([]byte{0x12, 5}), algorithm("GZIP"), "compressed: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			dec := mustNew(t, "sparkplug_b", Options{})
			fields := object{"uuid": compressedUUID, "metrics": c.metrics}
			if c.metrics == nil {
				delete(fields, "metrics")
			}
			if c.body != nil {
				fields["body"] = c.body
			}
			docs, err := all(dec, "spBv1.0/g/NBIRTH/n", encode(t, d, fields))
			got := text(err)
			if err == nil {
				got = fmt.Sprintf("bdSeq=%v x=%v", docs[0].(object)["value"], docs[1].(object)["value"])
			}
			if !strings.Contains(got, c.want) || len(got) > 300 {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if err != nil {
				return
			}
			fields["body"] = gzipped(encode(t, d, object{"metrics": []any{aliased(1, -14)}}))
			fields["seq"] = uint64(1) // outside, as some do
			docs, err = all(dec, "spBv1.0/g/NDATA/n", encode(t, d, fields))
			if err != nil || docs[0].(object)["value"] != -14 || docs[0].(object)["type"] != "Int32" {
				t.Errorf("data: %v, %v", docs, err)
			}
		})
	}
}
