package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/internal/servers"
)

// What sub prints as %j and %J is imported as the bytes that were published.
func TestImportOfWhatSubPrints(t *testing.T) {
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	host, port, _ := net.SplitHostPort(m.Addr)
	s := newSite(t, "", "")
	path := filepath.Join(s.dir, "payload")
	want := map[string]string{}
	for i, c := range []struct{ letter, payload string }{
		{"j", "\x00\xff"}, {"j", "[0,255]"}, {"j", "\xff"}, {"j", `"hi"`}, {"j", "é\n\x00"}, {"j", `{"a": 1}`}, {"j", strings.Repeat("\x80", 3000)},
		{"J", "[0,255]"}, {"J", `{"a":[1,2.5]}`}, {"J", `"hi"`}, {"J", "7"},
	} {
		topic := fmt.Sprintf("%s/%d", c.letter, i)
		want[topic] = c.payload
		writeFile(t, path, c.payload)
		if r := call(t, "pub", "-h", host, "-p", port, "-t", topic, "-r", "-f", path); r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	var files []string
	for letter, count := range map[string]string{"j": "7", "J": "4"} {
		r := call(t, "sub", "-h", host, "-p", port, "-t", letter+"/#", "-F", "%"+letter, "-C", count, "-W", "20")
		if r.code != 0 {
			t.Fatalf("%+v", r)
		}
		files = append(files, filepath.Join(s.dir, letter+".json"))
		writeFile(t, files[len(files)-1], r.out)
	}
	if r := call(t, append([]string{"import", "-c", s.config}, files...)...); r.code != 0 || !strings.Contains(r.err, "imported 11 lines, rejected 0") {
		t.Fatalf("%+v", r)
	}
	for _, row := range s.ask(t, "SELECT topic || ' ' || hex(payload) FROM msg") {
		topic, have, _ := strings.Cut(row, " ")
		if have != fmt.Sprintf("%X", want[topic]) {
			t.Errorf("%s: %s, published %q", topic, have, want[topic])
		}
		delete(want, topic)
	}
	if len(want) > 0 {
		t.Errorf("missing: %q", want)
	}
}
