package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

// What sub prints as %j and %J is imported as the bytes that were published.
func TestImportOfWhatSubPrints(t *testing.T) {
	t.Parallel()
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

// badLines is a text of good lines and as many bad ones.
func badLines(n int) string {
	return strings.Repeat("{\"topic\":\"a\",\"payload\":\"\"}\nbad\n", n)
}

func TestImportDryRunTellsReasons(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	path := filepath.Join(s.dir, "f")
	writeFile(t, path, badLines(12))
	r := call(t, "import", "--dry-run", path)
	want := fmt.Sprintf("%s:20: byte 1: 'b' where '{' is expected\nand 2 more\nwould import 12 lines, would reject 12\n", path)
	if r.code != exitFailed || strings.Count(r.out, "\n") != 12 || !strings.Contains(r.err, want) || strings.Count(r.err, "expected") != 10 || !strings.HasPrefix(r.err, path+":2: ") {
		t.Errorf("%+v", r)
	}
	if list, err := filepath.Glob(path + ".*"); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
}

// What the command line has wrong is told before anything is in the log.
func TestImportRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	file := func(name, text string) string {
		path := filepath.Join(s.dir, name)
		writeFile(t, path, text)
		return path
	}
	good, table := file("good", badLines(1)), file("table.csv", "ts;t\n1;a\n")
	if err := os.Mkdir(filepath.Join(s.dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	mine := file("mine", badLines(1))
	if err := os.Mkdir(mine+".rejected", 0o700); err != nil {
		t.Fatal(err)
	}
	file("good.rejected", "kept\n")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"--columns foo=ts " + good, exitUsage, "--columns"},
		{"--format csv --columns payload=nope " + table, exitUsage, "hint: --separator ';'"},
		{"--separator ; --columns topic=t,payload=nope " + table, exitUsage, `no column "nope"`},
		{"--separator ; " + table, exitUsage, "no column for the topic"},
		{"--separator ;; " + table, exitUsage, "one character"},
		{"--separator ; --format ndjson " + good, exitUsage, "for CSV"},
		{good + " " + good + ".rejected", exitUsage, "is the file for rejected lines of"},
		{"--rejected " + good + " " + good, exitUsage, "is the file for rejected lines of"},
		{"--rejected " + s.dir + "/dir " + good, exitIO, "not a regular file"},
		{"--rejected " + s.dir + "/none/r " + good, exitIO, "--rejected FILE"},
		{good + " " + mine, exitIO, "not a regular file"},
		{good + " " + s.dir + "/absent", exitIO, "absent"},
		{"--resume " + s.dir + "/dir", exitIO, "is a directory"},
	} {
		r := call(t, append([]string{"import", "-c", s.config}, strings.Fields(c.args)...)...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || strings.Contains(r.err, "with --resume") || strings.Contains(r.err, "rejected, see") {
			t.Errorf("%s: %+v, want %d %s", c.args, r, c.code, c.want)
		}
	}
	if b, err := os.ReadFile(good + ".rejected"); err != nil || string(b) != "kept\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// Each file is looked at once, however many there are, and known by any path.
func TestImportCheckFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var paths []string
	for i := range 300 {
		paths = append(paths, filepath.Join(dir, fmt.Sprint(i)))
		writeFile(t, paths[i], "")
	}
	writeFile(t, filepath.Join(dir, "all"), "")
	looked := map[string]int{}
	count := func(path string) (os.FileInfo, error) {
		looked[path]++
		return os.Stat(path)
	}
	for rejected, want := range map[string]int{"": 600, filepath.Join(dir, "all"): 301} {
		clear(looked)
		f := importFlags{rejected: rejected}
		if err := f.checkFiles(append(paths, "-"), count); err != nil {
			t.Error(err)
		}
		delete(looked, "stdin.rejected")
		for path, n := range looked {
			if n != 1 {
				t.Errorf("%d times %s", n, path)
			}
		}
		if len(looked) != want {
			t.Errorf("%d files of %d", len(looked), want)
		}
	}
	if err := os.Link(paths[7], paths[3]+".rejected"); err != nil {
		t.Fatal(err)
	}
	want := paths[7] + " is to be imported, and is the file for rejected lines of " + paths[3]
	if err := (&importFlags{}).checkFiles(paths, os.Stat); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestImportRejectedOfAllFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	all := filepath.Join(s.dir, "all")
	a, b := filepath.Join(s.dir, "a"), filepath.Join(s.dir, "b")
	for round, path := range []string{a, b} {
		writeFile(t, path, badLines(round+1))
	}
	want := a + ":2\tbyte 1: 'b' where '{' is expected\tbad\n" + b + ":2\tbyte 1: 'b' where '{' is expected\tbad\n" + b + ":4\tbyte 1: 'b' where '{' is expected\tbad\n"
	for _, flags := range []string{"", "", "--resume"} {
		args := append([]string{"import", "-c", s.config, "--rejected", all, a, b}, strings.Fields(flags)...)
		if r := call(t, args...); flags == "" && (r.code != exitFailed || !strings.Contains(r.err, b+": 2 lines rejected, see "+all)) || flags != "" && r.code != 0 {
			t.Errorf("%+v", r)
		}
		if have, err := os.ReadFile(all); err != nil || string(have) != want {
			t.Errorf("%q, %v, want %q", have, err, want)
		}
	}
}

// A file of --rejected is not begun anew while lines of other files stand there.
func TestImportKeepsRejectedOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	all := filepath.Join(s.dir, "all")
	a, b := filepath.Join(s.dir, "a"), filepath.Join(s.dir, "b")
	writeFile(t, a, badLines(1))
	writeFile(t, b, badLines(1))
	line := func(path string) string { return path + ":2\tbyte 1: 'b' where '{' is expected\tbad\n" }
	for _, c := range []struct{ path, want string }{{a, line(a)}, {a, line(a)}, {b, line(a) + line(b)}, {b, line(a) + line(b) + line(b)}} {
		if r := call(t, "import", "-c", s.config, "--rejected", all, c.path); r.code != exitFailed {
			t.Errorf("%+v", r)
		}
		if have, err := os.ReadFile(all); err != nil || string(have) != c.want {
			t.Errorf("%q, %v, want %q", have, err, c.want)
		}
	}
}

