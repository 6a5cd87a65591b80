package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/internal/simulate"
	"github.com/mqttetl/mqttetl/test/servers"
)

var confirmedAll = regexp.MustCompile(`^sent ([1-9]\d*) = confirmed (\d+) \([^)]+\) in \S+ \(\d+/s\)\n$`)

// The examples of the help, as pasted into a shell, but for the addresses.
func TestSimulateExamplesWork(t *testing.T) {
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	n, err := servers.StartNATSProcess(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Kill()
	help := call(t, "simulate", "--help").out
	_, examples, _ := strings.Cut(help, "Examples:\n")
	examples, _, _ = strings.Cut(examples, "\n\n")
	t.Setenv("PATH", asMqttetl(t)+":"+os.Getenv("PATH"))
	dir, ran := t.TempDir(), 0
	for line := range strings.Lines(examples) {
		line = strings.NewReplacer("mqtt://127.0.0.1:1883", m.URL, "nats://127.0.0.1:4222", n.URL(), "--duration 10s", "--duration 1s", "--duration 5s", "--duration 1s").Replace(strings.TrimSpace(line))
		out, err := inShell(dir, line).Output()
		if ran++; err != nil || !strings.Contains(line, "--example") && !confirmedAll.Match(out) {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	if ran < 5 {
		t.Errorf("only %d examples in\n%s", ran, help)
	}
}

// asMqttetl is a directory with this binary as mqttetl.
func asMqttetl(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "mqttetl")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSimulateExampleScenarioIsOne(t *testing.T) {
	t.Parallel()
	r := call(t, "simulate", "--example")
	s, err := simulate.Parse("example", []byte(r.out))
	if r.code != 0 || err != nil || len(s.Groups) < 4 || s.Duration != time.Minute {
		t.Errorf("exit %d, %v: %+v", r.code, err, s)
	}
}

func TestSimulateUsage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(file, []byte("groups: [{rate: fast}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"":                                {exitUsage, "where to? --to names"},
		"--to http://x":                   {exitUsage, `--to "http://x": must be`},
		"--to mqtt://x --profile toaster": {exitUsage, `--profile "toaster" is not known, there are zigbee2mqtt,`},
		"--to mqtt://x --devices 0":       {exitUsage, "--devices must be from 1 to"},
		"--to mqtt://x --rate -1":         {exitUsage, "--rate must be from 0 to"},
		"--to mqtt://x --jitter 2":        {exitUsage, "--jitter must be from 0 to 1"},
		"--to mqtt://x --qos 3":           {exitUsage, "--qos 3: must be 0, 1 or 2"},
		"--to mqtt://x --stream S":        {exitUsage, "--stream is for NATS, --to is mqtt://x"},
		"--to nats://x --qos 1":           {exitUsage, "--qos is for MQTT, --to is nats://x"},
		"--to nats://x --scenario " + file + " --rate 1": {exitUsage, "--rate: with --scenario"},
		"--to mqtt://x --start noon":                     {exitUsage, `--start must be a time as 2026-01-02T15:04:05Z, not "noon"`},
		"--to mqtt://x --prefix a/#":                     {exitUsage, `--prefix: topic "a/#" contains + or #`},
		"--to mqtt://x --prefix /a":                      {exitUsage, `--prefix "/a" must not begin or end with /`},
		"--to mqtt://x --duration -1s":                   {exitUsage, "--duration must not be negative"},
		"--to mqtt://x --cert c":                         {exitUsage, "--cert and --key belong together"},
		"--to mqtt://x --ca c":                           {exitUsage, "mqtt://x:1883 is without TLS"},
		"--to mqtt://x --scenario " + file:               {exitConfig, file + `:1:17: rate must be a number, not "fast"`},
		"--to mqtt://x --scenario " + file + "x":         {exitConfig, "read scenario: "},
		"--to mqtt://127.0.0.1:99999":                    {exitUsage, "port 99999 is not from 1 to 65535"},
		"--to mqtt://x -V 4":                             {exitUsage, `--mqtt-version must be auto, 5 or 3.1.1, not "4"`},
		"--to mqtt://127.0.0.1:1":                        {exitUnreachable, "connection refused"},
		"--to nats://127.0.0.1:1":                        {exitUnreachable, "connect to NATS"},
	} {
		r := call(t, append([]string{"simulate"}, strings.Fields(line)...)...)
		if r.code != want.code || r.out != "" || !strings.Contains(r.err, want.says) {
			t.Errorf("%s: exit %d, want %d\n%swant %s", line, r.code, want.code, r.err, want.says)
		}
	}
}

// Ctrl-C ends a run without end, and what was sent is confirmed.
func TestSimulateInterrupted(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	code := exec(ctx, []string{"simulate", "--to", m.URL, "--rate", "1000", "--connections", "3"}, nil, &out, &errs)
	if got := confirmedAll.FindStringSubmatch(out.String()); code != 0 || got == nil || got[1] != got[2] {
		t.Errorf("exit %d\n%s%s", code, out.String(), errs.String())
	}
}

func TestSimulateWithoutJetStream(t *testing.T) {
	t.Parallel()
	n, err := embedded.StartNATS(t.TempDir(), func(o *server.Options) { o.JetStream = false })
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	r := call(t, "simulate", "--to", n.URL(), "--stream", "LOAD", "--count", "1")
	if r.code != exitUnreachable || !strings.Contains(r.err, "stream LOAD: JetStream is off on this server") || !strings.Contains(r.err, "\nhint: nats-server -js") {
		t.Errorf("exit %d\n%s", r.code, r.err)
	}
}

func TestSimulateRefusedLogin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none := filepath.Join(dir, "none")
	if err := os.WriteFile(none, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := servers.StartMosquitto(dir, "allow_anonymous false\npassword_file "+none)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	n, err := servers.StartNATSProcess(t.TempDir(), "authorization { user: a, password: b }")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Kill()
	for _, to := range []string{m.URL, n.URL()} {
		if r := call(t, "simulate", "--to", to, "--count", "1"); r.code != exitLogin {
			t.Errorf("%s: exit %d\n%s", to, r.code, r.err)
		}
	}
	user := strings.Replace(n.URL(), "nats://", "nats://a:b@", 1)
	if r := call(t, "simulate", "--to", user, "--count", "10", "--rate", "0"); r.code != 0 || !confirmedAll.MatchString(r.out) {
		t.Errorf("exit %d\n%s%s", r.code, r.out, r.err)
	}
}
