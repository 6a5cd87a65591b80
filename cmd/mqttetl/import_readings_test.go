package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/sink/archive"
)

// Readings of what devices send, with text that is a number and without.
func TestReadingsOfDevices(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"false": "ems .ServiceCodeNumber 204;esp .hum 40.1;gw .t 21.5",
		"true":  "ems .ServiceCodeNumber 204;ems .outdoorTemp 19.6;esp .hum 40.1;gw .t 21.5",
	} {
		s := newSite(t, "", "")
		s.write(t, fmt.Sprintf("sources: [{name: plant, url: mqtt://127.0.0.1:1, subscribe: [\"#\"]}]\nlog: {dir: %q, max_size: 64MiB}\narchive: {path: %q, readings: true, readings_text: %s}\n",
			s.logDir(), s.archive(), text))
		path := filepath.Join(s.dir, "in.ndjson")
		writeFile(t, path, `{"tst":"2026-01-05T20:00:00Z","topic":"esp","qos":0,"retain":0,"payload":"{\"temp\":nan,\"hum\":40.1}"}
{"tst":"2026-01-05T20:00:00Z","topic":"ems","qos":0,"retain":0,"payload":"{\"outdoorTemp\":\"19.6\",\"burnGas\":\"off\",\"ServiceCodeNumber\":204}"}
{"tst":"2026-01-05T20:00:00Z","topic":"gw","qos":0,"retain":0,"payload":"\ufeff{\"t\":21.5,\"h\":4"}
`)
		if r := call(t, "import", "-c", s.config, path); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		var got []string
		err := archive.Query(t.Context(), s.archive(), `SELECT s.topic, s.path, r.value FROM readings r JOIN series s ON s.id = r.series_id ORDER BY 1, 2`,
			func(_ []string, v []any) error {
				got = append(got, fmt.Sprintf("%s %s %v", v...))
				return nil
			})
		if err != nil || strings.Join(got, ";") != want {
			t.Errorf("readings_text: %s: %v, %v\nwant %s", text, got, err, want)
		}
	}
}
