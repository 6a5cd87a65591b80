package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"
)

// payload reads hex if it starts with 0x.
func payload(t testing.TB, s string) []byte {
	t.Helper()
	digits, isHex := strings.CutPrefix(s, "0x")
	if !isHex {
		return []byte(s)
	}
	p, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type object = map[string]any

// TestFormats: a payload and the documents it gives, or the error.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		format, payload string
		want            []any
		err             string
	}{
		{"text", "grün", []any{"grün"}, ""},
		{"text", "", []any{""}, ""},
		{"text", "0x6161c3", nil, "payload is not text: invalid UTF-8 at byte 2"},
		{"raw", "0x00ff", []any{Bytes{0, 255}}, ""},

		{"number", "21.5", []any{21.5}, ""},
		{"number", " -21 \n", []any{-21}, ""},
		{"number", "+007", []any{7}, ""},
		{"number", "-.5", []any{-0.5}, ""},
		{"number", "1e3", []any{1000.0}, ""},
		{"number", "18446744073709551615", []any{bigInt("18446744073709551615")}, ""},
		{"number", "1e400", []any{json.Number("1e400")}, ""},
		{"number", "ON", []any{true}, ""},
		{"number", "Closed", []any{false}, ""},
		{"number", "unavailable", []any{nil}, ""},
		{"number", "", nil, "payload is empty, not a number"},
		{"number", "NaN", []any{nil}, ""},
		{"number", "-inf", []any{nil}, ""},
		{"number", "21.5 C", nil, `payload "21.5 C" is not a number and not one of the words ` + strings.Join(Words(), " ")},
		{"number", "-", nil, `payload "-" is not a number and not one of the words ` + strings.Join(Words(), " ")},
		{"number", "1.2.3", nil, `payload "1.2.3" is not a number and not one of the words ` + strings.Join(Words(), " ")},

		{"auto", `{"a":1}`, []any{object{"a": 1}}, ""},
		{"auto", ` 21.5`, []any{21.5}, ""},
		{"auto", `OFF`, []any{false}, ""},
		{"auto", `007`, []any{7}, ""},
		{"auto", `unknown`, []any{"unknown"}, ""},
		{"auto", `{"a":`, nil, "payload is not JSON: it ends too early, at byte 5"},
		{"auto", " [1 2]", nil, "payload is not JSON: unexpected '2' at byte 4"},
		{"auto", `a {"a":`, []any{`a {"a":`}, ""},
		{"auto", ``, []any{""}, ""},
		{"auto", "0xff00", []any{Bytes{255, 0}}, ""},

		// RFC 8949, appendix A
		{"cbor", "0x1bffffffffffffffff", []any{bigInt("18446744073709551615")}, ""},
		{"cbor", "0x3bffffffffffffffff", []any{bigInt("-18446744073709551616")}, ""},
		{"cbor", "0xc249010000000000000000", []any{bigInt("18446744073709551616")}, ""},
		{"cbor", "0xf93e00", []any{1.5}, ""},
		{"cbor", "0xf97e00", []any{math.NaN()}, ""},
		{"cbor", "0xc11a514b67b0", []any{"2013-03-21T20:04:00Z"}, ""},
		{"cbor", "0xa201020304", []any{object{"1": 2, "3": 4}}, ""},
		{"cbor", "0xbf6161019f0203ffff", nil, "payload is not CBOR: unexpected \"break\" code"},
		{"cbor", "0xbf61610161629f0203ffff", []any{object{"a": 1, "b": []any{2, 3}}}, ""},
		{"cbor", "0x4401020304", []any{Bytes{1, 2, 3, 4}}, ""},
		{"cbor", "0xf7", []any{nil}, ""},
		{"cbor", "0xd9d9f7a0", []any{object{}}, ""},
		{"cbor", "0xa2016001f6", []any{object{"1": nil}}, ""}, // the last of equal keys
		{"cbor", "0xa20160613100", nil, "payload is not CBOR: a map has the key 1 twice, as a number and as text"},
		{"cbor", "0xa1f500", nil, "payload is not CBOR: a map has a key that is neither text nor a number: bool"},
		{"cbor", "", nil, "payload is not CBOR: it is empty"},
		{"cbor", "0x9bffffffffffffffff", nil, "payload is not CBOR: array length 18446744073709551615 is too large, it would cause integer overflow"},
		{"cbor", "0x0000", nil, "payload is not CBOR: 1 bytes of extraneous data starting at index 1"},

		{"msgpack", "0x82 a174 93 cb4035800000000000 ccc8 d0f6 a162 c403000102", []any{object{"t": []any{21.5, 200, -10}, "b": Bytes{0, 1, 2}}}, ""},
		{"msgpack", "0xcfffffffffffffffff", []any{bigInt("18446744073709551615")}, ""},
		{"msgpack", "0xd6ff65937a00", []any{"2024-01-02T02:50:40Z"}, ""},
		{"msgpack", "0xc70cff0000000affffffffffffffff", []any{"1969-12-31T23:59:59.00000001Z"}, ""},
		{"msgpack", "0xd403aa", []any{Bytes{0xaa}}, ""},
		{"msgpack", "0x8105c0", []any{object{"5": nil}}, ""},
		{"msgpack", "0x81c0c0", nil, "payload is not MessagePack: a map with null as a key, at byte 1"},
		{"msgpack", "0xa1ff", nil, "payload is not MessagePack: a string with invalid UTF-8, at byte 0"},
		{"msgpack", "0x0101", nil, "payload is not MessagePack: something follows the first value, at byte 1"},
		{"msgpack", "0x92c0", nil, "payload is not MessagePack: it ends too early or has a byte that starts nothing, at byte 2"},
		{"msgpack", "", nil, "payload is not MessagePack: it is empty"},

		{"csv", "a,b\n1,x\n,\"2\n3\"\n", []any{object{"a": "1", "b": "x"}, object{"a": nil, "b": "2\n3"}}, ""},
		{"csv", "\ufefft;\n007", []any{object{"t;": "007"}}, ""},
		{"csv", "id,v,z,n\n12E4,1.10,007,1e400", []any{object{"id": "12E4", "v": "1.10", "z": "007", "n": "1e400"}}, ""},
		{"csv", "a,a\n1,2", nil, `payload is not CSV: its header has "a" twice`},
		{"csv", ",\n1,2", nil, `payload is not CSV: its header has "" twice`},
		{"csv", "a,b\n1", nil, "payload is not CSV: line 2 has 1 fields, the header 2"},
		{"csv", "a\n\"", nil, `payload is not CSV: parse error on line 2, column 2: extraneous or missing " in quoted-field`},
		{"csv", "", nil, "payload is not CSV: it has no header line"},
		{"csv", "0x61ff", nil, "payload is not CSV: invalid UTF-8 at byte 1"},

		{"influx", "cpu,host=a\\ b,r=x\\,y usage=0.5,n=3i,u=18446744073709551615u,ok=t,s=\"a \\\"q\\\" \\\\ b\" 1700000000000000000\n", []any{object{
			"measurement": "cpu", "tags": object{"host": "a b", "r": "x,y"}, "time": 1700000000000000000,
			"fields": object{"usage": 0.5, "n": 3, "u": bigInt("18446744073709551615"), "ok": true, "s": `a "q" \ b`}}}, ""},
		{"influx", "# comment\n\nm f=-1e3\r\nm\\ 2 f\\=g=F", []any{
			object{"measurement": "m", "tags": object{}, "fields": object{"f": -1000.0}, "time": nil},
			object{"measurement": "m 2", "tags": object{}, "fields": object{"f=g": false}, "time": nil}}, ""},
		{"influx", "m f=\"two\nlines\" -5", []any{object{"measurement": "m", "tags": object{}, "fields": object{"f": "two\nlines"}, "time": -5}}, ""},
		{"influx", "m", nil, "payload is not line protocol: line 1: the name of a field is missing"},
		{"influx", ",a=b f=1", nil, "payload is not line protocol: line 1: the measurement is missing"},
		{"influx", "m,a f=1", nil, "payload is not line protocol: line 1: tag a has no value"},
		{"influx", "m,a= f=1", nil, "payload is not line protocol: line 1: tag a: its value is missing"},
		{"influx", "\nm f=1,", nil, "payload is not line protocol: line 2: the name of a field is missing"},
		{"influx", "m f=", nil, "payload is not line protocol: line 1: field f: its value is missing"},
		{"influx", "m f=9223372036854775808i", nil, `payload is not line protocol: line 1: field f: "9223372036854775808i" is not an integer of 64 bits`},
		{"influx", "m f=-1u", nil, `payload is not line protocol: line 1: field f: "-1u" is not an unsigned integer of 64 bits`},
		{"influx", "m f=NaN", nil, `payload is not line protocol: line 1: field f: "NaN" is not a number, a boolean or a quoted string`},
		{"influx", "m f=\"x", nil, "payload is not line protocol: line 1: field f: a string without its closing quote"},
		{"csv", "a,b\nx,1\nsay \"hi\",2\n\"say \"hi\"\",2\ny,3", []any{object{"a": "x", "b": "1"}, Failed{errors.New("payload is not CSV: parse error on line 3, column 5: bare \" in non-quoted-field")},
			Failed{errors.New("payload is not CSV: parse error on line 4, column 6: extraneous or missing \" in quoted-field")}, object{"a": "y", "b": "3"}}, ""},
		{"csv", "a,b\nx,1\n\"open,2", []any{object{"a": "x", "b": "1"}, Failed{errors.New("payload is not CSV: parse error on line 3, column 8: extraneous or missing \" in quoted-field")}}, ""},
		{"csv", "a,b\n1\n2,3", []any{Failed{errors.New("payload is not CSV: line 2 has 1 fields, the header 2")}, object{"a": "2", "b": "3"}}, ""},
		{"influx", "m f=1\nm f=NaN\nm f=2", []any{object{"measurement": "m", "tags": object{}, "fields": object{"f": 1.0}, "time": nil},
			Failed{errors.New("payload is not line protocol: line 2: field f: \"NaN\" is not a number, a boolean or a quoted string")},
			object{"measurement": "m", "tags": object{}, "fields": object{"f": 2.0}, "time": nil}}, ""},
		{"influx", "m f=\"a\nb\" x", nil, "payload is not line protocol: line 2: \"x\" where the timestamp is expected"},
		{"influx", "m f=1 soon", nil, `payload is not line protocol: line 1: "soon" where the timestamp is expected`},
		{"influx", "m f=1 5 6", nil, "payload is not line protocol: line 1: something follows the timestamp"},
	} {
		docs, err := all(mustNew(t, c.format, Options{}), "", payload(t, c.payload))
		if text(err) != c.err || err == nil && !same(docs, c.want) {
			t.Errorf("%s of %.60q: %#v, %v\nwant %#v, %s", c.format, c.payload, docs, err, c.want, c.err)
		}
	}
}