// A file that is damaged or another one is told with its line, and what is in
// the log already is not imported again.
func TestImportResumesBehindDamage(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	path := filepath.Join(s.dir, "f.gz")
	var text strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, "{\"topic\":\"t\",\"payload\":\"%x\"}\n", i*i*i)
	}
	pack := func(text string) string {
		var b strings.Builder
		w := gzip.NewWriter(&b)
		if _, err := io.WriteString(w, text); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	front := pack(text.String()[:300_000])
	whole := front + pack(text.String()[300_000:])
	broken := []byte(whole)
	broken[len(front)] ^= 0xff // the second part has no header of gzip
	for _, c := range [][]string{
		{string(broken), "the compressed file is damaged", "hint: gzip -t"},
		{whole[:len(whole)*3/4], "the compressed file is cut short", "hint: what comes before it is in the log; --resume"},
	} {
		writeFile(t, path, c[0])
		for range 2 {
			r := call(t, "import", "-c", s.config, "--resume", path)
			if r.code != exitDamaged || !strings.Contains(r.err, c[1]) || !strings.Contains(r.err, "after line ") || !strings.Contains(r.err, c[2]) {
				t.Errorf("%+v", r)
			}
		}
	}
	writeFile(t, path, whole)
	if r := call(t, "import", "-c", s.config, "--resume", path); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if n := s.ask(t, "SELECT count(*), count(DISTINCT payload) FROM messages"); n[0] != "20000|20000" {
		t.Error(n)
	}
	writeFile(t, path, pack("{\"topic\":\"more\",\"payload\":\"\"}\n"+text.String()))
	r := call(t, "import", "-c", s.config, "--resume", path)
	if r.code != exitDamaged || !strings.Contains(r.err, "has changed since it was imported") || !strings.Contains(r.err, "hint: without --resume") {
		t.Errorf("%+v", r)
	}
}

