package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/bench/compare"
)

// The pipeline's part is a process of this program, so it is measured here.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	earlier, page, numbers := filepath.Join(dir, "earlier.json"), filepath.Join(dir, "report.html"), filepath.Join(dir, "report.csv")
	args := []string{"bench", "--dir", dir, "--duration", "200ms", "--rounds", "1", "--throughput", "100", "--case", "^(pipeline|jetstream/file/sync)"}
	first := call(t, append(args, "-o", "json")...)
	if first.code != 0 {
		t.Fatalf("exit %d: %s", first.code, first.err)
	}
	var r compare.Report
	if err := json.Unmarshal([]byte(first.out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) != 3 || len(r.Servers) != 3 {
		t.Errorf("%d cases, %d servers", len(r.Cases), len(r.Servers))
	}
	for _, c := range r.Cases {
		if len(c.Rounds) != 1 || c.Loss || c.Disagrees || c.Rounds[0].Delivered == 0 || len(c.Rounds[0].Counters) == 0 {
			t.Errorf("%s: %+v", c.ID, c.Rounds)
			continue
		}
		for id, cpu := range c.Rounds[0].ServerCPU {
			if cpu <= 0 {
				t.Errorf("%s: no CPU of %s", c.ID, id)
			}
		}
		if len(c.Rounds[0].ServerCPU) != len(c.Servers) {
			t.Errorf("%s: CPU of %v", c.ID, c.Rounds[0].ServerCPU)
		}
	}
	if err := os.WriteFile(earlier, []byte(first.out), 0o600); err != nil {
		t.Fatal(err)
	}
	second := call(t, append(args, "--compare", earlier, "--html", page, "--csv", numbers)...)
	if second.code != 0 || !strings.Contains(second.out, "JetStream file, sync") || !strings.Contains(second.out, r.Started.Local().Format("15:04")) {
		t.Errorf("exit %d: %s%s", second.code, second.out, second.err)
	}
	for name, want := range map[string]string{page: "<svg", numbers: "jetstream/file/sync"} {
		if b, err := os.ReadFile(name); err != nil || !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

func TestBenchRefuses(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		line string
		code int
		want string
	}{
		{"--size 15", exitUsage, "--size must be from 16"},
		{"--size 16,abc", exitUsage, `--size must be whole numbers with commas, not "16,abc"`},
		{"--clients 1.5", exitUsage, `--clients must be whole numbers with commas, not "1.5"`},
		{"--throughput 1.5,x", exitUsage, `--throughput must be numbers with commas, not "1.5,x"`},
		{"--rounds x", exitUsage, `--rounds must be a whole number, not "x"`},
		{"--rounds 0", exitUsage, "--rounds must be at least 1"},
		{"--duration 1ms", exitUsage, "--duration must be at least 100ms"},
		{"--case (", exitUsage, "--case: "},
		{"--case nothing-has-this-name", exitUsage, "--case matches nothing"},
		{"--mqtt nowhere", exitUsage, "--mqtt: "},
		{"--throughput -1", exitUsage, "--throughput must be"},
		{"-o xml", exitUsage, "--output must be one of table, json, csv"},
		{"extra", exitUsage, "bench takes no arguments"},
		{"--html " + dir + "/none/report.html", exitIO, "no such file"},
		{"--compare " + broken, exitFailed, "broken.json"},
		{"--nats nats://127.0.0.1:1 --case ^nats/core$ --throughput 0", exitFailed, "1 of 1 cases could not be measured"},
	} {
		if r := call(t, append([]string{"bench", "--dir", dir}, strings.Fields(v.line)...)...); r.code != v.code || !strings.Contains(r.err, v.want) {
			t.Errorf("bench %s: exit %d: %s", v.line, r.code, r.err)
		}
	}
}

func TestBenchCommandLine(t *testing.T) {
	got := commandLine([]string{"bench", "--case", "mqtt|nats", "--mqtt", "mqtt://me:secret@h:1883", "it's"})
	if want := `mqttetl bench --case 'mqtt|nats' --mqtt mqtt://me:xxxxx@h:1883 'it'\''s'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
