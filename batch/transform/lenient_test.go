package transform

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

// mended is what a route makes of a payload, what it counts, and what it notes.
func mended(t *testing.T, r Route, payload string) string {
	t.Helper()
	a := applier(t, Options{}, r)
	for range 2 { // it is noted once
		a.Apply(record("t", payload))
	}
	s := a.Stats()[0]
	got := fmt.Sprintf("%s\nmended %d, unset %d", apply(t, Options{}, r, "t", payload), s.Mended/2, s.Unset/2)
	for _, n := range a.Notes {
		got += "\n" + n.Text
	}
	return got
}

// What a payload has wrong costs what is wrong, and is counted and noted; strict
// routes refuse the payload.
func TestMendedPayloads(t *testing.T) {
	packed, err := cbor.Marshal(map[string]any{"t": math.NaN(), "h": 40})
	must(t, err)
	inf, err := cbor.Marshal(map[string]any{"t": float32(math.Inf(-1)), "h": 40})
	must(t, err)
	for _, c := range []struct{ format, columns, payload, want, strict string }{
		{"json", "REAL .t|REAL .h", `{"t":nan,"h":40.1}`, "x: 7 received NULL 40.1|mended 1, unset 0|nan at byte 5 reads as null",
			"r: payload is not JSON: unexpected 'a' at byte 6|mended 0, unset 0"},
		{"", "REAL .t|REAL .h", `{"t":-Infinity,"h":40.1}`, "x: 7 received NULL 40.1|mended 1, unset 0|-Infinity at byte 5 reads as null",
			"r: payload is not JSON: unexpected 'I' at byte 6|mended 0, unset 0"},
		{"json", "REAL .t|TEXT .c", "{\"t\":21.5,\"c\":\"\xe4H\"}", "x: 7 received 21.5 \"\ufffdH\"|mended 1, unset 0|invalid UTF-8 at byte 15 reads as U+FFFD",
			"r: payload is not JSON: invalid UTF-8 at byte 15|mended 0, unset 0"},
		{"json", "REAL .t|REAL .h?", `{"t":21.5,"h":4`, "x: 7 received 21.5 NULL|mended 1, unset 0|the JSON ends too early, at byte 15",
			"r: payload is not JSON: it ends too early, at byte 15|mended 0, unset 0"},
		{"json", "REAL .t", `{"t":1}{"t":2}`, "x: 7 received 1.0|x: 7 received 2.0|mended 1, unset 0|a second document begins at byte 7",
			"r: payload is not JSON: unexpected '{' at byte 7|mended 0, unset 0"},
		{"json", "REAL .t", `{"h":21.5,"t`, "r: column c0: there is no .t (the JSON ends too early, at byte 12)|mended 0, unset 0", "r: payload is not JSON: it ends too early, at byte 12|mended 0, unset 0"},
		{"json", "REAL .t|REAL .h", `{"t":"nan","h":"40.1"}`, `x: 7 received NULL 40.1|mended 1, unset 0|column c0: "nan" is no number that a column holds: NULL`,
			`r: column c0: "nan" is no number that a column holds|mended 0, unset 0`},
		{"cbor", "REAL .t|REAL .h", string(packed), "x: 7 received NULL 40.0|mended 1, unset 0|column c0: NaN is no number that a column holds: NULL",
			"r: column c0: NaN is no number that a column holds|mended 0, unset 0"},
		{"cbor", "INTEGER .t|INTEGER .h", string(inf), "x: 7 received NULL 40|mended 1, unset 0|column c0: -Inf is no number that a column holds: NULL",
			"r: column c0: -Inf is no number that a column holds|mended 0, unset 0"},
		{"json", "REAL .t|REAL .h|TEXT .h", `{"t":"21,5","h":"45 %"}`, `x: 7 received 21.5 45.0 "45 %"|mended 1, unset 0|column c0: "21,5" is read as a number`,
			`r: column c0: the text "21,5" is no REAL|mended 0, unset 0`},
		{"text", "REAL .", "1.2 kW", `r: column c0: the text "1.2 kW" is no REAL|mended 0, unset 0`, `r: column c0: the text "1.2 kW" is no REAL|mended 0, unset 0`},
		{"json", "REAL .t", `{"t":"on"}`, `r: column c0: the text "on" is no REAL|mended 0, unset 0`, `r: column c0: the text "on" is no REAL|mended 0, unset 0`},
		{"number", "REAL .", "23.5 °C\r\n", "x: 7 received 23.5|mended 1, unset 0|the unit of \"23.5 °C\" is left out",
			"r: payload \"23.5 °C\" is not a number and not one of the words|mended 0, unset 0"},
		{"number", "REAL .", "23.5 \xb0C", "x: 7 received 23.5|mended 1, unset 0|the unit of \"23.5 \\xb0C\" is left out",
			"r: payload \"23.5 \\xb0C\" is not a number and not one of the words|mended 0, unset 0"},
		{"json", "REAL .t", "{\"t\":\"23.5\xb0C\"}", "x: 7 received 23.5|mended 1, unset 0|invalid UTF-8 at byte 10 reads as U+FFFD",
			"r: payload is not JSON: invalid UTF-8 at byte 10|mended 0, unset 0"},
		{"number", "REAL .", "nan", "x: 7 received NULL|mended 0, unset 0", "x: 7 received NULL|mended 0, unset 0"},
		{"text", "TEXT .", "caf\xe9", "x: 7 received \"caf\ufffd\"|mended 1, unset 0|invalid UTF-8 at byte 3 reads as U+FFFD",
			"r: payload is not text: invalid UTF-8 at byte 3|mended 0, unset 0"},
		{"", "REAL .", "nan", `x: 7 received NULL|mended 1, unset 0|column c0: "nan" is no number that a column holds: NULL`,
			`r: column c0: "nan" is no number that a column holds|mended 0, unset 0`},
	} {
		r := values(strings.Split(c.columns, "|")...)
		r.Decode = c.format
		for strict, want := range map[bool]string{false: c.want, true: c.strict} {
			r.Strict = strict
			got := strings.ReplaceAll(mended(t, r, c.payload), "\n", "|")
			if i := strings.Index(got, "|mended"); strings.HasPrefix(got, "r: payload \"") { // the words
				got = got[:strings.Index(got, " closed")] + got[i:]
			}
			if got != want {
				t.Errorf("%s of %q, strict %v:\ngot  %s\nwant %s", c.format, c.payload, strict, got, want)
			}
		}
	}
}

