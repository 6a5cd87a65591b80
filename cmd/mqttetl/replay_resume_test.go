package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// What --resume names and is not this replay's is told as that, and left alone.
func TestReplayOtherResumeFile(t *testing.T) {
	t.Parallel()
	path, dir := archiveOf(t, minute()), t.TempDir()
	position, conf, fifo := filepath.Join(dir, "position"), filepath.Join(dir, "mqttetl.yaml"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(conf, []byte("sources: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "b.db")
	a, err := archive.Open(foreign, "ffffffffffffffff")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Append([]mqttetl.Record{{Seq: 1, Source: "x", Message: mqttetl.Message{Topic: []byte("t")}}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	base := []string{"replay", "--to", "-", "--speed", "max", "--archive"}
	mqttetlOut(t, exitOK, slices.Concat(base, []string{path, "--since", "2023-11-14 00:00", "--limit", "5", "--resume", position})...)
	for _, c := range []struct {
		archive, flags, file string
		code                 int
		want                 []string
	}{
		{path, "--limit 5 --since 2023-11-14", position, exitUsage, []string{"--since: 2023-11-14 00:00 → 2023-11-14\n"}},
		{path, "--limit 6 -t t/#", position, exitUsage, []string{"--since: 2023-11-14 00:00 → none, --topic: none → [\"t/#\"], --limit: 5 → 6\n"}},
		{foreign, "--limit 5 --since=2023-11-14_00:00", position, exitDamaged, []string{"of a replay of log 00112233445566aa, not of log ffffffffffffffff"}},
		{path, "", conf, exitUsage, []string{"--resume " + conf + ": not a resume file", "names another file"}},
		{path, "", fifo, exitUsage, []string{"a FIFO", "name a file that is absent"}},
		{path, "", "/dev/null", exitUsage, []string{"a device"}},
		{path, "", dir, exitUsage, []string{"a directory"}},
	} {
		args := slices.Concat(base, []string{c.archive, "--resume", c.file}, strings.Fields(c.flags))
		for i, arg := range args {
			args[i] = strings.ReplaceAll(arg, "_", " ")
		}
		out, said := mqttetlOut(t, c.code, args...)
		for _, want := range c.want {
			if !strings.Contains(said, want) || out != "" || strings.Contains(said, "delete") {
				t.Errorf("%s %s: %q, want %q", c.file, c.flags, said, want)
			}
		}
	}
	if text, err := os.ReadFile(conf); err != nil || string(text) != "sources: []\n" {
		t.Errorf("the configuration is %q, %v", text, err)
	}
}