// An archive that cannot be used is no success, and the records wait in the log.
func TestImportWithoutArchive(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	path := filepath.Join(s.dir, "f")
	writeFile(t, path, "{\"topic\":\"a\",\"payload\":\"\"}\n")
	writeFile(t, s.archive(), strings.Repeat("no database ", 1000))
	r := call(t, "import", "-c", s.config, path)
	if r.code != exitIO || !strings.Contains(r.err, "imported 1 line, rejected 0") || !strings.Contains(r.err, "1 records are in the log and not in the archive") {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(s.archive()); err != nil {
		t.Fatal(err)
	}
	if r := call(t, "import", "-c", s.config, "--resume", path); r.code != 0 || len(s.ask(t, "SELECT seq FROM messages")) != 1 {
		t.Errorf("%+v", r)
	}
}

// A file that is imported once more without --resume is in the log twice, and
// who did that is told.
func TestImportAgainIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	path := filepath.Join(s.dir, "f")
	writeFile(t, path, "{\"topic\":\"a\",\"payload\":\"\"}\n{\"topic\":\"b\",\"payload\":\"\"}\n")
	for round, told := range []bool{false, true} {
		r := call(t, "import", "-c", s.config, path)
		if want := path + " has been imported before up to line 2,"; r.code != 0 || strings.Contains(r.err, want) != told || strings.Contains(r.err, "--resume") != told {
			t.Errorf("round %d: %+v", round, r)
		}
	}
	if n := s.ask(t, "SELECT count(*) FROM messages"); n[0] != "4" {
		t.Error(n)
	}
	if r := call(t, "import", "-c", s.config, "--resume", path); r.code != 0 || strings.Contains(r.err, "--resume") {
		t.Errorf("%+v", r)
	}
}

// An import connects to no broker, and asks for no secret of one.
func TestImportWithoutSecrets(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, strings.Replace(string(text), "subscribe:", "username: u, password: '${MQTTETL_TEST_IS_NOT_SET}', subscribe:", 1))
	path := filepath.Join(s.dir, "f")
	writeFile(t, path, "{\"topic\":\"a\",\"payload\":\"\"}\n")
	if r := call(t, "import", "-c", s.config, path); r.code != 0 || len(s.ask(t, "SELECT seq FROM messages")) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestImportTimezone(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	path := filepath.Join(s.dir, "f")
	writeFile(t, path, "time,topic,payload\n2026-07-02 03:04:05,a,\n")
	for _, c := range []struct {
		zone string
		want time.Time
	}{
		{"", time.Date(2026, 7, 2, 3, 4, 5, 0, time.UTC)},
		{"--timezone=UTC", time.Date(2026, 7, 2, 3, 4, 5, 0, time.UTC)},
		{"--timezone=Europe/Berlin", time.Date(2026, 7, 2, 1, 4, 5, 0, time.UTC)},
		{"--timezone=local", time.Date(2026, 7, 2, 3, 4, 5, 0, time.Local)},
	} {
		r := call(t, append([]string{"import", "--dry-run", path}, strings.Fields(c.zone)...)...)
		if want := c.want.UTC().Format(`"time":"2006-01-02T15:04:05.000000000Z"`); r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%s: %+v, want %s", c.zone, r, want)
		}
	}
	if r := call(t, "import", "--dry-run", "--timezone", "Mars", path); r.code != exitUsage || !strings.Contains(r.err, `--timezone: "Mars" is no time zone`) {
		t.Errorf("%+v", r)
	}
}
