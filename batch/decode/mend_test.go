package decode

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// TestLenient: what devices send for JSON and is none, what it reads as, and what is said of it.
func TestLenient(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    []any // nil: refused
		what    string
	}{
		{`{"t":nan,"h":40.1}`, []any{object{"t": nil, "h": 40.1}}, "nan at byte 5 reads as null"},
		{`{"t":NaN}`, []any{object{"t": nil}}, "NaN at byte 5 reads as null"},
		{`{"t":-Infinity,"u":+Inf,"v":-inf,"w":INF,"h":1}`, []any{object{"t": nil, "u": nil, "v": nil, "w": nil, "h": 1}}, "-Infinity at byte 5"},
		{`{"t":-1.#IND,"u":1.#QNAN00,"v":-nan(ind)}`, []any{object{"t": nil, "u": nil, "v": nil}}, "-1.#IND at byte 5"},
		{`{"a":[1,[nan,2],{"b":NAN}]}`, []any{object{"a": []any{1, []any{nil, 2}, object{"b": nil}}}}, "nan at byte 9"},
		{`nan`, []any{nil}, `"nan" reads as null`},
		{`{"t":,"h":40}`, []any{object{"t": nil, "h": 40}}, "a value is missing at byte 5"},
		{`{"h":40,"t":}`, []any{object{"t": nil, "h": 40}}, "a value is missing at byte 12"},
		{`{"t":ERR,"h":40,"u":--,"v":21.5 C}`, []any{object{"t": nil, "h": 40, "u": nil, "v": nil}}, "ERR at byte 5 reads as null"},
		{`{"t":+5,"u":.5,"v":007,"w":0x1f}`, []any{object{"t": 5, "u": 0.5, "v": 7, "w": nil}}, "+5 at byte 5 reads as 5"},
		{`{"a":None,"b":True,"c":False,"d":undefined}`, []any{object{"a": nil, "b": true, "c": false, "d": nil}}, "None at byte 5 reads as null"},
		{`{'a': 'it"s', 'b': "it's", 'c': 'it\'s'}`, []any{object{"a": `it"s`, "b": "it's", "c": "it's"}}, "single quotes at byte 1"},
		{`{a:1,$b_2:2,3:4}`, []any{object{"a": 1, "$b_2": 2, "3": 4}}, "the name a at byte 1 has no quotes"},

		{"{\"t\":21.5,\"c\":\"\xe4H\"}", []any{object{"t": 21.5, "c": "\ufffdH"}}, "invalid UTF-8 at byte 15 reads as U+FFFD"},
		{"{\"\xff\":1,\"c\":\"a\xff\xfeb\xc3\"}", []any{object{"\ufffd": 1, "c": "a\ufffd\ufffdb\ufffd"}}, "invalid UTF-8 at byte 2"},
		{"\ufeff{\"t\":1}", []any{object{"t": 1}}, "a byte order mark or NUL"},
		{"\ufeff{\"t\":nan,\"c\":\"\ufeff\"}", []any{object{"t": nil, "c": "\ufeff"}}, "a byte order mark or NUL"},
		{"{\"t\":1}\x00", []any{object{"t": 1}}, "NUL follows the JSON at byte 7"},
		{"{\"t\":1}\r\n\x00\x00\xa0\n", []any{object{"t": 1}}, "control byte 0x00 at byte 9 is left out"},
		{"{\"c\":\"a\nb\tc\x01\x00\"}", []any{object{"c": "a\nb\tc\x01\x00"}}, "control byte 0x0a within a string at byte 7"},
		{`{"p":"C:\dir\new","u":"\u12","s":"\ud800x\ud83d\ude00"}`, []any{object{"p": "C:\\dir\new", "u": `\u12`, "s": "\ufffdx😀"}}, "unknown escape"},
		{inUTF16(`{"ü":nan,"s":"😀"}`, binary.LittleEndian, true), []any{object{"ü": nil, "s": "😀"}}, "the payload is UTF-16"},
		{inUTF16(`{"a":1}`, binary.BigEndian, true), []any{object{"a": 1}}, "the payload is UTF-16"},
		{inUTF16(`{"a":1}`, binary.LittleEndian, false), []any{object{"a": 1}}, "the payload is UTF-16"},
		{inUTF16(`[1,2]`, binary.BigEndian, false), []any{[]any{1, 2}}, "the payload is UTF-16"},

		{`{"a":1,}`, []any{object{"a": 1}}, "a comma too many before byte 7"},
		{`{"a":1,,"b":2}`, []any{object{"a": 1, "b": 2}}, "a comma too many at byte 7"},
		{`{"a":1 "b":"x" "c":[1,2,]}`, []any{object{"a": 1, "b": "x", "c": []any{1, 2}}}, "a comma is missing at byte 7"},
		{`[1,,2]`, []any{[]any{1, nil, 2}}, "an element is missing at byte 3"},
		{`{"a":nan,"a":2}`, []any{object{"a": 2}}, "nan at byte 5"},
		{`{"t":21,5,"u":-0,25}`, []any{object{"t": 21.5, "u": -0.25}}, "21,5 at byte 5 has a decimal comma"},

		{`{"a":1}{"a":2}`, []any{object{"a": 1}, object{"a": 2}}, "a second document begins at byte 7"},
		{"{\"a\":1}\n{\"a\":nan}\n", []any{object{"a": 1}, object{"a": nil}}, "a second document begins at byte 8"},
		{`{"a":1}{"a":2`, []any{object{"a": 1}}, "a second document begins at byte 7"},
		{`{"a":1}"b":2}`, []any{object{"a": 1}}, "what follows the JSON at byte 7 is left out"},
		{`{"a":1}}`, []any{object{"a": 1}}, "what follows the JSON at byte 7 is left out"},

		{`{"t":21.5,"h":40.`, []any{object{"t": 21.5, "h": nil}}, "the JSON ends too early, at byte 17"},
		{`{"t":21.5,"h":4`, []any{object{"t": 21.5, "h": nil}}, "the JSON ends too early"},
		{`{"t":21.5,"h":`, []any{object{"t": 21.5, "h": nil}}, "the JSON ends too early"},
		{`{"t":21.5,"h"`, []any{object{"t": 21.5}}, "the JSON ends too early"},
		{`{"t":21.5,"h`, []any{object{"t": 21.5}}, "the JSON ends too early"},
		{`{"t":21.5,"c":"a\`, []any{object{"t": 21.5, "c": nil}}, ""},
		{`{"t":true,"c":[1,{"d":2,"e":tr`, []any{object{"t": true, "c": []any{1, object{"d": 2, "e": nil}}}}, "the JSON ends too early"},

		{``, nil, "payload is not JSON: it is empty"},
		{`{`, nil, "payload is not JSON: it ends too early, at byte 1"},
		{`{"t":2`, nil, "payload is not JSON: it ends too early, at byte 6"},
		{`[INFO] booted`, nil, "payload is not JSON: unexpected 'I' at byte 1"},
		{`{"t":ERR}`, nil, "payload is not JSON: unexpected 'E' at byte 5"},
		{`"t":21.5}`, nil, "payload is not JSON: unexpected ':' at byte 3"},
		{`none`, nil, "payload is not JSON: unexpected 'n' at byte 0"},
		{`hello`, nil, "payload is not JSON: unexpected 'h' at byte 0"},
		{`{"t":1,234}`, nil, "payload is not JSON: unexpected '}' at byte 10"}, // thousands, or a fraction?
		{`{"t":1,5`, nil, "payload is not JSON: unexpected '5' at byte 7"},
		{`{"a":[1,2}`, nil, "payload is not JSON: unexpected '}' at byte 9"},
		{`{"a":"x "y" z"}`, nil, "payload is not JSON: unexpected 'y' at byte 9"},
		{strings.Repeat("[", 2000), nil, "payload nests deeper than 1000 levels at byte 1000"},
	} {
		what := ""
		d := mustNew(t, "json", Options{Lenient: true, Mended: func(s string) { what = s }})
		docs, err := all(d, "", []byte(c.payload))
		if c.want == nil {
			if text(err) != c.what {
				t.Errorf("%.80q: %#v, %v\nwant %s", c.payload, docs, err, c.what)
			}
			continue
		}
		if err != nil || !same(docs, c.want) || !strings.HasPrefix(what, c.what) || what == "" {
			t.Errorf("%.80q: %#v, %v, %q\nwant %#v, %q", c.payload, docs, err, what, c.want, c.what)
		}
	}
}

func inUTF16(s string, order binary.ByteOrder, mark bool) string {
	units := utf16.Encode([]rune(s))
	if mark {
		units = append([]uint16{0xfeff}, units...)
	}
	p := make([]byte, 2*len(units))
	for i, u := range units {
		order.PutUint16(p[2*i:], u)
	}
	return string(p)
}

// TestCutOff: wherever a document is cut off, what is read is what it says, or null.
func TestCutOff(t *testing.T) {
	const whole = `{"t":-21.50,"n":{"a":[1,22,{"x":true}],"s":"ü\u00e9\n"},"l":null,"e":1e3,"z":"end"}`
	var full any
	if err := json.Unmarshal([]byte(whole), &full); err != nil {
		t.Fatal(err)
	}
	d := mustNew(t, "json", Options{Lenient: true})
	for n := range len(whole) {
		docs, err := all(d, "", []byte(whole[:n]))
		if n < len(`{"t":-21.50,`) {
			if err == nil {
				t.Errorf("%q: %#v", whole[:n], docs)
			}
			continue
		}
		if err != nil || len(docs) != 1 || !partOf(docs[0], full) || docs[0].(object)["t"] != -21.5 {
			t.Errorf("%q: %#v, %v", whole[:n], docs, err)
		}
	}
}

// partOf says whether doc has nothing but what full has, and null.
func partOf(doc, full any) bool {
	switch v := doc.(type) {
	case nil:
		return true
	case object:
		f, ok := full.(object)
		for k, e := range v {
			ok = ok && partOf(e, f[k])
		}
		return ok
	case []any:
		f, ok := full.([]any)
		for i, e := range v {
			ok = ok && i < len(f) && partOf(e, f[i])
		}
		return ok
	case int:
		return full == float64(v)
	}
	return doc == full
}

// TestLenientNumber: what devices send for a number.
func TestLenientNumber(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    any
		what    string // "": nothing was mended; "!": refused
	}{
		{"42\r\n", 42, ""},
		{" nan ", nil, ""},
		{"-Infinity", nil, ""},
		{"1.#QNAN", nil, ""},
		{"42\x00", 42, "NUL or a byte order mark is around 42"},
		{"\ufeff-21.5\r\n\x00", -21.5, "NUL or a byte order mark is around -21.5"},
		{"ON\x00", true, "NUL or a byte order mark is around ON"},
		{"23.5 C", 23.5, `the unit of "23.5 C" is left out`},
		{"-3°C", -3, `the unit of "-3°C" is left out`},
		{"74.3 °F", 74.3, `the unit of "74.3 °F" is left out`},
		{"45%", 45, `the unit of "45%" is left out`},
		{"45 %RH", 45, `the unit of "45 %RH" is left out`},
		{"21,5 °C\n", 21.5, `the unit of "21,5 °C" is left out`},
		{"1013 hPa", 1013, `the unit of "1013 hPa" is left out`},
		{"1,5", 1.5, `"1,5" is read as a number`},
		{"-0,125", -0.125, `"-0,125" is read as a number`},
		{"1234,567", 1234.567, `"1234,567" is read as a number`},
		{`"21.5"`, 21.5, `"\"21.5\"" is read as a number`},
		{`'on'`, true, `"'on'" is read as a number`},
		{"1,234", nil, "!"},
		{"1,234,567", nil, "!"},
		{"1.234,5", nil, "!"},
		{"10k", nil, "!"},
		{"1.2 kW", nil, "!"},
		{"12:30", nil, "!"},
		{"2026-01-05", nil, "!"},
		{"192.168.7.20", nil, "!"},
		{"5 of 7", nil, "!"},
		{"0x10", nil, "!"},
		{`""`, nil, "!"},
		{"\x00", nil, "!"},
	} {
		what := ""
		d := mustNew(t, "number", Options{Lenient: true, Mended: func(s string) { what = s }})
		docs, err := all(d, "", []byte(c.payload))
		if c.what == "!" {
			if err == nil {
				t.Errorf("%q: %#v", c.payload, docs)
			}
			continue
		}
		if err != nil || !same(docs, []any{c.want}) || what != c.what {
			t.Errorf("%q: %#v, %v, %q\nwant %#v, %q", c.payload, docs, err, what, c.want, c.what)
		}
	}
}

// TestLenientText: in the formats of text a byte that is not UTF-8 costs itself.
func TestLenientText(t *testing.T) {
	for _, c := range []struct {
		format, payload string
		want            any
	}{
		{"text", "caf\xe9 \xff", "caf\ufffd \ufffd"},
		{"text", inUTF16("grün", binary.LittleEndian, true), "grün"},
		{"csv", inUTF16("a,b\n1,ü\n", binary.BigEndian, true), object{"a": "1", "b": "ü"}},
		{"csv", "a,b\n1,\xe9\n", object{"a": "1", "b": "\ufffd"}},
		{"influx", "m,p=\xe9 f=1,g=nan", object{"measurement": "m", "tags": object{"p": "\ufffd"}, "fields": object{"f": 1.0, "g": nil}, "time": nil}},
		{"cbor", "\xa2\x61\xe9\x01\x61t\x62\xff2", object{"\ufffd": 1, "t": "\ufffd2"}},
		{"msgpack", "\x82\xa1\xe9\x01\xa1t\xa2\xff2", object{"\ufffd": 1, "t": "\ufffd2"}},
		{"auto", "{\"a\":\"\xe9\",\"b\":nan}", object{"a": "\ufffd", "b": nil}},
		{"auto", "\ufeff\x00 {\"b\":1}\x00", object{"b": 1}},
		{"auto", inUTF16(`{"a":1}`, binary.LittleEndian, true), object{"a": 1}},
		{"auto", "nan", "nan"},
		{"auto", "23.5 C", "23.5 C"},
	} {
		mended := 0
		docs, err := all(mustNew(t, c.format, Options{Lenient: true, Mended: func(string) { mended++ }}), "", []byte(c.payload))
		if err != nil || !same(docs, []any{c.want}) || mended == 0 && fmt.Sprint(c.want) != c.payload {
			t.Errorf("%s of %q: %#v, %v, mended %d", c.format, c.payload, docs, err, mended)
		}
	}
}

// TestLenientTime: the time of a reader grows with the payload, whatever it holds.
func TestLenientTime(t *testing.T) {
	const n = 1 << 18
	for _, s := range []string{`[nan,`, `{"a":1,5}`, `{"a":1}`, `{"a":11,`, `,`, `x`, `"a"`, "\xff", `{"a":"\x`, `1`, `\u12`, `[1 `, `'`, "[", "[[],", `{"a":nan,"b`, "\x00", "{\x00"} {
		for _, head := range []string{"", "[", `{"a":`, `{"a":"`, `{"a":1,`, "nan", "-", "\ufeff"} {
			p := []byte(head + strings.Repeat(s, n/len(s)-4))
			for _, format := range []string{"json", "auto", "number", "text", "csv", "influx"} {
				d := mustNew(t, format, Options{Lenient: true})
				begun := time.Now()
				all(d, "", p)
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("%s of %q and %d KiB of %q took %v", format, head, n>>10, s, took)
				}
			}
		}
	}
}

// FuzzLenient: JSON is read as without Lenient, in every format; what is none is
// refused, or documents that JSON can write, no larger than the payload allows.
func FuzzLenient(f *testing.F) {
	for _, s := range []string{`{"a":nan,'b':None,c:[1,,2],"d":"\x` + "\xff", `{"a":1}{"b":2`, `{"t":1,5,"u":.5}`, "\xff\xfe{\x00}\x00", "\ufeff[1]\x00", `23,5 °C`, `"1,5"`,
		"a,b\n1,\xff", "m f=nan", `{"a":{"b":[{"c":`} {
		f.Add([]byte(s))
	}
	strict, lenient := map[string]Decoder{}, map[string]Decoder{}
	mended := 0
	for _, format := range []string{"json", "auto", "number", "text", "csv", "influx"} {
		strict[format] = mustNew(f, format, Options{})
		lenient[format] = mustNew(f, format, Options{Lenient: true, Mended: func(string) { mended++ }})
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for format := range strict {
			want, strictErr := all(strict[format], "", payload)
			mended = 0
			got, err := all(lenient[format], "", payload)
			isText := strictErr == nil && len(want) == 1 && (format == "auto" && notText(got) && !notText(want))
			switch {
			case strictErr == nil && !isText && (err != nil || mended > 0 || !same(got, want)):
				t.Fatalf("%s: %#v, %v, mended %d; strict %#v", format, got, err, mended, want)
			case strictErr != nil && err == nil && mended == 0:
				t.Fatalf("%s: %#v, and nobody knows; strict: %v", format, got, strictErr)
			}
			for _, doc := range got {
				if format == "json" && !writable(doc, DefaultMaxDepth) {
					t.Fatalf("%#v", doc)
				}
			}
		}
	})
}

// notText says whether the document is one of JSON: auto takes what is none for text.
func notText(docs []any) bool {
	for _, doc := range docs {
		switch doc.(type) {
		case string, Bytes:
			return false
		}
	}
	return true
}

// writable says whether JSON can write a document.
func writable(doc any, depth int) bool {
	switch v := doc.(type) {
	case object:
		for _, e := range v {
			if !writable(e, depth-1) {
				return false
			}
		}
		return depth > 0
	case []any:
		for _, e := range v {
			if !writable(e, depth-1) {
				return false
			}
		}
		return depth > 0
	}
	p, err := json.Marshal(doc)
	return err == nil && json.Valid(p)
}
