package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/bench/compare"
	"github.com/mqttetl/mqttetl/test/servers"
)

// The pipeline's part is a process of this program, so it is measured here.
func TestBench(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
		{"--mqtt mqtt://h --ca x.pem", exitUsage, "--mqtt: mqtt://h:1883 is without TLS"},
		{"--mqtt mqtts://h --cert x.pem", exitUsage, "--cert and --key belong together"},
		{"--nats tls://h --nats-key x.pem", exitUsage, "--nats-cert and --nats-key belong together"},
		{"--creds x.creds", exitUsage, "--creds is for a given server: which one says --nats"},
		{"--insecure", exitUsage, "--insecure is for a given server: which one says --mqtt"},
		{"--nats mqtt://me:secret@h", exitUsage, "--nats mqtt://***@h: must be nats://host or tls://host"},
		{"--nats nats://127.0.0.1:1 --creds " + dir + "/none.creds --case ^nats/core$", exitIO, "none.creds"},
		{"--throughput -1", exitUsage, "--throughput must be"},
		{"-o xml", exitUsage, "--output must be one of table, json, csv"},
		{"extra", exitUsage, "bench takes no arguments"},
		{"--html " + dir + "/none/report.html", exitIO, "no such file"},
		{"--compare " + broken, exitDamaged, "broken.json: not a report of mqttetl bench"},
		{"--nats nats://127.0.0.1:1 --case ^nats/core$", exitUnreachable, "connection refused"},
		{"--mqtt mqtt://127.0.0.1:1 --case ^mqtt/qos0$", exitUnreachable, "connection refused"},
	} {
		if r := call(t, append([]string{"bench", "--dir", dir}, strings.Fields(v.line)...)...); r.code != v.code || !strings.Contains(r.err, v.want) {
			t.Errorf("bench %s: exit %d: %s", v.line, r.code, r.err)
		}
	}
}

// Given servers that want TLS, a client certificate and a password; once they
// get what they want, and once not.
func TestBenchOfServersWithTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority, err := servers.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := authority.Issue("me", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ca, passwords := authority.CA(), filepath.Join(dir, "passwords")
	if err := os.WriteFile(passwords, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mosquittoOut(t, "", "mosquitto_passwd", "-b", passwords, "me", "s e#cret")
	_, port, _ := net.SplitHostPort(freeAddress(t))
	m, err := servers.StartMosquitto(dir, fmt.Sprintf("sys_interval 1\nmax_queued_messages 0\nlistener %s 127.0.0.1\nrequire_certificate true\nallow_anonymous false\npassword_file %s\ncafile %s\ncertfile %s\nkeyfile %s\n",
		port, passwords, ca, cert, key))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	n, err := servers.StartNATSProcess(t.TempDir(), fmt.Sprintf("tls { ca_file: %q, cert_file: %q, key_file: %q, verify: true }\nauthorization { user: me, password: secret }", ca, cert, key))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Kill()
	args := func(password string, more ...string) []string {
		return append([]string{"bench", "--dir", t.TempDir(), "--duration", "200ms", "--rounds", "1", "--throughput", "0", "-o", "json",
			"--case", "^(pipeline|mqtt/qos1|nats/core|jetstream/memory/async|reference/.*)$",
			"--mqtt", "mqtts://me:s%20e%23cret@127.0.0.1:" + port, "--nats", "nats://me:" + password + "@" + n.Addr()}, more...)
	}
	own := []string{"--ca", ca, "--cert", cert, "--key", key, "--nats-ca", ca, "--nats-cert", cert, "--nats-key", key}
	good := call(t, args("secret", own...)...)
	var r compare.Report
	if err := json.Unmarshal([]byte(good.out), &r); err != nil || good.code != 0 || len(r.Cases) != 8 {
		t.Errorf("exit %d, %d cases, %v: %s", good.code, len(r.Cases), err, good.err)
	}
	for _, c := range r.Cases {
		if c.Error != "" {
			t.Errorf("%s: %s", c.ID, c.Error)
		} else if len(c.Rounds) != 1 || c.Loss || c.Rounds[0].Sent == 0 || c.Subscribers > 0 && c.Rounds[0].Delivered == 0 {
			t.Errorf("%s: %d rounds, loss %v", c.ID, len(c.Rounds), c.Loss)
		}
	}
	if strings.Contains(good.out, "cret") {
		t.Error("a password is in the report")
	}
	for _, v := range []struct {
		args []string
		code int
		want string
	}{
		{args("wrong", own...), exitLogin, "Authorization Violation"},
		{args("secret", own[:6]...), exitFailed, "certificate signed by unknown authority"},
		{args("secret", own[6:]...), exitFailed, "certificate signed by unknown authority"},
	} {
		if r := call(t, v.args...); r.code != v.code || !strings.Contains(r.err, v.want) {
			t.Errorf("%q: exit %d: %s", v.args, r.code, r.err)
		}
	}
}

func TestBenchCommandLine(t *testing.T) {
	t.Parallel()
	got := commandLine([]string{"bench", "--case", "mqtt|nats", "--mqtt", "mqtt://me:secret@h:1883", "it's"})
	if want := `mqttetl bench --case 'mqtt|nats' --mqtt 'mqtt://***@h:1883' 'it'\''s'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
