package importer

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/mosquitto/format"
)

// A payload with line feeds is one message, or none.
func TestPayloadOverSeveralLines(t *testing.T) {
	for _, c := range []struct{ format, text, want string }{
		{"%I %t %p", "2026-01-05T19:52:56+0000 y {\n \"t\": 21.5\n}\n2026-01-05T19:52:57+0000 y 5\n", "56 y {\n \"t\": 21.5\n} 0; 57 y 5 0"},
		{"%I %t %p", "2026-01-05T19:52:56+0000 y a\n\n12 b\n1767642777 c\n", "56 y a\n\n12 b 0/ 4: \" \" is missing after byte 11"},
		{"%I %t %p", "2026-01-05T19:52:56+0000 y a\n\n", "56 y a\n 0"},
		{"%I %t %p", "2026-01-05T19:52:56+0000 y a\r\nb\r\n2026-01-05T19:52:57+0000 y c\r\n", "56 y a\r\nb 0; 57 y c 0"},
		{"%I %t %p", " t: 1\n}\n2026-01-05T19:52:56+0000 y a\n", `56 y a 0/ 1: "" is no time that is known; --time-format says how it is written/ 2: " " is missing after byte 0`},
		{"%I %t %p", "2026-01-05T19:52:56+0000 y/# a\nb\n2026-01-05T19:52:57+0000 y c\n", `57 y c 0/ 2: topic "y/#" holds a wildcard or NUL`},
		{"@Y-@m-@d @H:@M:@S %t %p", "2026-01-05 19:52:56 y {\n2026\n}\n2026-01-05 19:52:57 y 1\n", "56 y {\n2026\n} 0; 57 y 1 0"},
		{"topic=%t payload=%p", "topic=y payload=a\nb topic=\ntopic=z payload=c\n", "now y a\nb topic= 0; now z c 0"},
		{"%U %t \"%p\"", "1767642776 y \"a\n\"b\"\"\n1767642777 y \"c\"\n", "56 y a\n\"b\" 0; 57 y c 0"},
		{`%I %t\n%p`, "2026-01-05T19:52:56+0000 y\na\nb\n2026-01-05T19:52:57+0000 y\nc\n", "56 y a\nb 0; 57 y c 0"},
		{`%t\n%p`, "y\na b\nz\nc d\n", "now y a b 0; now z c d 0"},
		{"%t %l %p", "y 9 one\ntwo\n3\nz 1 x\n", "now y one\ntwo\n3 0; now z x 0"},
		{"%t %l %p", "y 4 a\r\nb\r\nz 1 x\r\nw 0 \r\n", "now y a\r\nb 0; now z x 0; now w  0"},
		{"%t %l %p", "y 8 one\nz 1 x\n", "now z x 0/ 1: a payload of 3 bytes, %l says 8"},
		{"%t %p", "y {\n \"t\": 21.5\n}\ny 5\nbad\n", "now y 5 0/ 3: " + errTorn.Error() + "/ 5: \" \" is missing after byte 0"},
		{"%t %p", "y {\"t\": 1}\nbad\n", "now y {\"t\": 1} 0/ 2: \" \" is missing after byte 0"},
	} {
		records, _, why, err := said(Config{Format: c.format}, c.text)
		got := strings.Join(records, "; ")
		for _, w := range why {
			got += "/ " + w
		}
		if err != nil || got != c.want {
			t.Errorf("%s of %q: %q, %v, want %q", c.format, c.text, got, err, c.want)
		}
	}
}

