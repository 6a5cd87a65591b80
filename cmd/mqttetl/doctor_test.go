package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/mqttetl/mqttetl/internal/servers"
)

// diagnosis is what doctor -o json prints.
type diagnosis struct {
	OK       bool
	Failures int
	Checks   []finding
}

func diagnose(t *testing.T, config string) (diagnosis, outcome) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mqttetl.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	r := call(t, "doctor", "-c", path, "-o", "json")
	var d diagnosis
	if err := json.Unmarshal([]byte(r.out), &d); err != nil {
		t.Fatalf("exit %d, %v\n%s%s", r.code, err, r.out, r.err)
	}
	return d, r
}

// find returns the level and text of a check.
func (d diagnosis) find(part, check string) string {
	for _, f := range d.Checks {
		if f.Part == part && f.Check == check {
			return f.Level + " " + f.Text + " " + f.Advice
		}
	}
	return "not there"
}

func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "password")
	if err := os.WriteFile(open, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := servers.StartMosquitto(dir, "max_inflight_messages 50")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	n, err := servers.StartNATS(filepath.Join(dir, "js"), func(*server.Options) {})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	d, r := diagnose(t, fmt.Sprintf(`sources:
  - {name: five, url: %q, subscribe: ["a/#"], client_id: a}
  - {name: old, url: %q, subscribe: ["a/#"], client_id: b, version: "3.1.1", username: u, password_file: %q}
log: {dir: %q}
archive: {path: %q}
nats: {url: %q}
`, m.URL, m.URL, open, filepath.Join(dir, "new", "log"), filepath.Join(dir, "a.db"), n.URL()))
	if r.code != 0 || !d.OK {
		t.Errorf("exit %d: %s\n%s", r.code, r.err, r.out)
	}
	for what, want := range map[[2]string]string{
		{"log", "commit time"}:         "median ",
		{"source five", "login"}:       "ok accepted, MQTT 5",
		{"source old", "login"}:        "ok accepted, MQTT 3.1.1",
		{"source old", "subscription"}: "ok filter a/#: QoS 1 granted",
		{"source old", "window"}:       "warn the broker sends 50 messages",
		{"source five", "ceiling"}:     "ok about ",
		{"source old", "secret"}:       "warn " + open + " is open to others (-rw-r--r--) chmod 600",
		{"nats", "reachable"}:          "ok ",
		{"nats", "jetstream"}:          "ok ",
		{"nats", "stream"}:             "ok TELEMETRY does not exist; run will create it",
	} {
		if got := d.find(what[0], what[1]); !strings.Contains(got, want) {
			t.Errorf("%v: %s, want %s", what, got, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".mqttetl-doctor-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDoctorFails(t *testing.T) {
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules")
	if err := os.WriteFile(rules, []byte("topic read ok/#\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := servers.StartMosquitto(dir, "acl_file "+rules)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	d, r := diagnose(t, fmt.Sprintf(`sources:
  - {name: gone, url: "mqtt://127.0.0.1:1", subscribe: ["a/#"], client_id: a}
  - {name: tls, url: "mqtts://%s", subscribe: ["a/#"], client_id: b}
  - {name: rules, url: %q, subscribe: ["ok/#"], client_id: c}
log: {dir: %q}
nats: {url: "nats://127.0.0.1:1"}
`, m.Addr, m.URL, dir))
	if r.code != exitFailed || d.OK || d.Failures != 3 || !strings.Contains(r.err, "3 of ") {
		t.Errorf("exit %d, %d failures: %s\n%s", r.code, d.Failures, r.err, r.out)
	}
	for what, want := range map[[2]string]string{
		{"source gone", "reachable"}: "connection refused start the broker",
		{"source tls", "reachable"}:  "fail TLS with",
		{"source rules", "window"}:   "warn not measured",
		{"nats", "reachable"}:        "fail ",
	} {
		if got := d.find(what[0], what[1]); !strings.Contains(got, want) {
			t.Errorf("%v: %s, want %s", what, got, want)
		}
	}
}
