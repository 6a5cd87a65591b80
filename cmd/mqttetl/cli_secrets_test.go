package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/test/servers"
)

// planted stands in every password and token of these tests, digits in those that
// are numbers.
const planted, plantedNumber = "hushhush", "31415926535"

// wantNoSecret fails if a text holds what was planted.
func wantNoSecret(t *testing.T, what, text string) {
	t.Helper()
	for _, s := range []string{planted, plantedNumber} {
		if i := strings.Index(text, s); i >= 0 {
			t.Errorf("%s holds a secret: %q", what, text[max(0, i-200):min(len(text), i+100)])
		}
	}
}

// A configuration that is wrong is told without its secrets, by every command.
func TestBadConfigurationKeepsItsSecrets(t *testing.T) {
	t.Parallel()
	const rest = "log: {dir: ./l}\narchive: {path: ./a.db}\nhttp: {listen: '127.0.0.1:0'}\n"
	source := func(url, more string) string {
		return "sources:\n - name: a\n   url: " + url + "\n   subscribe: [x]\n   " + more + "\n" + rest
	}
	var configs []string
	for _, line := range []string{
		"password: N", "username: u\n   password: N", "password: [S]", "password: {a: S}", "password: S: x", `password: "S`, "password: 'S\n", "password: *S",
		"password: &S", "password: 0xN", "pasword: S", "password: ${none}S", "password: ${S", "password: ${1S}", "password: |\n     S\n    bad", "password: @S", "password: `S",
		"password: %S", "password:S", `password: "\S"`, "username: u\n   username: u\n   password: S\n   password: S", "password: S\x01", "passwd: S", "token: S", "auth: {password: S}",
	} {
		configs = append(configs, source("mqtt://127.0.0.1:1", line))
	}
	for _, url := range []string{
		"mqtt://u:S@h", "mqtt://u:S%zz@h", "mqtt://u:/S@h", "mqtt://S@h", "mqtt:/u:S@h", "u:S@h", "mqtt://u:S@h/topic", "http://u:S@h", "[mqtt://u:S@h]",
		"{a: mqtt://u:S@h}", "mqtt://h?password=S", "ws://h:x/?token=S", "ws://h/?token=S#x", `"mqtt://u:S@h`, "mqtt://u:#S@h", "mqtt://u: S@h", "- mqtt://u:S@h",
	} {
		configs = append(configs, source(url, ""))
	}
	for _, nats := range []string{
		"{url: 'nats://u:S%zz@h'}", "{url: 'nats://a,nats://u:S%zz@h'}", "{url: 'foo://u:S@h'}", "{url: [nats://u:S@h]}", "{password: S}", "{token: N}",
		"{url: nats://u:S@h: x}", "{url: 'u:S@h:4222'}", "{url: 'nats://S@h:x'}",
	} {
		configs = append(configs, source("mqtt://127.0.0.1:1", "")+"nats: "+nats+"\n")
	}
	path := filepath.Join(t.TempDir(), "mqttetl.yaml")
	for _, text := range configs {
		writeFile(t, path, strings.NewReplacer("S", planted, "N", plantedNumber).Replace(text))
		for _, command := range []string{"config check", "run", "status", "verify", "import", "doctor"} {
			r := call(t, append(strings.Fields(command), "-c", path)...)
			wantNoSecret(t, command+" of\n"+text, r.out+r.err)
			if command == "config check" && r.code == exitOK {
				break // it is a good one: the others would begin to work
			}
		}
	}
}