// What sub -F prints with a time in front comes back whatever the payload, but for
// lines of it that begin with a time.
func TestReadsWhatFormatsPrint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		form := rapid.SampledFrom([]string{"%I %t %p", `%U\t%t\t%p`, "@Y-@m-@d @H:@M:@S.@N %30t %p", "[@F @T @z] %q%r %-9t|%p", "%I %l %t %p", "%j", "%U %t %x", "%t %l %p", "%U %q %t %.6X"}).Draw(t, "format")
		f, err := format.Parse(form)
		if err != nil {
			t.Fatal(err)
		}
		var text []byte
		var want []string
		for i := range rapid.IntRange(1, 5).Draw(t, "messages") {
			// What looks like bytes as Python prints them must be said what it is (--columns payload=NAME:python).
			payload := rapid.StringMatching(`[a-z{} "\n]{0,12}`).Filter(func(s string) bool { return !strings.Contains(s, `b"`) }).Draw(t, "payload")
			m := format.Message{Message: mqttetl.Message{Topic: []byte("a/b"), Payload: []byte(payload)}, Time: time.Unix(1767642776+int64(i), 0).UTC()}
			if text, err = (format.Style{Format: f}).Append(text, &m); err != nil {
				t.Fatal(err)
			}
			want = append(want, payload)
		}
		recs, s, err := dry(Config{Format: form}, text)
		var got []string
		for _, r := range recs {
			got = append(got, string(r.Payload))
		}
		if err != nil || s.Rejected > 0 || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("%s: %q, %+v, %v, want %q of\n%s", form, got, s, err, want, text)
		}
	})
}

// What sub -F prints of the properties of MQTT 5 comes back.
func TestReadsPropertiesByLetter(t *testing.T) {
	all := mqttetl.Properties{}
	for _, v := range []mqttetl.Property{
		{ID: mqttetl.TopicAlias, Number: 7}, {ID: mqttetl.ContentType, Value: []byte("text/plain; charset=utf-8")},
		{ID: mqttetl.CorrelationData, Value: []byte("\x01 x")}, {ID: mqttetl.MessageExpiry, Number: 3600}, {ID: mqttetl.PayloadFormat, Number: 0},
		{ID: mqttetl.UserProperty, Name: []byte("unit"), Value: []byte("m/s at noon")}, {ID: mqttetl.UserProperty, Name: []byte("at"), Value: []byte("")},
		{ID: mqttetl.ResponseTopic, Value: []byte("answers/1")}, {ID: mqttetl.SubscriptionIdentifier, Number: 268435455},
	} {
		all = v.Append(all)
	}
	const form = `%t|%6A|%30C|%D|%E|%F|%P|%R|%S|%p`
	f, err := format.Parse(form)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, p := range []mqttetl.Properties{all, nil} {
		m := format.Message{Message: mqttetl.Message{Topic: []byte("a"), Properties: p, Payload: []byte("x")}}
		if text, err = (format.Style{Format: f}).Append(text, &m); err != nil {
			t.Fatal(err)
		}
	}
	recs, s, err := dry(Config{Format: form}, text)
	if err != nil || s.Rejected > 0 || len(recs) != 2 || string(recs[0].Properties) != string(all) || len(recs[1].Properties) > 0 {
		t.Errorf("%+v, %+v, %v of\n%s", recs, s, err, text)
	}
	for text, want := range map[string]string{"a|65536||": "%A", "a||4294967296|": "%E", "a|||unit": "%P", "a|x||": "%A"} {
		if _, _, why, err := said(Config{Format: "%t|%A|%E|%P|%p"}, text+"|x\n"); err != nil || len(why) != 1 || !strings.Contains(why[0], want) {
			t.Errorf("%q: %q, %v, want one that names %s", text, why, err, want)
		}
	}
}

// Long payloads and many lines cross the reader's buffer anywhere.
func TestLinesAcrossTheBuffer(t *testing.T) {
	var text strings.Builder
	var want []string
	for i := range 20_000 {
		payload := fmt.Sprintf("%d%s", i, strings.Repeat("\n  x", i%7)+strings.Repeat("y", i%5000*(i%97/96)))
		fmt.Fprintf(&text, "%d t %s\n", 1767642776+i, payload)
		want = append(want, payload)
	}
	recs, s, err := dry(Config{Format: "%U %t %p"}, []byte(text.String()))
	if err != nil || s.Rejected > 0 || len(recs) != len(want) {
		t.Fatalf("%d records, %+v, %v", len(recs), s, err)
	}
	for i, r := range recs {
		if string(r.Payload) != want[i] {
			t.Fatalf("record %d: %.60q, want %.60q", i, r.Payload, want[i])
		}
	}
}

