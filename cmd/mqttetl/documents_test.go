package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// documents are the texts whose blocks are run, by their paths below the
// repository. docs/import.md has a test of its own.
func documents(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, path := range append(paths, "../../README.md") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimPrefix(path, "../../")] = string(b)
	}
	delete(texts, "docs/import.md")
	return texts
}

// fenced is a block of a document: what stands after the three marks, and the
// lines up to the next three.
//
//	sh             lines that are run one after the other, as they are pasted
//	sh not-run     lines that cannot be run here: they need root
//	sh duckdb      lines that need a program which only make test-brokers installs
//	text           what the last line before it has printed, but for numbers
//	yaml FILE      is written to the file, >>FILE is added to it
//	sql            is run on telemetry.db
type fenced struct{ info, text string }

func blocks(text string) (list []fenced) {
	for _, m := range regexp.MustCompile("(?ms)^```(\\S[^\n]*)\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		list = append(list, fenced{m[1], m[2]})
	}
	return list
}

// TestDocumentsWork runs the commands of README and docs in the order in which
// they stand, each document in a directory with a broker of its own.
func TestDocumentsWork(t *testing.T) {
	t.Parallel()
	for name, text := range documents(t) {
		if list := blocks(text); len(list) > 0 {
			t.Run(filepath.Base(name), func(t *testing.T) {
				t.Parallel()
				runDocument(t, text, "sh")
			})
		}
	}
}

// Only what needs root or another machine may be left out, and not much of it.
func TestDocumentsLeaveLittleOut(t *testing.T) {
	t.Parallel()
	reason := regexp.MustCompile(`\bsudo |\bsystemctl |\bpip install |\bapt-get `)
	left := 0
	for name, text := range documents(t) {
		for _, b := range blocks(text) {
			if b.info != "sh not-run" {
				continue
			}
			left++
			if !reason.MatchString(b.text) {
				t.Errorf("%s: no reason why this is not run:\n%s", name, b.text)
			}
		}
	}
	if left > 6 {
		t.Errorf("%d blocks are not run, want 6 at most", left)
	}
}

// instead makes what takes long short.
var instead = []string{
	"sqlite3 ", "sqlite3 -cmd '.timeout 5000' ", // the service may just be opening the archive
	"--duration 10s", "--duration 2s", "--duration 1m", "--duration 1s", "-W 60", "-W 1", "--speed 10", "--speed max",
}

// documentDir is the directory in which a document is run.
type documentDir struct {
	*exampleDir
	stop func() // the service
}

func runDocument(t *testing.T, text, shell string) {
	w := newExampleWorld(t)
	d := &documentDir{exampleDir: w.directory(t, text), stop: func() {}}
	if err := os.Mkdir(filepath.Join(d.path, "bin"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(w.bin, "mqttetl"), filepath.Join(d.path, "bin", "mqttetl")); err != nil {
		t.Fatal(err)
	}
	list := blocks(text)
	for i, b := range list {
		kind, file, _ := strings.Cut(b.info, " ")
		switch {
		case b.info == "text" || b.info == "sh not-run" || kind == "conf":
		case b.info == "sql":
			d.paste(t, "sqlite3 telemetry.db \""+strings.ReplaceAll(grafana.Replace(b.text), "\n", " ")+"\"", "")
		case b.info == shell || b.info == "sh":
			printed := ""
			if i+1 < len(list) && list[i+1].info == "text" {
				printed = list[i+1].text
			}
			d.pasteAll(t, b.text, printed)
		case kind == "yaml" && file != "":
			d.put(t, file, b.text)
		case b.info != "sh duckdb":
			t.Errorf("nothing is known of a block %q", b.info)
		}
	}
}

// grafana has the macros of its data source for SQLite.
var grafana = strings.NewReplacer("$__from", "0", "$__to", "9000000000000", "`", "\\`")

// put writes a configuration and checks it.
func (d *documentDir) put(t *testing.T, file, text string) {
	t.Helper()
	file, more := strings.CutPrefix(file, ">>")
	path := filepath.Join(d.path, file)
	if more {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b) + text
	}
	writeFile(t, path, d.here.Replace(text))
	if strings.Contains(text, "sources:") {
		d.paste(t, "mqttetl config check "+file, "")
	}
}

// pasteAll runs the lines of a block.
func (d *documentDir) pasteAll(t *testing.T, text, printed string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(text, "\\\n", "")), "\n")
	for i, line := range lines {
		want := ""
		if i == len(lines)-1 {
			want = printed
		}
		switch {
		case strings.HasPrefix(line, "make "): // by which this test is started, or which takes minutes
		case strings.HasPrefix(strings.TrimPrefix(line, "bin/"), "mqttetl run"):
			d.stop()
			d.stop = d.startWith(t, configOf(line))
		case line == "kill %1": // the service
			d.stop()
		default:
			d.paste(t, line, want)
		}
	}
}

// paste runs a line to its end. What it prints is given some time to be right:
// the service works beside it.
func (d *documentDir) paste(t *testing.T, line, want string) {
	t.Helper()
	begun := time.Now()
	for {
		out := d.run(t, line, example{instead: instead, cut: strings.Contains(line, "mqttetl bench") && !strings.Contains(line, "^nats/core$")})
		if want == "" || t.Failed() || alike(out, want) {
			return
		}
		if time.Since(begun) > 10*time.Second {
			t.Errorf("%s\nprinted\n%s\nand the document shows\n%s", line, out, want)
			return
		}
	}
}

var (
	anyNumber = regexp.MustCompile(`\b[0-9a-f]{7}\b|\(devel\)|\d[\d,.:]*(µs|ms|s|m| bytes|[KMG]iB)?`)
	anySpace  = regexp.MustCompile(`[ \t]+`)
	roundEnd  = regexp.MustCompile(` ?\n ?`)
)

// alike reports whether the texts are the same but for numbers with their units,
// versions and the width of columns. A line … in want is any number of lines.
func alike(got, want string) bool {
	plain := func(s string) string {
		s = anySpace.ReplaceAllString(anyNumber.ReplaceAllString(s, "0"), " ")
		return strings.TrimSpace(roundEnd.ReplaceAllString(s, "\n"))
	}
	expression := strings.ReplaceAll(regexp.QuoteMeta(plain(want)+"\n"), "…\n", "(.*\n)*")
	return regexp.MustCompile("^" + expression + "$").MatchString(plain(got) + "\n")
}
