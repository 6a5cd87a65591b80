package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/mqttetl/mqttetl/internal/doctor"
	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/internal/reporters"
	"github.com/mqttetl/mqttetl/test/servers"
)

// diagnosis is what doctor -o json prints.
type diagnosis struct {
	OK       bool
	Failures int
	Checks   []doctor.Finding
}

func diagnose(t *testing.T, config string, more ...string) (diagnosis, outcome) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mqttetl.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	r := call(t, append([]string{"doctor", "-c", path, "-o", "json"}, more...)...)
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
	t.Parallel()
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
	n, err := embedded.StartNATS(filepath.Join(dir, "js"), func(*server.Options) {})
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
`, m.URL, m.URL, open, filepath.Join(dir, "new", "log"), filepath.Join(dir, "a.db"), n.URL()), "--probe")
	if r.code != 0 || !d.OK {
		t.Errorf("exit %d: %s\n%s", r.code, r.err, r.out)
	}
	for what, want := range map[[2]string]string{
		{"log", "commit time"}:         "median ",
		{"source five", "login"}:       "ok accepted, MQTT 5",
		{"source old", "login"}:        "ok accepted, MQTT 3.1.1",
		{"source old", "subscription"}: "ok filter a/#: QoS 1 granted",
		{"source old", "window"}:       "warn the broker sends 50 messages",
		{"source five", "ceiling"}:     "ok measured ",
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
	t.Parallel()
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
`, m.Addr, m.URL, dir), "--probe")
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

// Without --probe nothing is published: a service that subscribes to # records
// nothing. What it knows of the broker's losses doctor takes from it.
func TestDoctorBesideTheService(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "sys_interval 1\nmax_queued_messages 5\nmax_inflight_messages 1")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	host, port, _ := net.SplitHostPort(m.Addr)
	at := []string{"-h", host, "-p", port}
	mqttetlOut(t, 0, append([]string{"sub"}, append(at, "-t", "d", "-q", "1", "-c", "-i", "away", "-E")...)...)
	s := newSite(t, m.URL, "")
	start(t, nil, "run", "-c", s.config)
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	metric := func() string {
		body, err := reporters.Get(t.Context(), s.listen, "/metrics")
		if err != nil {
			return ""
		}
		defer body.Close()
		all, _ := io.ReadAll(body)
		return string(all)
	}
	eventually(t, "connected", func() bool { return strings.Contains(metric(), `mqttetl_source_connected{source="plant"} 1`) })
	d, _ := diagnose(t, string(text))
	if got := d.find("source plant", "window"); !strings.HasPrefix(got, "ok not measured doctor --probe measures it") {
		t.Errorf("window: %s", got)
	}
	if got := metric(); !strings.Contains(got, `mqttetl_received_messages_total{qos="1",source="plant"} 0`) {
		t.Errorf("doctor was recorded:\n%s", got)
	}
	for range 50 {
		mqttetlOut(t, 0, append([]string{"pub"}, append(at, "-t", "d", "-m", "x", "-q", "1")...)...)
	}
	eventually(t, "the broker tells what it has dropped", func() bool {
		return strings.Contains(metric(), `mqttetl_broker_dropped_messages{source="plant"} 4`)
	})
	d, _ = diagnose(t, string(text))
	if got := d.find("source plant", "broker drops"); !regexp.MustCompile(`^warn 4\d messages since the broker started, the running service was told let the broker queue more`).MatchString(got) {
		t.Errorf("broker drops: %s", got)
	}
}

// What to do is about what is wrong.
func TestDoctorAdvice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, _ := diagnose(t, fmt.Sprintf(`sources:
  - {name: unknown, url: "mqtt://broker.invalid", subscribe: ["#"], client_id: a}
  - {name: file, url: "mqtt://127.0.0.1:1", subscribe: ["#"], client_id: b, username: u, password_file: %q}
log: {dir: %q}
`, dir, filepath.Join(dir, "log")))
	if got := d.find("source unknown", "reachable"); !strings.Contains(got, "/etc/") || strings.Contains(got, "start the broker") {
		t.Errorf("an unknown host: %s", got)
	}
}

