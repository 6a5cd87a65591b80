package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/internal/reporters"
)

// FuzzStatus: whatever answers at http.listen, status says that it is none or
// shows it, as JSON without losing anything.
func FuzzStatus(f *testing.F) {
	f.Add(`{"ready":true,"version":"1","sources":[{"name":"a","connected":true,"received":1}],"log":{"first":1,"last":2,"bytes":4096},"archive":{"cursor":1,"lag":1},"nats":{"cursor":18446744073709551615}}`)
	f.Add(`{"version":"\u001b[2J","sources":[]}`)
	f.Add(`{"version":"1","sources":[null],"archive":null,"log":{"first":-1}}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := reporters.DecodeStatus(json.NewDecoder(strings.NewReader(text)))
		if err != nil {
			return
		}
		for _, format := range outputFormats {
			var b bytes.Buffer
			if err := outputFormat(format).write(&b, (&shown{Status: *s}).report()); err != nil || b.Len() == 0 {
				t.Fatalf("%s: %d bytes, %v", format, b.Len(), err)
			}
			if format == "table" && strings.ContainsAny(b.String(), "\x1b\r\a") {
				t.Fatalf("control characters on the terminal: %q", b.String())
			}
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := reporters.DecodeStatus(json.NewDecoder(bytes.NewReader(again))); err != nil || s.Version == "" {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

// FuzzFindings: a reading process that died in the middle of a word is
// reported with what it had told.
func FuzzFindings(f *testing.F) {
	f.Add(`{"at":7}` + "\n" + `{"archive":{"cursor":3,"gaps":[{"first":1,"last":2}],"damage":["x"]}}` + "\n" + `{"log":{"first":1,"last":9,"records":9,"damage":[]}}`)
	f.Add(`{"at":7}{"lo`)
	f.Fuzz(func(t *testing.T, text string) {
		found := readFindings(json.NewDecoder(strings.NewReader(text)))
		if found.Log == nil {
			return
		}
		v := found.Verdict()
		if v.Intact != (v.Damages() == 0) || (verdictError(v) == nil) != v.Intact {
			t.Fatalf("%+v", v)
		}
		var b bytes.Buffer
		if err := outputFormat("table").write(&b, verdictReport(v)); err != nil {
			t.Fatal(err)
		}
	})
}
