package main

import (
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mqttetl/mqttetl/deploy"
)

// everyDocument is README and all documents below docs, in one.
func everyDocument(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, text := range documents(t) {
		b.WriteString(text)
	}
	return b.String()
}

func TestDocumentsNameEveryCommandAndFlagAndNoOther(t *testing.T) {
	t.Parallel()
	text := everyDocument(t)
	flags := map[string]bool{}
	for _, name := range strings.Fields(othersFlags) {
		flags[name] = true
	}
	// Their options are mosquitto's, which the documents say instead of a list.
	mosquittos := map[string]bool{"pub": true, "sub": true, "test": true}
	visit(newRoot(streams{}), func(cmd *cobra.Command) {
		if cmd.HasParent() && !cmd.HasSubCommands() && !strings.Contains(text, "`"+cmd.CommandPath()+"`") {
			t.Errorf("no document names %s", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || f.Name == "version" {
				return
			}
			flags["--"+f.Name] = true
			if !mosquittos[cmd.Name()] && !strings.Contains(text, "`--"+f.Name+"`") {
				t.Errorf("no document names --%s of %s", f.Name, cmd.CommandPath())
			}
		})
	})
	for _, name := range regexp.MustCompile(`--[a-z][a-z_-]+`).FindAllString(text, -1) {
		if !flags[name] {
			t.Errorf("a document names %s, which no command has", name)
		}
	}
}

// othersFlags are those of other programs that the documents name.
const othersFlags = `--include_imports --now --no-block --replicas --server --nolock
	--hostname --ca --client-id --will_message --will_topic --will_qos --will_retain --topic_p --topic_s`

// A document that names a file or a chapter of another one has it.
func TestDocumentsHaveWhatTheyLinkTo(t *testing.T) {
	t.Parallel()
	texts := documents(t)
	for _, more := range []string{"docs/import.md", "DESIGN.md", "CHANGELOG.md", "bench/RESULTS.md"} {
		b, err := os.ReadFile("../../" + more)
		if err != nil {
			t.Fatal(err)
		}
		texts[more] = string(b)
	}
	for name, text := range texts {
		for _, m := range regexp.MustCompile(`\]\(([^):#]*)(?:#([^)]+))?\)`).FindAllStringSubmatch(text, -1) {
			path := name
			if m[1] != "" {
				path = strings.TrimPrefix(filepath.Join("/"+filepath.Dir(name), m[1]), "/")
			}
			if _, err := os.Stat("../../" + path); err != nil {
				t.Errorf("%s links to %s: %v", name, m[0], err)
			}
			if m[2] != "" && !slices.Contains(anchors(texts[path]), m[2]) {
				t.Errorf("%s links to %s: no such chapter, there are %s", name, m[0], anchors(texts[path]))
			}
		}
	}
}

// anchors are the names that GitHub gives to the chapters of a document.
func anchors(text string) (list []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		list = append(list, strings.ReplaceAll(regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return list
}

func TestConfigDocumentHasTheDefaultsOfTheExample(t *testing.T) {
	t.Parallel()
	rows := regexp.MustCompile("(?m)^\\| `([a-z_.\\[\\]]+)` \\| (?:`([^`]+)`|[^|`]+) \\|").FindAllStringSubmatch(documents(t)["docs/config.md"], -1)
	if len(rows) < 50 {
		t.Fatalf("only %d rows of the configuration table were understood", len(rows))
	}
	for _, row := range rows {
		key, value := row[1][strings.LastIndex(row[1], ".")+1:], row[2]
		value = strings.ReplaceAll(value, "<name>", "default")
		if !strings.Contains(deploy.Example, key+":") {
			t.Errorf("the example has no %s", key)
		}
		if value != "" && !regexp.MustCompile(key+`: "?`+regexp.QuoteMeta(value)+`\b`).MatchString(deploy.Example) {
			t.Errorf("%s: the example's default is not %s", row[1], value)
		}
	}
}

func TestDocumentsHaveWhatHintsPointTo(t *testing.T) {
	t.Parallel()
	m := regexp.MustCompile(`\((docs/[a-z]+\.md), ([^)]+)\)`).FindStringSubmatch(hintRestore)
	if m == nil || !strings.Contains(documents(t)[m[1]], "\n## "+m[2]+"\n") {
		t.Errorf("%q: no such chapter", hintRestore)
	}
}

// README says that nothing was lost.
func TestNothingWasLost(t *testing.T) {
	t.Parallel()
	rows := regexp.MustCompile(`(?m)^\| [a-z]+ \| .* \| \d+ \| \d+ \| (\d+) \| (\d+) \| \d+ \|`).FindAllStringSubmatch(documents(t)["docs/reliability.md"], -1)
	if len(rows) < 10 {
		t.Fatalf("only %d campaigns were understood", len(rows))
	}
	for _, row := range rows {
		if row[1] != "0" || row[2] != "0" {
			t.Errorf("lost %s, duplicated %s: %s", row[1], row[2], row[0])
		}
	}
}

func inShell(dir, line string) *osexec.Cmd {
	cmd := osexec.Command("sh", "-c", line)
	cmd.Dir = dir
	return cmd
}

// Every metric that a document names is one of the program.
func TestDocumentsNameMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	err := filepath.WalkDir("../..", func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			var b []byte
			b, err = os.ReadFile(path)
			code.Write(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`mqttetl_([a-z_]+[a-z])\b`).FindAllStringSubmatch(everyDocument(t), -1)
	if len(names) < 20 {
		t.Fatalf("only %d metrics were found", len(names))
	}
	for _, name := range names {
		if !strings.Contains(code.String(), name[1]+`"`) {
			t.Errorf("a document names %s, which no part of the program has", name[0])
		}
	}
}
