package importer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
)

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"tst":"2026-01-02T03:04:05.678901+0100","topic":"a/b","qos":1,"payload":{"a":[1,"x\u00e9"]},"properties":{"content-type":"x"}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := (&reader{}).parseJSON(line)
		if err != nil || !json.Valid(line) {
			return
		}
		if err := (&reader{}).check(&e, true); err != nil {
			t.Fatal(err)
		}
	})
}

// Strings are read as encoding/json reads them.
func FuzzText(f *testing.F) {
	f.Add([]byte(`"a\u00e9\ud83c\udf21\n"`))
	f.Fuzz(func(t *testing.T, p []byte) {
		s := scanner{p: p}
		got, err := s.text()
		if err != nil || s.end() != nil || checkText(p) != nil {
			return
		}
		var want string
		if err := json.Unmarshal(p, &want); err != nil || want != string(got) {
			t.Fatalf("%q: %q, encoding/json has %q, %v", p, got, want, err)
		}
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("a,\"b\"\"c\",\"d\ne\""))
	f.Add([]byte("a,\"b\nc,\"d\ne\"\nf,g"))
	f.Fuzz(func(t *testing.T, p []byte) {
		splitCSV(nil, p, ',')
		text := append([]byte("topic,payload\n"), p...)
		_, s, err := dry(Config{}, text)
		if err == nil && s.Bytes != int64(len(text)) {
			t.Errorf("%d bytes of %d read", s.Bytes, len(text))
		}
	})
}

// Whatever stands in it, a text is read to its end, and each line of it counts.
func FuzzTextFormats(f *testing.F) {
	f.Add("%I %t %p", []byte("2026-01-05T19:52:56+0000 a {\n1\n}\n2026-01-05T19:52:57+0000 a 1\n"))
	f.Add("@Y-@m-@d @H:@M:@S.@N %-9t %4p", []byte("2026-01-05 19:52:56.1 a         12\n"))
	f.Add("%t %l %p", []byte("a 3 b\nc\nd 1 e"))
	f.Add(`%U %t\n%.2x`, []byte("1767642776 a\n00 ff\n\n"))
	f.Add("%t %p", []byte("a {\nb\nc d\n"))
	f.Add("@c@z %q%r%t|%J", []byte("Mon Jan  5 19:52:56 2026+0100 10a|{}"))
	f.Fuzz(func(t *testing.T, form string, p []byte) {
		if CheckFormat(form, "", "") != nil || form == "" || form == "csv" || form == "ndjson" || strings.HasPrefix(form, "%j") || strings.HasPrefix(form, "%J") {
			return
		}
		_, s, err := dry(Config{Format: form}, p)
		if err == nil && s.Bytes != int64(len(p)) {
			t.Errorf("%q: %d bytes of %d read", form, s.Bytes, len(p))
		}
	})
}

// What is no NDJSON but JSON has the objects that encoding/json finds.
func FuzzUnwrap(f *testing.F) {
	f.Add([]byte(`[{"topic":"a","payload":{"b":[1, "]\"}"]}},` + "\n" + `{"topic":"a","payload":null,"payloadlen":0}]`))
	f.Add([]byte("{\n\"topic\":\"a\",\"payload\":\"1\"}\n{\n\"topic\":\"b\"}"))
	f.Fuzz(func(t *testing.T, p []byte) {
		out, err := io.ReadAll(&unwrapper{r: bufio.NewReader(bytes.NewReader(p))})
		if err != nil {
			t.Fatal(err)
		}
		var want []map[string]json.RawMessage
		if json.Unmarshal(p, &want) != nil || bytes.Contains(p, []byte("null")) {
			return
		}
		lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		if len(want) == 0 {
			return
		}
		if len(lines) != len(want) {
			t.Fatalf("%d lines of %d objects: %q", len(lines), len(want), out)
		}
		for i, line := range lines {
			var got map[string]json.RawMessage
			if err := json.Unmarshal([]byte(line), &got); err != nil || len(got) != len(want[i]) {
				t.Fatalf("%q: %v", line, err)
			}
		}
	})
}

// A time is refused, or is one.
func FuzzTimes(f *testing.F) {
	for _, s := range []string{"2026-01-05T19:52:56.123Z", "1767642776,25", "1.7e18", "20260105T195256", "2026/01/05 19:52 +0100"} {
		f.Add("%d.%m.%Y %I:%M:%S.%f %p %z", s)
	}
	f.Add("%c%Z%j%s", "Mon Jan  5 19:52:56 2026UTC00512")
	f.Fuzz(func(t *testing.T, form, s string) {
		if want, err := time.Parse(time.RFC3339Nano, s); err == nil && inYears(want.Year()) && want.Year() > firstYear && want.Year() < lastYear {
			if ns, wall, err := parseTime(s); err != nil || wall || ns != want.UnixNano() {
				t.Errorf("%q: %d, %v, want %d", s, ns, err, want.UnixNano())
			}
		}
		if read, err := parseTimeFormat(form, nil); err == nil && read != nil {
			read(s)
		}
	})
}