// An interruption is none of the findings, and ends doctor at once whatever it waits for.
func TestDoctorInterrupted(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	dir := t.TempDir()
	for name, c := range map[string]string{
		"a broker": `sources: [{name: a, url: "mqtt://` + silent.Addr().String() + `", subscribe: ["#"]}]`,
		"NATS":     `sources: [{name: a, url: "mqtt://127.0.0.1:1", subscribe: ["#"]}]` + "\n" + `nats: {url: "nats://` + silent.Addr().String() + `"}`,
	} {
		path := filepath.Join(dir, "c.yaml")
		if err := os.WriteFile(path, []byte(c+"\nlog: {dir: "+dir+"/log}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := start(t, nil, "doctor", "-c", path)
		conn, err := silent.Accept() // and it waits for an answer
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.Process.Signal(os.Interrupt)
		<-p.done
		if took := time.Since(began); took > 2*time.Second || p.err.String() != "mqttetl: interrupted\n" {
			t.Errorf("%s: after %v: %s", name, took, p.err.String())
		}
		conn.Close()
	}
}

// Beside the service, doctor says what it writes, as the kernel counts it, and
// what a larger interval would save.
func TestDoctorSaysWhatIsWritten(t *testing.T) {
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	s := newSite(t, m.URL, "")
	service := start(t, nil, "run", "-c", s.config)
	eventually(t, "subscribed", func() bool {
		_, text := s.get("/metrics")
		return strings.Contains(text, `mqttetl_source_connected{source="plant"} 1`)
	})
	publishEvery(t, m.Addr, 10*time.Millisecond)
	written := func() (n float64) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", service.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Sscan(regexp.MustCompile(`\nwrite_bytes: (\d+)`).FindStringSubmatch(string(text))[1], &n)
		return n
	}
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	before, began := written(), time.Now()
	d, _ := diagnose(t, string(text))
	want := (written() - before) / time.Since(began).Seconds() * 86400 / 1e9
	got := d.find("service", "writes")
	said := regexp.MustCompile(`^ok (\S+) messages and (\S+) commits a second, \d+ kB/s: (\S+) GB a day, measured for 5 s log.commit_interval: 100ms would save about (\S+) GB a day; a PUBACK then takes up to 100ms$`).FindStringSubmatch(got)
	if said == nil {
		t.Fatalf("writes: %s", got)
	}
	var messages, commits, day, saved float64
	fmt.Sscan(strings.Join(said[1:], " "), &messages, &commits, &day, &saved)
	if messages < 50 || messages > 110 || commits < 10 || commits > 30 || day < want*0.7 || day > want*1.4 || saved <= 0 || saved >= day {
		t.Errorf("%s; the kernel says %.1f GB a day", got, want)
	}
}

// An interval that holds up a broker with a small window is said with the number
// that was measured.
func TestIntervalThatHoldsUpABroker(t *testing.T) {
	m, err := servers.StartMosquitto(t.TempDir(), "") // 20 in flight
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	dir := t.TempDir()
	config := func(version, interval string) string {
		return fmt.Sprintf("sources: [{name: plant, url: %q, version: %q, subscribe: [\"a/#\"]}]\nlog: {dir: %q, commit_interval: %s}\n", m.URL, version, filepath.Join(dir, "log"), interval)
	}
	d, _ := diagnose(t, config("3.1.1", "2s"))
	if got := d.find("source plant", "commit interval"); !strings.HasPrefix(got, "warn a broker of MQTT 3.1.1 has 20 messages in flight; with log.commit_interval 2s it sends 10 a second at most") {
		t.Errorf("without a probe: %s", got)
	}
	d, _ = diagnose(t, config("3.1.1", "2s"), "--probe")
	got := d.find("source plant", "commit interval")
	said := regexp.MustCompile(`^warn log.commit_interval 2s and a window of 20 let a backlog come at (\d+) messages/s over time; (\d+) were measured lower `).FindStringSubmatch(got)
	ceiling := regexp.MustCompile(`^ok measured (\d+) messages/s: (\d+) small ones with QoS 1 in (\S+), `).FindStringSubmatch(d.find("source plant", "ceiling"))
	if said == nil || ceiling == nil || said[2] != ceiling[1] {
		t.Fatalf("%s; %s", got, d.find("source plant", "ceiling"))
	}
	var most, measured, n float64
	fmt.Sscan(said[1]+" "+said[2]+" "+ceiling[2], &most, &measured, &n)
	took, err := time.ParseDuration(ceiling[3])
	if err != nil || measured > n/took.Seconds() || most > measured/2 {
		t.Errorf("%s; %.0f in %v are %.0f a second", got, n, took, n/took.Seconds())
	}
	for _, version := range []string{"5", "auto"} { // half of receive_maximum is committed for at once
		d, _ = diagnose(t, config(version, "2s"), "--probe")
		if got := d.find("source plant", "commit interval"); got != "not there" {
			t.Errorf("MQTT 5: %s", got)
		}
	}
}