// TestCSVOptions: another separator, and columns that the payload does not name.
func TestCSVOptions(t *testing.T) {
	d := mustNew(t, "csv", Options{Comma: ';', Header: []string{"t", "h"}})
	docs, err := all(d, "", []byte("21.5;40\n22;41\n"))
	if err != nil || !same(docs, []any{object{"t": "21.5", "h": "40"}, object{"t": "22", "h": "41"}}) {
		t.Errorf("%v, %v", docs, err)
	}
	for _, o := range []Options{{Comma: '"'}, {Comma: '\n'}, {Header: []string{"a", "a"}}} {
		if _, err := New("csv", o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// TestLimits: size and depth hold for every format that has them.
func TestLimits(t *testing.T) {
	small := Options{MaxBytes: 100, MaxDepth: 8, Descriptor: sparkplugDescriptor(t), Message: "mqttetl.sparkplug.Payload"}
	for _, format := range Formats() {
		_, err := all(mustNew(t, format, small), "", make([]byte, 101))
		if text(err) != "payload has 101 bytes, more than the 100 that are decoded" {
			t.Errorf("%s: %v", format, err)
		}
	}
	for format, deep := range map[string][]byte{
		"json":    bytes.Repeat([]byte("["), 50),
		"cbor":    append(bytes.Repeat([]byte{0x81}, 50), 0),
		"msgpack": append(bytes.Repeat([]byte{0x91}, 50), 0),
	} {
		if _, err := all(mustNew(t, format, small), "", deep); err == nil {
			t.Errorf("%s: 50 levels are accepted", format)
		}
	}
}

// TestEmitEnds: an error of emit comes back as it is, from every format.
func TestEmitEnds(t *testing.T) {
	stop := errors.New("stop")
	for format, p := range map[string]string{
		"json": "1", "text": "1", "number": "1", "auto": "1", "raw": "1", "cbor": "\x01", "msgpack": "\x01", "csv": "a\n1\n2", "influx": "m f=1\nm f=2",
	} {
		n := 0
		err := mustNew(t, format, Options{}).Decode("", []byte(p), func(any) error { n++; return stop })
		if err != stop || n != 1 {
			t.Errorf("%s: %v after %d", format, err, n)
		}
	}
	if _, err := New("xml", Options{}); err == nil || !strings.HasPrefix(err.Error(), `unknown format "xml", one of: auto, cbor,`) {
		t.Errorf("xml: %v", err)
	}
}

// TestForJQ: no Bytes are left, wherever they were.
func TestForJQ(t *testing.T) {
	b := Bytes{0, 0xff}
	want := base64.StdEncoding.EncodeToString(b)
	got := ForJQ(object{"a": b, "b": []any{b, object{"c": b}}, "d": 1})
	if !same(got, object{"a": want, "b": []any{want, object{"c": want}}, "d": 1}) || ForJQ(b) != want {
		t.Errorf("%#v", got)
	}
}

// TestHugePayload: the extractor takes what no tree is built of, and copies
// none of it.
func TestHugePayload(t *testing.T) {
	const size = 200 << 20
	huge := append([]byte(`{"blob":"`), bytes.Repeat([]byte("0123456789abcdef"), size/16)...)
	huge = append(huge, `","t":21.5}`...)
	out := make([]Value, 1)
	x := NewExtractor(mustPaths(t, ".t"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := x.Extract(huge, out)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; err != nil || grown > 1<<20 {
		t.Errorf("%v, %d bytes allocated", err, grown)
	}
	if f, err := out[0].Float64(); f != 21.5 || err != nil {
		t.Errorf("%v, %v", f, err)
	}
	for _, format := range []string{"json", "auto", "text", "raw"} {
		if _, err := all(mustNew(t, format, Options{}), "", huge); err == nil {
			t.Errorf("%s builds a document of 200 MiB", format)
		}
	}
}
