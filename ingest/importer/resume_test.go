package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// imports runs one import into l.
func imports(t *testing.T, l Log, cfg Config, text string) (Stats, error) {
	t.Helper()
	cfg.In = strings.NewReader(text)
	m, err := New(cfg, l)
	if err != nil {
		return Stats{}, err
	}
	err = m.Run(t.Context())
	return m.Stats(), err
}

// A file that is not what was imported is refused: its lines would be in the
// log twice.
func TestResumeRefusesAnotherFile(t *testing.T) {
	l, stop := running(t, t.TempDir())
	defer stop()
	rejected := filepath.Join(t.TempDir(), "r")
	text := ""
	for i := range 1000 { // more than is looked at in the beginning
		text += fmt.Sprintf("{\"topic\":\"t\",\"payload\":\"%d\"}\n", i)
	}
	cfg := Config{Name: "f", Rejected: rejected, Resume: true}
	if s, err := imports(t, l, cfg, text); err != nil || s.Imported != 1000 {
		t.Fatal(s, err)
	}
	for what, other := range map[string]string{
		"begins differently":      "{\"topic\":\"other\",\"payload\":\"\"}\n" + text,
		"others now":              strings.Replace(text, `"998"`, `"xyz"`, 1),
		"it ends after 5000 byte": text[:5000],
	} {
		s, err := imports(t, l, cfg, other)
		if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), what) || s.Imported != 0 {
			t.Errorf("want %s: %+v, %v", what, s, err)
		}
	}
	if s, err := imports(t, l, cfg, text+"{\"topic\":\"more\",\"payload\":\"\"}\n"); err != nil || s.Imported != 1 || s.Before != 1000 || !s.Done {
		t.Errorf("a file that has grown: %+v, %v", s, err)
	}
}

// noted is a Log that has a note of its own.
type noted struct {
	Log
	note []byte
}

func (n noted) Note(string) ([]byte, error) { return n.note, nil }

// A check sum of zero is one like any other.
func TestResumeComparesEverySum(t *testing.T) {
	l, stop := running(t, t.TempDir())
	defer stop()
	text := "{\"topic\":\"t\",\"payload\":\"\"}\n"
	at, err := json.Marshal(position{Offset: int64(len(text)), Lines: 1, HeadBytes: len(text), Head: fingerprint([]byte(text))})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := imports(t, noted{l, at}, Config{Name: "f", Rejected: filepath.Join(t.TempDir(), "r"), Resume: true}, text); !errors.Is(err, ErrChanged) {
		t.Errorf("%+v, %v", s, err)
	}
}

// A last line without an end is one; whether it has grown when the import is
// resumed is found out, for what was read of it would be a wrong value.
func TestResumeBehindAnOpenLine(t *testing.T) {
	for i, c := range []struct {
		text, more         string
		imported, rejected int64 // of more; -1: refused
	}{
		{"t 20\nt 21.", "5\n", -1, 0},
		{"t 20\nt 21.", "\r", -1, 0},
		{"t 20\nt 21.", "", 0, 0},
		{"t 20\nt 21.", "\n", 0, 0},
		{"t 20\nt 21.", "\nt 22\nbad", 1, 1},
		{"t 20\nt 21.", "\r\nt 22\nbad", 1, 1},
		{"t 20\nt 21.\n", "5\nt 22\n", 1, 1},
		{"", "\xef\xbb\xbft 1\n", 1, 0},
		{"topic,payload", "\nt,1\nbad", 1, 1},
		{"topic,payload\n", "t,1\nbad", 1, 1},
		{"topic,payload", "_base64\nt,MQ==\nbad", 1, 1},
		{"topic,payload\nt,\"1", "\nt,1", -1, 0},
		{"topic,payload\nt,\"1", "", 0, 0},
		{"topic,payload\nt,\"1\n", "x\"\nt,1", -1, 0},
		{"topic,payload\nt,\"1\"", "\nt,2\nbad", 1, 1},
	} {
		l, stop := running(t, t.TempDir())
		cfg := Config{Name: "f", Format: "%t %p", Rejected: filepath.Join(t.TempDir(), "r"), Resume: true}
		if strings.HasPrefix(c.text, "topic") {
			cfg.Format = "csv"
		}
		first, err := imports(t, l, cfg, c.text)
		if err != nil {
			t.Errorf("%d: %+v, %v", i, first, err)
		}
		s, err := imports(t, l, cfg, c.text+c.more)
		switch {
		case c.imported < 0:
			if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "line 2, was read without an end, and has grown") || !strings.Contains(mqttetl.Hint(err), "another log") {
				t.Errorf("%d: %v", i, err)
			}
		case err != nil || s.Imported != c.imported || s.Rejected != c.rejected:
			t.Errorf("%d: %+v, %v", i, s, err)
		case c.rejected > 0:
			b, err := os.ReadFile(cfg.Rejected)
			lines := strings.Split(strings.TrimSuffix(c.text+c.more, "\n"), "\n")
			at := len(lines)
			if strings.HasPrefix(c.more, "5") {
				at = 3
			}
			if err != nil || !strings.HasPrefix(string(b), fmt.Sprint(at, "\t")) {
				t.Errorf("%d: %q, %v, want line %d", i, b, err, at)
			}
		}
		if err == nil {
			if s, err = imports(t, l, cfg, c.text+c.more); err != nil || s.Imported+s.Rejected != 0 {
				t.Errorf("%d again: %+v, %v", i, s, err)
			}
		}
		stop()
	}
}

