package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/sink/history"
)

// An archive that was put back from an older copy, beside a log that has gone on,
// is told by everything that reads the two.
func TestOlderArchiveIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	conf := fmt.Sprintf("sources: [{name: none, url: \"mqtt://127.0.0.1:1\", subscribe: [\"#\"]}]\nlog: {dir: %q}\narchive: {path: %q}\n", at("log"), at("a.db"))
	lines := strings.Repeat(`{"topic":"a","payload":"x"}`+"\n", 1000)
	for name, text := range map[string]string{"c.yaml": conf, "lines": lines} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func() { mqttetlOut(t, 0, "import", "-c", at("c.yaml"), at("lines")) }
	load()
	old, err := os.ReadFile(at("a.db"))
	if err != nil {
		t.Fatal(err)
	}
	load()
	load() // what is archived is trimmed with the next commit
	if err := os.WriteFile(at("a.db"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := mqttetlOut(t, 0, "verify", "-c", at("c.yaml"))
	var v history.Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || len(v.Archive.Gaps) != 1 || v.Archive.Gaps[0].First != 1001 || v.Archive.Gaps[0].Last != v.Log.First-1 {
		t.Errorf("verify: %v, %s", err, out)
	}
	want := fmt.Sprintf("records 1001 to %d are missing", v.Log.First-1)
	for _, args := range [][]string{{"export"}, {"query", "--count"}, {"replay", "--to", "-", "--speed", "max"}} {
		if _, said := mqttetlOut(t, 0, append(args, "-c", at("c.yaml"))...); !strings.Contains(said, want) {
			t.Errorf("%s does not say %q: %s", args[0], want, said)
		}
	}
}