// CSV has no types: the column's decides. jq gets the text.
func TestCSVText(t *testing.T) {
	r := values("TEXT .id", "TEXT .version", "TEXT .zip", "REAL .id", "REAL .version", "INTEGER .zip", "ANY .version", "REAL .empty", "BLOB .zip")
	r.Decode = "csv"
	const payload = "id,version,zip,empty\n12E4,1.10,007,\n"
	if got, want := apply(t, Options{}, r, "t", payload), `x: 7 received "12E4" "1.10" "007" 120000.0 1.1 7 "1.10" NULL x303037`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r = values("REAL .t", "TEXT .t")
	r.Decode, r.Comma = "csv", ";"
	if got, want := apply(t, Options{}, r, "t", "t;x\n21,5;\n1,000;\n"), `x: 7 received 21.5 "21,5"`+"\n"+`r: rows [1] of 2: column c0: the text "1,000" is no REAL`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r = values("TEXT .v", "TEXT .kind")
	r.Decode, r.Map = "csv", "{v: .version, kind: (.version | type)}"
	if got, want := apply(t, Options{}, r, "t", payload), `x: 7 received "1.10" "string"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// What is one number or word is its text in a TEXT column.
	r = values("TEXT .", "REAL .")
	for _, format := range []string{"", "json"} {
		for payload, want := range map[string]string{"1.10": `"1.10" 1.1`, "12E4\n": `"12E4" 120000.0`, "-0": `"-0" -0.0`} {
			r.Decode = format
			if got := apply(t, Options{}, r, "t", payload); got != "x: 7 received "+want {
				t.Errorf("%s of %q: %s", format, payload, got)
			}
		}
	}
	r.Decode = ""
	for payload, want := range map[string]string{"007": `"007" 7.0`, "ON": `"ON" 1.0`, "+1.0 ": `"+1.0" 1.0`} {
		if got := apply(t, Options{}, r, "t", payload); got != "x: 7 received "+want {
			t.Errorf("auto of %q: %s", payload, got)
		}
	}
}

// A clock that is not set is no time.
func TestUnsetClocks(t *testing.T) {
	for _, c := range []struct {
		time string // JSON
		set  Time
		want string // "": the receipt
	}{
		{`2.3`, Time{}, ""},
		{`0`, Time{}, ""},
		{`"1970-01-01T00:03:25Z"`, Time{}, ""},
		{`315964800`, Time{}, ""}, // GPS
		{`"2000-01-01T00:00:05"`, Time{}, ""},
		{`"0000-00-00T00:00:00"`, Time{}, ""},
		{`"0001-01-01T00:00:00Z"`, Time{}, ""},
		{`"0002-03-01T00:00:00Z"`, Time{}, ""},
		{`"9999-12-31T23:59:59Z"`, Time{}, ""},
		{`4294967295`, Time{}, ""}, // 2106
		{`1e300`, Time{}, ""},
		{`"2027-01-06T00:00:00Z"`, Time{}, ""},
		{`""`, Time{}, ""},
		{`"2027-01-05T00:00:00Z"`, Time{}, "2027-01-05T00:00:00Z"},
		{`"2001-01-01T00:00:00Z"`, Time{}, "2001-01-01T00:00:00Z"},
		{`"2000-12-31T23:59:59Z"`, Time{}, ""},
		{`2.3`, Time{NotBefore: "any"}, "1970-01-01T00:00:02.3Z"},
		{`4294967295`, Time{NotAfter: "any"}, "2106-02-07T06:28:15Z"},
		{`"2026-01-06T20:00:01Z"`, Time{NotAfter: "24h"}, ""},
		{`"2026-01-06T20:00:00Z"`, Time{NotAfter: "1d"}, "2026-01-06T20:00:00Z"},
		{`"2024-12-31T23:59:59Z"`, Time{NotBefore: "2025-01-01"}, ""},
		{`"2025-01-01T00:00:00Z"`, Time{NotBefore: "2025-01-01T01:00:00+01:00"}, "2025-01-01T00:00:00Z"},
		{`2.3`, Time{Fallback: FallbackNone}, "column time: time 1970-01-01T00:00:02Z is before time.not_before, 2001-01-01T00:00:00Z"},
		{`4294967295`, Time{Fallback: FallbackNone}, "column time: time 2106-02-07T06:28:15Z is more than time.not_after, 8760h0m0s, after the receipt"},
		{`"yesterday"`, Time{}, `column time: "yesterday" is no time of the format auto`},
	} {
		r := values("INTEGER .a")
		r.Time = c.set
		r.Time.Path = ".t"
		m := r
		m.Map, m.Time.Path = "{a, time: .t}", "" // the time of what a map makes
		for _, r := range []Route{r, withJQ(r), m} {
			a := applier(t, Options{}, r)
			a.Apply(record("t", `{"a":1,"t":`+c.time+`}`))
			got, want, unset := "", c.want, uint64(0)
			if want == "" {
				want, unset = received.Format(time.RFC3339Nano), 1
			}
			if c.time == `""` {
				unset = 0 // there is none
			}
			if len(a.Failures) > 0 {
				got = strings.TrimPrefix(a.Failures[0].Err.Error(), "map: ")
			} else {
				got = time.Unix(0, a.Rows[0].Row(0)[1].Int()).UTC().Format(time.RFC3339Nano)
			}
			if s := a.Stats()[0]; got != want || s.Unset != unset || uint64(len(a.Notes)) != unset {
				t.Errorf("%s with %+v: %s, unset %d, %+v\nwant %s", c.time, r.Time, got, s.Unset, a.Notes, want)
			}
		}
	}
	// Nor does ours, if it is not set, say anything about the device's.
	r := values("INTEGER .a")
	r.Time.Path = ".t"
	a := applier(t, Options{}, r)
	rec := record("t", `{"a":1,"t":"2026-01-05T20:00:00Z"}`)
	rec.Time = 1000
	if a.Apply(rec); a.Rows[0].Row(0)[1].Int() != received.UnixNano() {
		t.Errorf("received in 1970: %s", show(a))
	}
	for _, bad := range []Time{{NotBefore: "soon"}, {NotBefore: "1600-01-01"}, {NotAfter: "-1h"}, {NotAfter: "x d"}, {NotAfter: "70000d"}} {
		r := values("INTEGER .a")
		r.Time = bad
		if _, err := Compile([]Route{r}); err == nil || !strings.Contains(err.Error(), "time.not_") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// Which payloads are decompressed.
func TestDecompress(t *testing.T) {
	packed, bomb := gzipped(t, `{"t":4}`), gzipped(t, `{"t":4,"x":"`+strings.Repeat(" ", 8<<20)+`"}`)
	encoder, err := zstd.NewWriter(nil)
	must(t, err)
	frame := string(encoder.EncodeAll([]byte(`{"t":4}`), nil))
	for _, c := range []struct{ format, decompress, column, payload, want string }{
		{"json", "", "REAL .t", packed, "x: 7 received 4.0"},
		{"json", "", "REAL .t", frame, "x: 7 received 4.0"},
		{"", "", "REAL .t", packed, "x: 7 received 4.0"},
		{"", "auto", "REAL .t", packed, "x: 7 received 4.0"},
		{"json", "gzip", "REAL .t", packed, "x: 7 received 4.0"},
		{"json", "gzip", "REAL .t", `{"t":4}`, "r: payload is not gzip: it does not begin as gzip does"},
		{"json", "", "REAL .t", packed[:len(packed)-9], "r: payload is not gzip: it ends too early, at byte 22"},
		{"json", "", "REAL .t", bomb, fmt.Sprintf("r: payload of %d bytes becomes more than %d when it is decompressed, which is refused: the limits are 16777216 bytes, and 200 times the payload beyond 1048576", len(bomb), max(200*len(bomb), 1<<20))},
		{"json", "none", "REAL .t", packed, "r: payload is not JSON: unexpected '\\x1f' at byte 0"},
		{"csv", "", "REAL .t", gzipped(t, "t\n4\n"), "x: 7 received 4.0"},
		{"number", "", "REAL .", gzipped(t, "4"), "x: 7 received 4.0"},
		{"text", "", "TEXT .", "x^2 is text", `x: 7 received "x^2 is text"`},
		{"", "", "BLOB .", packed, fmt.Sprintf("x: 7 received x%x", packed)},
		{"raw", "", "BLOB .", packed, fmt.Sprintf("x: 7 received x%x", packed)},
		{"raw", "auto", "BLOB .", packed, fmt.Sprintf("x: 7 received x%x", `{"t":4}`)},
	} {
		r := values(c.column)
		r.Decode, r.Decompress = c.format, c.decompress
		if got := apply(t, Options{}, r, "t", c.payload); got != c.want {
			t.Errorf("%s, decompress %q, %.20q: %s\nwant %s", c.format, c.decompress, c.payload, got, c.want)
		}
	}
	r := values("REAL .t")
	r.Decompress = "rar"
	if _, err := Compile([]Route{r}); err == nil || !strings.Contains(err.Error(), `decompress: must be one of auto, gzip, zlib, deflate, zstd, none, not "rar"`) {
		t.Error(err)
	}
	// The rows of one transaction do not share the memory of the payloads.
	r = values("TEXT .s")
	a := applier(t, Options{}, r)
	for i := range 3 {
		a.Apply(record("t", gzipped(t, fmt.Sprintf(`{"s":"text %d"}`, i))))
	}
	if got := strings.TrimSpace(show(a)); got != "x: 7 received \"text 0\"\nx: 7 received \"text 1\"\nx: 7 received \"text 2\"" {
		t.Error(got)
	}
}

func gzipped(t *testing.T, s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(s))
	must(t, err)
	must(t, w.Close())
	return b.String()
}

// What readings cannot take is counted and noted once, and costs the rest of the message nothing.
func TestReadingsTakeTheRest(t *testing.T) {
	for _, c := range []struct {
		payload, want   string
		mended, skipped uint64
		note            string
	}{
		{`{"t":nan,"h":40.1}`, ".h 40.1", 1, 0, "nan at byte 5 reads as null"},
		{`{"a":[1,-Infinity,{"b":NaN,"c":2}]}`, ".a[0] 1,.a[2].c 2", 1, 0, "-Infinity at byte 8 reads as null"},
		{"{\"t\":21.5,\"c\":\"\xe4H\"}", ".t 21.5", 1, 0, "invalid UTF-8 at byte 15 reads as U+FFFD"},
		{"\ufeff{\"t\":21.5}\x00", ".t 21.5", 1, 0, "a byte order mark or NUL is before the JSON"},
		{`{"t":21.5,"h":4`, ".t 21.5", 1, 0, "the JSON ends too early, at byte 15"},
		{`{"t":"19.6","code":204}`, ".code 204", 0, 1, `the text "19.6" at .t is a number: archive.readings_text takes these`},
		{`{"t":"burning","on":"off","d":"2026-01-05","v":"1.2.3","code":204}`, ".code 204", 0, 0, ""},
		{`{"t":"21,5","u":"21.5 °C","v":"-inf","w":"NaN","code":204}`, ".code 204", 0, 4, "the text "},
		{"21,5", "", 0, 1, `the text "21,5" at . is no number as JSON writes it: a route with a column REAL reads it`},
		{"nan", "", 0, 1, `the text "nan" at . is no number as JSON writes it`},
		{`{"a":"2026-01-05T19:52:56Z","b":"192.168.1.7","c":"1.2.3","d":"12:30","e":"5 kW","f":"none","g":"-","h":"1,234","i":"0x1F"}`, "", 0, 0, ""},
		{`{"t":1e400,"code":204}`, ".code 204", 0, 1, "the number 1e400 at .t is beyond REAL"},
		{`[INFO] booted`, "", 0, 1, "payload is not JSON: unexpected"},
		{`booted`, "", 0, 0, ""},
		{gzipped(t, `{"t":4}`), ".t 4", 0, 0, ""},
		{gzipped(t, `{"t":4}`)[:12], "", 0, 1, "payload is not gzip: it ends too early, at byte 12"},
	} {
		a := applier(t, Options{Readings: true})
		for range 2 {
			a.Apply(record("t", c.payload))
		}
		var list []string
		for _, r := range a.Readings[len(a.Readings)/2:] {
			list = append(list, fmt.Sprintf("%s %v", r.Path, r.Value))
		}
		slices.Sort(list)
		if got := strings.Join(list, ","); got != c.want || len(a.Failures) > 0 {
			t.Errorf("%q: %s, %v; want %s", c.payload, got, a.Failures, c.want)
		}
		notes := ""
		if len(a.Notes) == 1 && a.Notes[0].Route == ReadingsRoute {
			notes = a.Notes[0].Text
		}
		if s := a.Stats()[0]; s.Route != ReadingsRoute || s.Mended != 2*c.mended || s.Skipped != 2*c.skipped || !strings.HasPrefix(notes, c.note) || (c.note == "") != (len(a.Notes) == 0) {
			t.Errorf("%q: %+v, %+v; want %+v", c.payload, s, a.Notes, c)
		}
	}
	a := applier(t, Options{Readings: true, ReadingsText: true})
	a.Apply(record("t", `{"t":"19.6","code":"204","id":"007","s":"12 V"}`))
	if s := a.Stats()[0]; len(a.Readings) != 2 || s.Skipped != 1 {
		t.Errorf("%d readings, %+v", len(a.Readings), s)
	}
}
