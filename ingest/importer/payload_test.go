package importer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/mosquitto/format"
)

// What payloadlen says decides between bytes, text and JSON.
func TestPayloadByItsLength(t *testing.T) {
	for _, c := range []struct{ payload, length, want string }{ // want "reject…": why
		{"[0,255]", "2", "\x00\xff"},
		{"[ 0 , 255 ]", "2", "\x00\xff"},
		{"[]", "0", ""},
		{"[0,255]", "7", "[0,255]"},
		{"[0,255]", "9", "[0,255]"}, // %J of [0, 255 ]
		{"[0,255]", "", "[0,255]"},
		{"[0,256]", "2", "reject"},
		{"[0,-1]", "2", "reject"},
		{"[0,255,1]", "2", "reject"},
		{"[0]", "2", "reject"},
		{"[[1],[2]]", "2", "reject"},
		{`{"a":1}`, "3", "reject payload of JSON that has 6 bytes at least, payloadlen says 3"},
		{`{"n":1000}`, "9", `{"n":1000}`}, // %J of {"n":1e3}
		{`{"a":1}`, "12", `{"a":1}`},
		{"null", "3", "reject"},
		{"null", "0", ""},
		{"21.5", "5", "21.5"},
		{`"hi"`, "3", "reject"},
	} {
		length := ""
		if c.length != "" {
			length = `"payloadlen":` + c.length + `,`
		}
		var why error
		recs, stats, err := dry(Config{Format: "ndjson", Bad: func(_ int64, err error) { why = err }}, []byte(`{"topic":"a",`+length+`"payload":`+c.payload+`}`))
		if reason, ok := strings.CutPrefix(c.want, "reject"); ok {
			if err != nil || len(recs) != 0 || stats.Rejected != 1 || why == nil || !strings.Contains(why.Error(), strings.TrimSpace(reason)) {
				t.Errorf("%s of %s: %d records, %v, %v", c.payload, c.length, len(recs), why, err)
			}
			continue
		}
		if err != nil || len(recs) != 1 || string(recs[0].Payload) != c.want {
			t.Errorf("%s of %s: %+v, %v, %v, want %q", c.payload, c.length, recs, why, err, c.want)
		}
	}
}

// Every payload that sub -F %j prints comes back, and every JSON that it prints
// as %J, in whatever form, is read as the same value.
func TestReadsWhatSubPrints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "payload")
		if rapid.Bool().Draw(t, "array") {
			payload = fmt.Append(nil, strings.ReplaceAll(fmt.Sprint(payload), " ", ","))
		}
		check := func(payload []byte, nested bool, same func(got []byte) bool) {
			line, err := format.AppendJSON(nil, &format.Message{Time: time.Unix(1_700_000_000, 0), Message: mqttetl.Message{Topic: []byte("t"), Payload: payload}}, nested)
			if err != nil {
				t.Fatal(err)
			}
			recs, _, err := dry(Config{}, line)
			if err != nil || len(recs) != 1 || !same(recs[0].Payload) {
				t.Fatalf("%q became %+v, %v by\n%s", payload, recs, err, line)
			}
		}
		check(payload, false, func(got []byte) bool { return string(got) == string(payload) })
		number := func(t *rapid.T) json.Number {
			return json.Number(rapid.StringMatching(`-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?(e[+-]?[0-9]{1,2})?`).Draw(t, "number"))
		}
		value := map[string]any{rapid.String().Draw(t, "name"): []any{rapid.Custom(number).Draw(t, "n"), nil, true, rapid.String().Draw(t, "s")}}
		text, err := json.Marshal(value)
		if err != nil || !utf8.Valid(text) {
			t.Fatal(err)
		}
		check(text, true, func(got []byte) bool { return json.Valid(got) })
	})
}