// A message that has grown since it was read at the end of the file is refused.
func TestResumeBehindAPayloadThatMayGoOn(t *testing.T) {
	for i, c := range []struct {
		text, more string
		imported   int64 // -1: refused
	}{
		{"1767642776 t {\n", " 1\n}\n1767642777 t 2\n", -1},
		{"1767642776 t {\n", "1767642777 t 2\n", 1},
		{"1767642776 t {", "\n1767642777 t 2\n", 1},
		{"1767642776 t {", "\n}\n", -1},
		{"1767642776 t {", "}\n", -1},
		{"1767642776 t {", "", 0},
		{"1767642776 t {\n", "", 0},
	} {
		l, stop := running(t, t.TempDir())
		cfg := Config{Name: "f", Format: "%U %t %p", Rejected: filepath.Join(t.TempDir(), "r"), Resume: true}
		if s, err := imports(t, l, cfg, c.text); err != nil || s.Imported != 1 {
			t.Errorf("%d: %+v, %v", i, s, err)
		}
		s, err := imports(t, l, cfg, c.text+c.more)
		if c.imported < 0 && !errors.Is(err, ErrChanged) || c.imported >= 0 && (err != nil || s.Imported != c.imported || s.Rejected > 0) {
			t.Errorf("%d: %+v, %v, want %d", i, s, err, c.imported)
		}
		stop()
	}
}

// Ended after each batch, again and again, it has every message once, also of an
// array and of payloads over several lines, and at an hour that came twice.
func TestEveryFormResumedAfterEveryBatch(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat("x", 20_000)
	first := time.Date(2026, 10, 25, 1, 30, 0, 0, berlin).Unix()
	for form, write := range map[string]func(at time.Time, i int) string{
		"": func(at time.Time, i int) string {
			return fmt.Sprintf(" {\n\"time\": \"%s\", \"topic\": \"t\",\n\"payload\": \"%d\", \"source\": \"s%d\"},\n", at.Format("2006-01-02T15:04:05"), i, i/3%2)
		},
		"@F @T %t %p": func(at time.Time, i int) string {
			return fmt.Sprintf("%s t %d\n%s\n", at.Format(time.DateTime), i, pad)
		},
	} {
		text := ""
		for i := range 300 {
			text += write(time.Unix(first+int64(i*30), 0).In(berlin), i)
		}
		if form == "" {
			text = "[" + strings.TrimSuffix(text, ",\n") + "\n]\n"
		}
		var want []mqttetl.Record
		if want, _, err = dry(Config{Format: form, Zone: berlin}, []byte(text)); err != nil || len(want) != 300 {
			t.Fatalf("%d records, %v", len(want), err)
		}
		for i, r := range want {
			if r.Time != (first+int64(i*30))*1e9 {
				t.Fatalf("record %d is at %v", i, r.When())
			}
		}
		dir := t.TempDir()
		for round := 0; ; round++ {
			l, stop := running(t, dir)
			_, err := imports(t, &stopping{l, 3}, Config{Name: "f", Format: form, Zone: berlin, Rejected: filepath.Join(dir, "rejected"), Resume: true}, text)
			stop()
			if err == nil && round >= 3 {
				break
			}
			if err == nil {
				t.Fatalf("%q: finished in round %d", form, round)
			}
			if !errors.Is(err, errKilled) || round > 400 {
				t.Fatal(err)
			}
		}
		got := times(t, dir)
		if len(got) != 300 {
			t.Fatalf("%q: %d records", form, len(got))
		}
		for i, r := range want {
			if got[i] != r.Time {
				t.Errorf("%q: record %d is at %d, want %d", form, i, got[i], r.Time)
			}
		}
	}
}