// Two files with one file for rejected lines, killed after each batch: each bad
// line stands there once, with the name of its file.
func TestRejectedTogether(t *testing.T) {
	dir := t.TempDir()
	rejected := filepath.Join(dir, "all")
	texts := map[string]string{}
	for _, name := range []string{"a", "b"} {
		var text strings.Builder
		for i := range 300 {
			if fmt.Fprintf(&text, "{\"topic\":\"t\",\"source\":\"s%d\",\"payload\":\"\"}\n", i/10); i%7 == 0 {
				fmt.Fprintf(&text, "bad %s\n", name)
			}
		}
		texts[name] = text.String()
	}
	var before []byte
	for round := 0; ; round++ {
		l, stop := running(t, filepath.Join(dir, "log"))
		killed := &stopping{l, 6}
		var err error
		for _, name := range []string{"a", "b"} {
			if _, err = imports(t, killed, Config{Name: name, Rejected: rejected, Shared: true, Resume: true}, texts[name]); err != nil {
				break
			}
		}
		stop()
		if err == nil {
			if round < 8 {
				t.Errorf("finished in round %d", round)
			}
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
	}
	check := func(want int) {
		t.Helper()
		now, err := os.ReadFile(rejected)
		lines := map[string]bool{}
		for line := range strings.Lines(string(now)) {
			lines[line] = true
		}
		if err != nil || len(lines) != want || bytes.Count(now, []byte("\n")) != want || !lines["b:2\tbyte 1: 'b' where '{' is expected\tbad b\n"] || !bytes.HasPrefix(now, before) {
			t.Errorf("%d different lines of %d, want %d, %v", len(lines), bytes.Count(now, []byte("\n")), want, err)
		}
		before = now
	}
	check(86)
	l, stop := running(t, filepath.Join(dir, "log"))
	defer stop()
	if s, err := imports(t, l, Config{Name: "a", Rejected: rejected, Shared: true, Resume: true}, texts["a"]+"worse\n"); err != nil || s.Rejected != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	check(87)
}

// A file for rejected lines to which another import has added between a kill and
// the resuming: what the other wrote stays, and each own line stands there once.
func TestRejectedBetweenKillAndResume(t *testing.T) {
	text := func(name string) string {
		var s strings.Builder
		for i := range 300 {
			if fmt.Fprintf(&s, "{\"topic\":\"t\",\"source\":\"s%d\",\"payload\":\"\"}\n", i/10); i%2 == 0 {
				fmt.Fprintf(&s, "bad %s\n", name)
			}
		}
		return s.String()
	}
	for _, torn := range []string{"", "/a:9", "other text"} { // what a power cut may leave of a line
		dir := t.TempDir()
		rejected := filepath.Join(dir, "all")
		cfg := func(name string) Config { return Config{Name: name, Rejected: rejected, Shared: true, Resume: true} }
		others := 0
		for round := 0; ; round++ {
			l, stop := running(t, filepath.Join(dir, "log"))
			_, err := imports(t, &stopping{l, 1 + 3*(round%3/2)}, cfg("/a"), text("a"))
			if err == nil {
				stop()
				break
			}
			if !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			if round%3 == 2 { // else it is the last that wrote there
				if round == 5 {
					appendFile(t, rejected, torn)
				}
				if s, err := imports(t, l, cfg(fmt.Sprint("/a:", round)), text("b")); err != nil || s.Rejected != 150 {
					t.Fatal(s, err)
				}
				others++
			}
			stop()
		}
		b, err := os.ReadFile(rejected)
		count := map[string]int{}
		for line := range strings.Lines(string(b)) {
			count[line]++
		}
		own, other := 0, 0
		for line, n := range count {
			switch {
			case strings.HasSuffix(line, "expected\tbad a\n") && strings.HasPrefix(line, "/a:") && n == 1:
				own++
			case strings.HasSuffix(line, "expected\tbad b\n") && strings.HasPrefix(line, "/a:") && n == 1:
				other++
			case line != torn+"\n":
				t.Errorf("%d times %q", n, line)
			}
		}
		if err != nil || others < 3 || own != 150 || other != 150*others {
			t.Errorf("torn %q: %d own lines, want 150, %d of %d others, %v", torn, own, other, others, err)
		}
	}
}

func appendFile(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
}

// A rejected row of CSV that goes over several lines is one line of a file that
// is shared, which therefore is known as this input's own.
func TestRejectedRowOfSeveralLines(t *testing.T) {
	l, stop := running(t, t.TempDir())
	defer stop()
	rejected := filepath.Join(t.TempDir(), "all")
	if s, err := imports(t, l, Config{Name: "/t", Rejected: rejected, Shared: true}, "topic,payload\na,\"x\ny\",z\n"); err != nil || s.Rejected != 1 {
		t.Fatal(s, err)
	}
	want := "/t:3\t3 fields, the header has 2\ta,\"x\\ny\",z\n"
	if b, err := os.ReadFile(rejected); err != nil || string(b) != want {
		t.Errorf("%q, %v, want %q", b, err, want)
	}
	for names, want := range map[string]bool{"/t": true, "/": false, "/t:3": false} {
		if only, err := HoldsOnly(rejected, map[string]bool{names: true}); err != nil || only != want {
			t.Errorf("%s: %v, %v", names, only, err)
		}
	}
}

func TestCheckRejected(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{file: "", filepath.Join(dir, "new"): "", dir: "not a regular file", os.DevNull: "not a regular file", filepath.Join(dir, "none", "new"): "no such"} {
		err := CheckRejected(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// Without Resume the lines that are in the log already are counted, if they are
// the same.
func TestImportedAgain(t *testing.T) {
	l, stop := running(t, t.TempDir())
	defer stop()
	cfg := Config{Name: "f", Rejected: filepath.Join(t.TempDir(), "r")}
	lines := "{\"topic\":\"1\",\"payload\":\"\"}\n{\"topic\":\"2\",\"payload\":\"\"}\n"
	for _, c := range []struct {
		text  string
		again int64
	}{{lines, 0}, {lines, 2}, {lines + "{\"topic\":\"3\",\"payload\":\"\"}", 2}, {lines + "{\"topic\":\"3\",\"payload\":\"\"}", 3}, {lines, 0}, {lines + "bad\n", 2}, {strings.ToUpper(lines) + "bad\n", 0}, {lines, 0}} {
		if s, err := imports(t, l, cfg, c.text); err != nil || s.Again != c.again || s.Before != 0 {
			t.Errorf("%q: %+v, %v, want %d again", c.text, s, err, c.again)
		}
	}
	cfg.Resume = true
	if s, err := imports(t, l, cfg, lines); err != nil || s.Again != 0 || s.Before != 2 {
		t.Errorf("resumed: %+v, %v", s, err)
	}
}
