package decode

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/tinylib/msgp/msgp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// FuzzText: auto takes everything but broken JSON, number what strconv takes too, and text and
// raw give back what they were given.
func FuzzText(f *testing.F) {
	for _, s := range []string{"21.5", " -0.0 \n", "+007", "ON", ".5", "1e400", "{", "\xff", "", "-", "0x1p4", "1_0", "+-0", "--1"} {
		f.Add([]byte(s))
	}
	auto, number := mustNew(f, "auto", Options{}), mustNew(f, "number", Options{})
	words, raw := mustNew(f, "text", Options{}), mustNew(f, "raw", Options{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if docs, err := all(auto, "", payload); !errors.As(err, new(NotJSON)) && (err != nil || len(docs) != 1) {
			t.Errorf("auto: %v, %v", docs, err)
		}
		if docs, err := all(words, "", payload); (err == nil) != utf8.Valid(payload) || err == nil && docs[0] != string(payload) {
			t.Errorf("text: %q, %v", docs, err)
		}
		if docs, err := all(raw, "", payload); err != nil || string(docs[0].(Bytes)) != string(payload) {
			t.Errorf("raw: %q, %v", docs, err)
		}
		docs, err := all(number, "", payload)
		if err != nil {
			return
		}
		var got float64
		switch v := docs[0].(type) {
		case int:
			got = float64(v)
		case *big.Int:
			got, _ = new(big.Float).SetInt(v).Float64()
		case float64:
			got = v
		case json.Number:
			got = math.Inf(1)
			if v[0] == '-' {
				got = math.Inf(-1)
			}
		default:
			return // a word
		}
		want, err := strconv.ParseFloat(strings.TrimSpace(string(payload)), 64)
		if got != want || err != nil && !math.IsInf(want, 0) {
			t.Errorf("number: %v, strconv %v, %v", got, want, err)
		}
	})
}

// FuzzCBOR: a document is the same after it was encoded and decoded again.
func FuzzCBOR(f *testing.F) {
	for _, s := range []string{"0xa26161010262c3bc", "0xbf61610161629f0203ffff", "0xc249010000000000000000", "0xf97e00", "0xc11a514b67b0", "0x4401020304",
		"0xfa47c35000", "0xd9d9f7a0"} {
		f.Add(payload(f, s))
	}
	d := mustNew(f, "cbor", Options{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		docs, err := all(d, "", payload)
		if err != nil {
			return
		}
		again, err := cbor.Marshal(forCBOR(docs[0]))
		if err != nil {
			t.Fatal(err)
		}
		back, err := all(d, "", again)
		if err != nil || !same(back, docs) {
			t.Fatalf("%#v\nencoded again: %#v, %v", docs, back, err)
		}
	})
}

// forCBOR returns a copy with byte strings for Bytes.
func forCBOR(doc any) any {
	switch v := doc.(type) {
	case Bytes:
		return []byte(v)
	case []any:
		a := make([]any, len(v))
		for i := range v {
			a[i] = forCBOR(v[i])
		}
		return a
	case map[string]any:
		m := object{}
		for k := range v {
			m[k] = forCBOR(v[k])
		}
		return m
	}
	return doc
}

// FuzzMsgpack: a document is the same after it was encoded and decoded again.
func FuzzMsgpack(f *testing.F) {
	for _, s := range []string{"0x82a174930102c3a162c403000102", "0xcfffffffffffffffff", "0xd6ff65937a00", "0xc70cff0000000affffffffffffffff", "0xd403aa",
		"0xdd00000001c0", "0xc700d3", "0xcb7ff8000000000000"} {
		f.Add(payload(f, s))
	}
	d := mustNew(f, "msgpack", Options{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		docs, err := all(d, "", payload)
		if err != nil {
			return
		}
		again, err := appendMsgpack(nil, docs[0])
		if err != nil {
			t.Fatal(err)
		}
		back, err := all(d, "", again)
		if err != nil || !same(back, docs) {
			t.Fatalf("%#v\nencoded again: %#v, %v", docs, back, err)
		}
	})
}

func appendMsgpack(b []byte, doc any) ([]byte, error) {
	var err error
	switch v := doc.(type) {
	case Bytes:
		return msgp.AppendBytes(b, v), nil
	case *big.Int:
		return msgp.AppendUint64(b, v.Uint64()), nil
	case []any:
		b = msgp.AppendArrayHeader(b, uint32(len(v)))
		for _, e := range v {
			if b, err = appendMsgpack(b, e); err != nil {
				return nil, err
			}
		}
		return b, nil
	case map[string]any:
		b = msgp.AppendMapHeader(b, uint32(len(v)))
		for k, e := range v {
			if b, err = appendMsgpack(msgp.AppendString(b, k), e); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	return msgp.AppendIntf(b, doc)
}

// FuzzCSV: the documents are the rows that encoding/csv reads.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a,b\n1,x\n,\"2\n3\"\n", "\ufefft\n007\n-1e5", "a,a\n", ",\n,\"\n,\"", "a\n\"", "a\r\n\r\n1\r\n"} {
		f.Add([]byte(s))
	}
	d := mustNew(f, "csv", Options{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		docs, err := all(d, "", payload)
		if err != nil {
			return
		}
		r := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(payload), "\ufeff")))
		r.FieldsPerRecord = -1
		rows, err := r.ReadAll()
		if errors.As(err, new(*csv.ParseError)) && len(docs) > 0 { // ReadAll ends there
			return
		}
		if err != nil || len(rows) != len(docs)+1 {
			t.Fatalf("%d documents of %d rows, %v", len(docs), len(rows), err)
		}
		for i, row := range rows[1:] {
			if _, failed := docs[i].(Failed); failed != (len(row) != len(rows[0])) {
				t.Fatalf("row %d is %v", i, docs[i])
			} else if failed {
				continue
			}
			for k, name := range rows[0] {
				v := docs[i].(object)[name]
				if s, ok := v.(string); ok && s != row[k] || !ok && v == nil && row[k] != "" {
					t.Fatalf("%s of row %d is %#v, not %q", name, i, v, row[k])
				}
				if x, ok := v.(float64); ok {
					if y, err := strconv.ParseFloat(row[k], 64); x != y || err != nil {
						t.Fatalf("%v is not %q", x, row[k])
					}
				}
			}
		}
	})
}