// What is wrong on a command line is told without its secrets.
func TestBadCommandLineKeepsItsSecrets(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"pub -t a -m x -L mqtt://u:S%zz@h/a", "pub -t a -m x -L u:S@h", "pub -h 127.0.0.1 -p 1 -t a -m x -u u -P S", "pub -h 127.0.0.1 -p 1 -t a -m x -P S",
		"pub -h 127.0.0.1 -p 1 -t a -m x --proxy socks5h://u:S%zz@h:1", "pub -h 127.0.0.1 -p 1 -t a -m x --proxy socks5h://u:S@127.0.0.1:1", "sub -L mqtt://u:S@127.0.0.1:1/a -W 1",
		"sub -h 127.0.0.1 -p x -t a -u u -P S", "sub -L ws://u:S@127.0.0.1:1/mqtt?token=S -t a", "pub -t a -m x --pw S --pw", "pub -t a -m x -d -h 127.0.0.1 -p 1 -u u -P S",
		"replay --archive none.db --to nats://u:S@127.0.0.1:1", "replay --archive none.db --to nats://u:S%zz@h", "replay --archive none.db --to mqtt:/u:S@h",
		"replay --archive none.db --to http://u:S@h", "simulate --count 1 --to mqtt://u:S@127.0.0.1:1", "simulate --count 1 --to nats://u:S@127.0.0.1:1", "simulate --count 1 --to nats://S@h:x",
		"simulate --count 1 --to mqtt://u:S@h/topic", "bench --nats nats://u:S@127.0.0.1:1 --duration 10ms", "bench --mqtt mqtt://u:S@127.0.0.1:1 --duration 10ms", "bench --mqtt mqtt://u:S%zz@h",
		"test mqtt://u:S@h", "test 127.0.0.1 -p 1 -u u -P S",
	} {
		r := call(t, strings.Fields(strings.ReplaceAll(line, "S", planted))...)
		if r.code == exitOK {
			t.Errorf("%s: ends with 0", line)
		}
		wantNoSecret(t, line, r.out+r.err)
	}
}

// A service whose logins are refused tells so everywhere without its secrets; nor
// are those of a service that works to be seen.
func TestServiceKeepsItsSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	passwords := filepath.Join(dir, "passwords")
	writeFile(t, passwords, "")
	mosquittoOut(t, "", "mosquitto_passwd", "-b", passwords, "me", planted)
	b, err := servers.StartMosquitto(t.TempDir(), "allow_anonymous false\npassword_file "+passwords)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop() })
	n, err := servers.StartNATSProcess(t.TempDir(), "authorization { user: me, password: "+planted+" }")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Kill() })
	for what, wrong := range map[string]string{"refused": "x", "taken": ""} {
		s := newSite(t, "", "")
		writeFile(t, s.config, fmt.Sprintf("sources: [{name: plant, url: %q, username: me, password: %q, subscribe: ['#']}]\nlog: {dir: %q, max_size: 64MiB}\narchive: {path: %q}\n"+
			"nats: {url: 'nats://me:%s@%s'}\nhttp: {listen: %q}\n", b.URL, planted+wrong, s.logDir(), s.archive(), planted+wrong, n.Addr(), s.listen))
		p := start(t, nil, "run", "-c", s.config, "--log-level", "debug")
		page := func(path string) string { _, body := s.get(path); return body }
		eventually(t, what+": the service says so", func() bool {
			ready := page("/readyz")
			if wrong == "" {
				return strings.Contains(page("/status"), `"connected":true`) && ready != ""
			}
			return strings.Contains(strings.ToLower(ready), "nats") && strings.Contains(ready, "plant")
		})
		for _, path := range []string{"/status", "/readyz", "/metrics", "/healthz", "/debug/pprof/cmdline", "/"} {
			wantNoSecret(t, what+": "+path, page(path))
		}
		for _, command := range []string{"status", "status --output json", "doctor", "config check", "verify", "query", "transform --help", "dead-letters"} {
			r := call(t, append(strings.Fields(command), "-c", s.config)...)
			wantNoSecret(t, what+": "+command, r.out+r.err)
		}
		p.Process.Signal(os.Interrupt)
		<-p.done
		if p.err.Len() == 0 {
			t.Error(what + ": the service has logged nothing")
		}
		wantNoSecret(t, what+": its log", p.err.String())
	}
}
