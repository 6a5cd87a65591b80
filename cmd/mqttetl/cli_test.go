package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/deploy"
	"github.com/mqttetl/mqttetl/internal/config"
)

// visit calls f for every command that is not hidden.
func visit(cmd *cobra.Command, f func(*cobra.Command)) {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return
	}
	f(cmd)
	for _, c := range cmd.Commands() {
		visit(c, f)
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	t.Parallel()
	n := 0
	visit(newRoot(streams{}), func(cmd *cobra.Command) {
		n++
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		r := call(t, args...)
		if r.code != 0 || r.err != "" || !strings.Contains(r.out, "Usage:") || !strings.Contains(r.out, "Examples:\n  mqttetl ") {
			t.Errorf("%v: exit %d\n%s%s", args, r.code, r.out, r.err)
		}
	})
	if n < 12 {
		t.Errorf("%d commands", n)
	}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                              "mqttetl: which command? mqttetl --help lists them\nUsage: mqttetl COMMAND [flags]\n",
		"rnu":                           `mqttetl: unknown command "rnu" for "mqttetl", did you mean "run"?` + "\nUsage: mqttetl COMMAND [flags]\n",
		"replay":                        "mqttetl: required flag(s) \"to\" not set\nUsage: mqttetl replay --to URL",
		"relpay-it":                     `mqttetl: unknown command "relpay-it" for "mqttetl"` + "\nUsage: mqttetl COMMAND [flags]\n",
		"config":                        "mqttetl: which command? mqttetl config --help lists them\nUsage: mqttetl config COMMAND [flags]\n",
		"config chekc":                  `mqttetl: unknown command "chekc" for "mqttetl config", did you mean "check"?` + "\nUsage: mqttetl config COMMAND [flags]\n",
		"config check":                  "mqttetl: which file?\nUsage: mqttetl config check FILE [flags]\n",
		"run --bogus":                   "mqttetl: unknown flag: --bogus\nUsage: mqttetl run [flags]\n",
		"run extra":                     `mqttetl: run takes no arguments, not "extra"; -c FILE names the configuration` + "\nUsage: mqttetl run [flags]\n",
		"run --log-level LOUD":          `mqttetl: --log-level must be one of debug, info, warn, error, not "LOUD"`,
		"run --log-format xml":          `mqttetl: --log-format must be one of text, json, journal, not "xml"`,
		"status -o yaml":                `mqttetl: --output must be one of json, ndjson, csv, table, not "yaml"`,
		"demo --rate 0":                 "mqttetl: --rate must be at least 1, not 0\n",
		"demo --duration -1s":           "mqttetl: --duration must not be negative, it is -1s\n",
		"demo --devices many":           `mqttetl: --devices must be a whole number, not "many"` + "\n",
		"demo --devices 0":              "mqttetl: --devices must be at least 1, not 0\n",
		"demo --duration 5":             `mqttetl: --duration must be a duration such as 500ms or 30s, not "5"` + "\n",
		"help rnu":                      `mqttetl: unknown command "rnu" for "mqttetl", did you mean "run"?`,
		"help config chekc":             `mqttetl: unknown command "chekc" for "mqttetl config", did you mean "check"?`,
		"rnu --help":                    `mqttetl: unknown command "rnu" for "mqttetl", did you mean "run"?`,
		"config chekc --help":           `mqttetl: unknown command "chekc" for "mqttetl config", did you mean "check"?`,
		"verify -c":                     "mqttetl: flag needs an argument: 'c' in -c\nUsage: mqttetl verify [flags]\n",
		"version --output=json nothing": `mqttetl: version takes no arguments, not "nothing"`,
	} {
		r := call(t, strings.Fields(line)...)
		if r.code != exitUsage || r.out != "" || !strings.HasPrefix(r.err, want) || strings.Count(r.err, "\n") != 2 {
			t.Errorf("mqttetl %s: exit %d\n%s%swant\n%s", line, r.code, r.out, r.err, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for want, errs := range map[int][]error{
		exitOK:          {nil},
		exitFailed:      {errors.New("x"), errors.New("the account does not balance")},
		exitDamaged:     {fmt.Errorf("a: %w", mqttetl.ErrDamaged), fmt.Errorf("a: %w", mqttetl.ErrForeign)},
		exitUnreachable: {fmt.Errorf("a: %w", mqttetl.ErrUnavailable)},
		exitIO:          {fmt.Errorf("a: %w", mqttetl.ErrLocked), fmt.Errorf("a: %w", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission})},
		exitConfig:      {fmt.Errorf("a: %w", config.Error{Err: errors.New("x")})},
		77:              {childError{77, "x"}},
	} {
		for _, err := range errs {
			if got := exitCode(err); got != want {
				t.Errorf("%v: %d, want %d", err, got, want)
			}
		}
	}
}

func TestConfigExampleIsTheFileAndChecks(t *testing.T) {
	t.Parallel()
	r := call(t, "config", "example")
	if r.code != 0 || r.out != deploy.Example || r.err != "" {
		t.Errorf("exit %d\n%s%s", r.code, r.out, r.err)
	}
	path := filepath.Join(t.TempDir(), "example.yaml")
	if err := os.WriteFile(path, []byte(r.out), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := call(t, "config", "check", path); r != (outcome{}) {
		t.Errorf("check of the example: %+v", r)
	}
}

// What is allowed and slow is said in one line, and is no error.
func TestConfigCheckSaysWhatIsSlow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slow.yaml")
	text := "sources: [{name: plant, url: 'mqtt://127.0.0.1', subscribe: ['#'], version: \"3.1.1\"}]\nlog: {commit_interval: 4s}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := call(t, "config", "check", path)
	if r.code != 0 || r.out != "" || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "commit_interval 4s it sends 5 a second at most") {
		t.Errorf("exit %d\n%s%s", r.code, r.out, r.err)
	}
}

