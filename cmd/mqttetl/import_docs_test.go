package main

import (
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The lines of docs/import.md are imported whole by the commands below them.
func TestImportDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/import.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "", "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(s.dir, "bin")
	if err := os.Mkdir(bin, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "mqttetl")); err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```(input|sh)(?: (\\S+))?\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if block[1] == "input" {
			writeFile(t, filepath.Join(s.dir, block[2]), block[3])
			continue
		}
		for line := range strings.Lines(block[3]) {
			commands++
			line = strings.Replace(line, "mqttetl import ", "mqttetl import -c '"+s.config+"' ", 1)
			cmd := osexec.Command("sh", "-c", "PATH="+bin+":$PATH; TZ=UTC; export TZ; "+line)
			cmd.Dir = s.dir
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "rejected 0") {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		}
	}
	if commands < 16 {
		t.Errorf("only %d commands were found", commands)
	}
	want := strings.Split(`2026-01-05T19:52:56.000000000Z r/my topic 21.5 0 0
2026-01-05T19:52:57.000000000Z r/my topic {~ "t": 21.5~} 0 0
2026-01-05T19:52:56.422285817Z r/a 21.5 0 0
2026-01-05T19:52:56.253411000Z r/a 21.5 0 0
now r/a one~two~3 0 0
now r/b x 0 0
2026-01-05T19:52:56.000000000Z r/a 21.5 0 0
2026-01-05T19:52:56.250000000Z yard/gate ON 0 0
2026-01-05T19:52:56.123000000Z yard/temp 21.5 1 0
2026-01-05T19:52:56.123000000Z yard/temp 21.5 0 0
2026-01-05T19:52:56.253000000Z yard/temp {"t":21.50} 0 0
2026-01-05T19:52:56.253411000Z yard/temp 21.5 0 0
2026-01-05T19:52:57.500000000Z yard/gate {"state":"ON","by":"a, b"} 1 1
2026-01-05T18:52:56.000000000Z yard/temp 21,5 0 0
2026-01-05T19:52:56.253000000Z yard/temp 21.5 0 0
2026-01-05T19:52:56.000000000Z yard/temp 21.5 0 0
2026-01-05T19:52:56.123000000Z sensor.yard 21.5 0 0
now yard/temp {"t": 21.5, "u": "C"} 0 0
2026-01-05T19:52:56.000000000Z owntracks/jane/phone {"_type":"location","lat":48.1,"lon":11.5} 0 0
2026-01-05T19:53:56.000000000Z owntracks/jane/phone/event {"_type":"transition","event":"leave"} 0 0
now yard/temp 21.5 0 0`, "\n")
	got := s.ask(t, "SELECT time || ' ' || topic || ' ' || replace(payload, char(10), '~') || ' ' || qos || ' ' || retain FROM msg ORDER BY seq")
	for i := range max(len(got), len(want)) {
		have, wanted := "nothing", "nothing"
		if i < len(got) {
			have = got[i]
		}
		if i < len(want) {
			wanted = want[i]
		}
		if rest, now := strings.CutPrefix(wanted, "now "); now {
			_, have, _ = strings.Cut(have, " ")
			wanted = rest
		}
		if have != wanted {
			t.Errorf("record %d: %s, want %s", i+1, have, wanted)
		}
	}
}
