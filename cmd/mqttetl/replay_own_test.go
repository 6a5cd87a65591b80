package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/test/servers"
)

// Who plays to the broker that is recorded hears what that means, once.
func TestReplayToOwnBroker(t *testing.T) {
	t.Parallel()
	path, dir := archiveOf(t, minute()), t.TempDir()
	own, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Kill()
	other, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Kill()
	conf := filepath.Join(dir, "mqttetl.yaml")
	text := fmt.Sprintf("sources: [{name: a, url: \"%[1]s\", subscribe: [\"t/#\"]}, {name: b, url: \"%[1]s\", subscribe: [\"u\"], client_id: b}]\nlog: {dir: %[2]s/log}\narchive: {path: %[3]s}\n",
		own.URL, dir, path)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to, from string
		warned   int
	}{
		{own.URL, "-c=" + conf, 1},
		{strings.Replace(own.URL, "127.0.0.1", "localhost", 1), "-c=" + conf, 1},
		{other.URL, "-c=" + conf, 0},
		{"-", "-c=" + conf, 0},
		{own.URL, "--archive=" + path, 0},
	} {
		_, said := mqttetlOut(t, exitOK, "replay", "--limit", "2", "--to", c.to, c.from)
		if strings.Count(said, "is recorded again") != c.warned || strings.Count(said, "\n") != c.warned+1 || c.warned == 1 && !strings.Contains(said, "(t/#)") {
			t.Errorf("%s %s: %s", c.to, c.from, said)
		}
	}
}
