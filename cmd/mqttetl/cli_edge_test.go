package main

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/test/servers"
)

// evil is what a stranger may put into a text: colours, a title, a bell, the CSI of
// eight bits, a byte that is no UTF-8, and an end of the line.
const evil = "\x1b[31mred\x1b]0;owned\x07\u009b2J\xff\nmqttetl: all is well\ttab\r"

// wantTame fails if a text holds a byte that a terminal obeys, or the false line.
func wantTame(t *testing.T, what, text string) {
	t.Helper()
	if strings.ContainsAny(text, "\x1b\x07\r\u009b\u202e") || strings.Contains(text, "\nmqttetl: all is well") {
		t.Errorf("%s writes to a terminal: %q", what, text)
	}
}

// A broker says why it refuses in its own words.
func TestReasonStringsAreTame(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reason := strings.ReplaceAll(evil, "\xff", "")
			body := append([]byte{0, 0x87, byte(3 + len(reason)), 0x1f, 0, byte(len(reason))}, reason...)
			c.Write(append([]byte{0x20, byte(len(body))}, body...))
			c.Read(make([]byte, 1<<10))
			c.Close()
		}
	}()
	s := newSite(t, "mqtt://"+l.Addr().String(), "")
	host, port, _ := net.SplitHostPort(l.Addr().String())
	for _, args := range [][]string{
		{"pub", "-V", "5", "-h", host, "-p", port, "-t", "a", "-m", "x", "-d"}, {"sub", "-V", "5", "-h", host, "-p", port, "-t", "a", "-d", "-W", "1"},
		{"doctor", "-c", s.config}, {"doctor", "-c", s.config, "--output", "table"}, {"simulate", "--count", "1", "--to", "mqtt://" + l.Addr().String()},
	} {
		r := call(t, args...)
		if !strings.Contains(r.out+r.err, "red") {
			t.Errorf("%s does not say the reason: %s%s", args, r.out, r.err)
		}
		if !strings.HasPrefix(r.out, "{") { // JSON is for programs
			wantTame(t, strings.Join(args, " "), r.out)
		}
		wantTame(t, strings.Join(args, " "), r.err)
	}
	p := start(t, nil, "run", "-c", s.config)
	eventually(t, "/readyz says the reason", func() bool { _, body := s.get("/readyz"); return strings.Contains(body, "red") })
	p.Process.Kill()
	<-p.done
	wantTame(t, "the log", p.err.String())
}

// Names of files, topics and hosts are shown and not obeyed.
func TestNamesAreTame(t *testing.T) {
	t.Parallel()
	name := strings.NewReplacer("/", "", "\x00", "").Replace(evil)
	dir := t.TempDir()
	file := filepath.Join(dir, name)
	writeFile(t, file, "nothing\n")
	s := newSite(t, "", "")
	for _, args := range [][]string{
		{"import", "-c", s.config, file}, {"import", "-c", s.config, "--dry-run", file}, {"import", "-c", s.config, file + "no"}, {"config", "check", "-c", file}, {"run", "-c", file + "no"},
		{"query", "--archive", file}, {"verify", file}, {"export", "--archive", file}, {"replay", "--archive", file, "--to", "-"}, {"status", "--url", "http://" + name}, {"pub", "-h", name, "-t", "a", "-m", "x"},
		{"pub", "-h", "127.0.0.1", "-p", "1", "-t", name, "-m", "x"}, {"sub", "-t", name + "/#/x"}, {name}, {"run", "--" + name}, {"transform", "test", name, "-c", file},
	} {
		r := call(t, args...)
		wantTame(t, strings.Join(args, " "), r.out+r.err)
	}
}

// A topic with an end of the line stays in its row of a table, and JSON stays JSON.
func TestTablesKeepTheirRows(t *testing.T) {
	t.Parallel()
	text := renderTable(report{header: []string{"topic", "n"}, rows: [][]string{{"a\nb\tc" + evil, "1"}}})
	if n := strings.Count(text, "\n"); n != 1 {
		t.Errorf("a table of one row has %d line ends: %q", n, text)
	}
	wantTame(t, "a table", text)
	var line strings.Builder
	logs := logFlags{format: "json"}
	logs.logger(edge{&line}).Info("x", "topic", evil)
	if !json.Valid([]byte(line.String())) {
		t.Errorf("no JSON: %s", line.String())
	}
}

// What a broker sends is told by -d in one line.
func TestDebugLinesAreTame(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Stop() })
	topic := "a/" + strings.NewReplacer("\xff", "", "\x1b", "").Replace(evil)
	host, port, _ := net.SplitHostPort(m.Addr)
	r := call(t, "pub", "-h", host, "-p", port, "-q", "1", "-d", "-t", topic, "-m", "x")
	if !strings.Contains(r.err, "sending PUBLISH") { // which Mosquitto may refuse
		t.Fatal(r.err)
	}
	wantTame(t, "pub -d", r.err)
}