func TestConfigErrorsExit78(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	s.write(t, "sources:\n  - {url: 'http://x', subscribe: ['a/#/b']}\nqos: 3\n")
	for _, args := range [][]string{{"config", "check", s.config}, {"run", "-c", s.config}, {"status", "-c", s.config}, {"verify", "-c", s.config}} {
		r := call(t, args...)
		lines := strings.Split(strings.TrimSuffix(r.err, "\n"), "\n")
		if r.code != exitConfig || r.out != "" || len(lines) != 3 {
			t.Fatalf("%v: exit %d\n%s", args, r.code, r.err)
		}
		for i, at := range []string{":2:11: ", ":2:35: ", ":3:1: "} {
			if !strings.HasPrefix(lines[i], s.config+at) {
				t.Errorf("%v: %s, want %s%s…", args, lines[i], s.config, at)
			}
		}
	}
	if r := call(t, "status", "-c", s.dir); r.code != exitConfig || !strings.Contains(r.err, "is a directory\nhint: -c names the file, not its directory\n") {
		t.Errorf("a directory: exit %d\n%s", r.code, r.err)
	}
	r := call(t, "run", "-c", filepath.Join(s.dir, "none.yaml"))
	if r.code != exitConfig || !strings.HasPrefix(r.err, "mqttetl: read configuration: open "+s.dir+"/none.yaml: no such file") ||
		!strings.Contains(r.err, "\nhint: `mqttetl config example` prints") || strings.Count(r.err, "\n") != 2 {
		t.Errorf("missing file: exit %d\n%s", r.code, r.err)
	}
}

func TestConfigCheckLooksIntoCertificates(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	s.write(t, "sources: [{name: plant, url: 'mqtts://x', tls: {ca: "+s.config+"}, subscribe: [a]}]\n")
	if r := call(t, "config", "check", s.config); r.code != exitConfig || r.err != "mqttetl: source plant: tls.ca "+s.config+" holds no PEM certificate\n" {
		t.Errorf("%+v", r)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	r := call(t, "version", "-o", "json")
	var b build
	if err := json.Unmarshal([]byte(r.out), &b); err != nil || r.code != 0 {
		t.Fatalf("exit %d, %v\n%s", r.code, err, r.out)
	}
	if b.Version == "" || b.Commit == "" || !strings.HasPrefix(b.Go, "go1.") || !strings.HasPrefix(b.LMDB, "0.9.") || !strings.HasPrefix(b.SQLite, "3.") {
		t.Errorf("%+v", b)
	}
	if r := call(t, "--version"); r.code != 0 || r.out != "mqttetl "+b.Version+"\n" {
		t.Errorf("--version: %+v", r)
	}
}

func TestOutputFormats(t *testing.T) {
	t.Parallel()
	r := report{document: map[string]int{"a": 1}, header: []string{"x", "y"}, rows: [][]string{{"1", "a,b"}, {"2", ""}}}
	write := func(f outputFormat) string {
		var b bytes.Buffer
		if err := f.write(&b, r); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got := write("json"); got != "{\n  \"a\": 1\n}\n" {
		t.Errorf("json: %q", got)
	}
	if got := write("ndjson"); got != "{\"a\":1}\n" {
		t.Errorf("ndjson: %q", got)
	}
	if got := write(""); got != write("ndjson") {
		t.Errorf("in a pipe: %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(write("csv"))).ReadAll()
	if err != nil || len(rows) != 3 || rows[1][1] != "a,b" {
		t.Errorf("csv: %v, %v", rows, err)
	}
	if got := write("table"); !strings.Contains(got, "a,b") || strings.Contains(got, "\x1b") {
		t.Errorf("table: %q", got)
	}
}