// FuzzInflux: a point is the same after it was written and decoded again.
func FuzzInflux(f *testing.F) {
	for _, s := range []string{"cpu,host=a\\ b,r=x\\,y usage=0.5,n=3i,u=18446744073709551615u,ok=t,s=\"a \\\"q\\\" \\\\ b\" 17", "# c\n\nm f=-1e3\r\nm\\ 2 f\\=g=F",
		"m f=\"two\nlines\" -5", "m f=1\nm f=\"\\", "m\\,,t\\==\\\\ f=1"} {
		f.Add([]byte(s))
	}
	d := mustNew(f, "influx", Options{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		docs, err := all(d, "", payload)
		if err != nil {
			return
		}
		for _, doc := range docs {
			if _, ok := doc.(Failed); ok {
				continue
			}
			line := writeInflux(doc.(object))
			if back, err := all(d, "", []byte(line)); err != nil || !same(back, []any{doc}) {
				// A name that ends with a backslash cannot be written.
				if !strings.Contains(line, "\\") {
					t.Fatalf("%#v\nas %q: %#v, %v", doc, line, back, err)
				}
			}
		}
	})
}

func writeInflux(doc object) string {
	name := strings.NewReplacer(",", `\,`, " ", `\ `, "=", `\=`).Replace
	var b strings.Builder
	b.WriteString(strings.NewReplacer(",", `\,`, " ", `\ `).Replace(doc["measurement"].(string)))
	for k, v := range doc["tags"].(object) {
		b.WriteString("," + name(k) + "=" + name(v.(string)))
	}
	separator := " "
	for k, v := range doc["fields"].(object) {
		b.WriteString(separator + name(k) + "=")
		separator = ","
		switch v := v.(type) {
		case string:
			b.WriteString(`"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(v) + `"`)
		case int:
			fmt.Fprintf(&b, "%di", v)
		case *big.Int:
			fmt.Fprintf(&b, "%du", v)
		default:
			fmt.Fprint(&b, v)
		}
	}
	if t := doc["time"]; t != nil {
		fmt.Fprintf(&b, " %d", t)
	}
	return b.String()
}

// FuzzProtobuf: the document is what protobuf's own JSON has.
func FuzzProtobuf(f *testing.F) {
	d := payloadType(f)
	f.Add([]byte{})
	f.Add(encode(f, d, object{"timestamp": uint64(math.MaxUint64), "uuid": "x", "body": []byte{0, 255}, "metrics": []any{
		object{"name": "t", "float_value": float32(0.1)}, object{"double_value": math.NaN()}, object{"boolean_value": false},
		object{"dataset_value": object{"types": []any{uint32(1), uint32(2)}}}}}))
	dec := mustNew(f, "protobuf", Options{Descriptor: sparkplugDescriptor(f), Message: string(d.FullName())})
	f.Fuzz(func(t *testing.T, payload []byte) {
		docs, err := all(dec, "", payload)
		m := dynamicpb.NewMessage(d)
		otherErr := proto.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true, RecursionLimit: DefaultMaxDepth}.Unmarshal(payload, m)
		var p []byte
		if otherErr == nil { // text that is not UTF-8 has no JSON
			p, otherErr = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true, AllowPartial: true}.Marshal(m)
		}
		if (err != nil) != (otherErr != nil) {
			t.Fatalf("%v, protobuf says %v", err, otherErr)
		}
		if err != nil {
			return
		}
		var want any
		j := json.NewDecoder(strings.NewReader(string(p)))
		j.UseNumber()
		if err := j.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if !sameAsProtojson(docs[0], want) {
			t.Fatalf("%#v\nprotobuf's JSON: %s", docs[0], p)
		}
	})
}

// sameAsProtojson allows for JSON's forms of 64-bit integers, bytes and NaN.
func sameAsProtojson(doc, want any) bool {
	switch v := doc.(type) {
	case int, *big.Int:
		return fmt.Sprint(v) == fmt.Sprint(want)
	case float64:
		w, err := strconv.ParseFloat(fmt.Sprint(want), 64)
		return err == nil && (v == w || v != v && w != w || float32(v) == float32(w))
	case Bytes:
		return base64.StdEncoding.EncodeToString(v) == want
	case []any:
		w, ok := want.([]any)
		for i := range v {
			ok = ok && len(v) == len(w) && sameAsProtojson(v[i], w[i])
		}
		return ok
	case map[string]any:
		w, ok := want.(map[string]any)
		for k := range v {
			ok = ok && len(v) == len(w) && sameAsProtojson(v[k], w[k])
		}
		return ok
	}
	return same(doc, want)
}
