package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

func TestToolUsage(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"pub -t a/# -m x":                          `topic "a/#" contains + or #`,
		"pub -t a":                                 "what to publish?",
		"pub -m x":                                 "where to?",
		"pub -t a -m x -n":                         "exclude one another",
		"pub -t a -m x -q 3":                       "QoS is 0, 1 or 2",
		"pub -t a -m x -V 4":                       "must be auto, 5 or 3.1.1",
		"pub -t a -m x extra":                      `unexpected argument "extra"`,
		"pub -t a -m x -D publish content-type":    "want packet, name and value",
		"pub -t a -m x -D publish nonsense x":      `publish has no property "nonsense"`,
		"pub -t a -m x -D nonsense user-property":  "want packet, name and value",
		"pub -t a -m x -V 311 -x 5":                "needs MQTT 5",
		"pub -t a -m x --will-payload y":           "--will-topic",
		"pub -t a -m x --cert y":                   "--cert and --key",
		"pub -t a -m x -L http://h/x":              "scheme",
		"sub -t a/#/b":                             "# is allowed only at the end",
		"sub -t +x":                                "whole levels",
		"sub -t $share/g":                          "$share/<group>/<filter>",
		"sub":                                      "what to subscribe to?",
		"sub -t a -q 3":                            "QoS is 0, 1 or 2",
		"sub -t a -F %z":                           "unknown letter 'z'",
		"sub -t a -F x%":                           "ends within a sequence",
		"pub -h b:1 -t a -m x":                     "-h b:1: -p takes the port",
		"pub -h mqtt://b -t a -m x":                "-h mqtt://b: -L takes a URL",
		"sub a/b":                                  `unexpected argument "a/b"; -t names a topic`,
		"sub -t a -C one":                          `--count must be a whole number, not "one"`,
		"test --interval 1":                        `--interval must be a duration such as 500ms or 30s, not "1"`,
		"doctor mqttetl.yaml":                      "-c FILE names the configuration",
		"sub -t a -C 0":                            "-C must be",
		"sub -t a -W 0":                            "-W must be",
		"sub -t a -c":                              "-c needs a client id",
		"sub -t a -R --retained-only":              "exclude one another",
		"sub -t a --bogus":                         "unknown flag: --bogus",
		"sub -t a -k 2":                            "-k must be",
		"test --interval 0s":                       "--interval must be",
		"test -t a/#":                              "contains + or #",
		"sub -t a --retain-as-published -V 311":    "needs MQTT 5",
		"sub -t a -P secret":                       "-P without -u",
		"sub -t a -L mqtt://h/b -h elsewhere":      "-L excludes",
		"pub -t a -m x --repeat-delay -1":          "--repeat-delay",
		"pub -t a -l --repeat 3":                   "--repeat excludes -l",
		"pub -t a -m x --tls-version tlsv1.1":      "tlsv1.2 or tlsv1.3",
		"sub -t a -D connect receive-maximum 0":    "out of range",
		"sub -t a -D connect receive-maximum many": "not a number",
	} {
		r := call(t, strings.Fields(line)...)
		if r.code != exitUsage || r.out != "" || !strings.Contains(r.err, want) || strings.Count(r.err, "\n") != 2 {
			t.Errorf("mqttetl %s: exit %d\n%s%swant %s", line, r.code, r.out, r.err, want)
		}
	}
	for _, tool := range []string{"pub", "sub", "test"} {
		if r := call(t, tool, "-h"); r.code != 0 || !strings.Contains(r.out, "Examples:") {
			t.Errorf("%s -h: exit %d\n%s%s", tool, r.code, r.out, r.err)
		}
	}
}

// TestToolsSayWhatTheBrokerSays: one line with the reason, and its exit code.
func TestToolsSayWhatTheBrokerSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	passwords, rules := filepath.Join(dir, "passwords"), filepath.Join(dir, "rules")
	if out, err := osexec.Command("mosquitto_passwd", "-b", "-c", passwords, "me", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd (apt-get install mosquitto): %v: %s", err, out)
	}
	if err := os.WriteFile(rules, []byte("user me\ntopic readwrite ok/#\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startToolBroker(t, "allow_anonymous false\npassword_file "+passwords+"\nacl_file "+rules+"\nmessage_size_limit 1000\n")
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/html" {
			fmt.Fprint(w, "<html>hello</html>")
			return
		}
		http.NotFound(w, r)
	}))
	defer page.Close()
	otherDir := t.TempDir()
	other, err := servers.NewAuthority(otherDir)
	if err != nil {
		t.Fatal(err)
	}
	me := append([]string{"-u", "me", "-P", "secret"}, b.plain...)
	tls := []string{"-u", "me", "-P", "secret", "-p", b.transports["tls"][3]}
	big := strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nobody listens":        {[]string{"sub", "-t", "a", "-h", "127.0.0.1", "-p", "1"}, exitUnreachable, "connection refused"},
		"wrong password, 3.1.1": {append([]string{"pub", "-t", "a", "-m", "x", "-u", "me", "-P", "wrong"}, b.plain...), exitLogin, "not authorized (0x05)"},
		"wrong password, 5":     {append([]string{"pub", "-V", "5", "-t", "a", "-m", "x", "-u", "me", "-P", "wrong"}, b.plain...), exitLogin, "not authorized (0x87)"},
		"no password":           {append([]string{"sub", "-t", "a"}, b.plain...), exitLogin, "hint: check user name"},
		"publish refused":       {append([]string{"pub", "-V", "5", "-q", "1", "-t", "forbidden", "-m", "x"}, me...), exitFailed, "topic forbidden: broker's PUBACK: not authorized (0x87)"},
		"too large, 5":          {append([]string{"pub", "-V", "5", "-q", "1", "-t", "ok/a", "-m", big}, me...), exitFailed, "0x95"},
		"wrong authority":       {append([]string{"sub", "-t", "a", "-h", "127.0.0.1", "--cafile", other.CA()}, tls...), exitFailed, "unknown authority"},
		"no authority in file":  {append([]string{"sub", "-t", "a", "-h", "127.0.0.1", "--cafile", rules}, tls...), exitIO, "no certificate in it"},
		"TLS to a plain port":   {append([]string{"sub", "-t", "a", "--cafile", b.ca}, me...), exitUnreachable, "does this port speak TLS?"},
		"404":                   {[]string{"sub", "-t", "a", "-L", "ws" + page.URL[4:] + "/none"}, exitUnreachable, "404 Not Found, text/plain"},
		"HTML":                  {[]string{"sub", "-t", "a", "-L", "ws" + page.URL[4:] + "/html"}, exitUnreachable, "200 OK, text/html"},
		"timed out":             {append([]string{"sub", "-t", "ok/none", "-W", "0.2"}, me...), exitTimedOut, "timed out"},
		"quiet":                 {append([]string{"sub", "-t", "ok/none", "-W", "0.2", "--quiet"}, me...), exitTimedOut, ""},
	} {
		r := call(t, c.args...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || strings.Count(r.err, "\n") > 2 || c.want == "" && r.err != "" {
			t.Errorf("%s: exit %d\n%s%swant %d, %s", name, r.code, r.out, r.err, c.code, c.want)
		}
	}
}

func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := servers.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := a.Issue("broker", time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	m, err := servers.StartMosquitto(dir, "cafile "+a.CA()+"\ncertfile "+cert+"\nkeyfile "+key)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	_, port, _ := net.SplitHostPort(m.Addr)
	for _, insecure := range []string{"--insecure=false", "--insecure"} { // which forgives the name only
		r := call(t, "pub", "-h", "127.0.0.1", "-p", port, "--cafile", a.CA(), insecure, "-t", "a", "-m", "x")
		if r.code != exitFailed || !strings.Contains(r.err, "expired") {
			t.Errorf("%s: exit %d: %s", insecure, r.code, r.err)
		}
	}
}

// TestDefaults: options from the file come first, those of other tools are
// passed over, and an unknown one is an error with its place.
func TestDefaults(t *testing.T) {
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	_, port, _ := net.SplitHostPort(m.Addr)
	file := filepath.Join(dir, "mqttetl", "defaults")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# mine\n-h 127.0.0.1\n--port " + port + "\n-q 1\n-v\n\n-W 20\n-D publish user-property a b\n-V 5\n")
	if r := call(t, "pub", "-t", "d", "-m", "kept", "-r"); r.code != 0 {
		t.Fatalf("pub: exit %d: %s", r.code, r.err)
	}
	r := call(t, "sub", "-t", "d", "-C", "1")
	if r.code != 0 || r.out != "d kept\n" {
		t.Errorf("sub: exit %d\n%s%s", r.code, r.out, r.err)
	}
	if r := call(t, "sub", "-t", "d", "-C", "1", "-F", "%q %P"); r.out != "1 a:b\n" {
		t.Errorf("sub -F: exit %d\n%s%s", r.code, r.out, r.err)
	}
	write("-h 127.0.0.1\n--nonsense\n")
	if r := call(t, "sub", "-t", "d"); r.code != exitUsage || !strings.Contains(r.err, "defaults:2: unknown option --nonsense") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// TestSubAcknowledgesWhatItPrints: of a kept session, the next sub gets what
// the one before did not print, and nothing twice.
func TestSubAcknowledgesWhatItPrints(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	for _, qos := range []string{"1", "2"} {
		sub := append([]string{"sub", "-i", "keeper" + qos, "-c", "-q", qos, "-t", "kept", "-W", "20"}, b.plain...)
		if r := call(t, append(sub, "-E")...); r.code != 0 {
			t.Fatalf("exit %d: %s", r.code, r.err)
		}
		r := callWith(t, "1\n2\n3\n4\n5\n", append([]string{"pub", "-t", "kept", "-q", qos, "-l"}, b.plain...)...)
		if r.code != 0 || !strings.Contains(r.err, "the broker has acknowledged 5") {
			t.Fatalf("pub -l: exit %d: %s", r.code, r.err)
		}
		var got strings.Builder
		for range 5 {
			r := call(t, append(sub, "-C", "1")...)
			if r.code != 0 {
				t.Errorf("QoS %s: exit %d: %s", qos, r.code, r.err)
			}
			got.WriteString(r.out)
		}
		if got.String() != "1\n2\n3\n4\n5\n" {
			t.Errorf("QoS %s: printed %q", qos, got.String())
		}
	}
}

// callWith is call with standard input.
func callWith(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	code := exec(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return outcome{code, out.String(), errs.String()}
}

// TestTestEndsOnQuit: the messages come back with their round trips, and quit
// ends it.
func TestTestEndsOnQuit(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	if r := call(t, append([]string{"test", "-C", "3", "--interval", "20ms", "-q", "2", "-V", "5"}, b.plain...)...); r.code != 0 ||
		strings.Count(r.out, "round trip") != 3 || strings.Count(r.out, "acknowledged after") != 3 || !strings.Contains(r.err, "sent 3, received 3") {
		t.Errorf("exit %d\n%s%s", r.code, r.out, r.err)
	}
	mosquittoOut(t, "", append([]string{"mosquitto_pub", "-r", "-t", "say", "-m", "quit"}, b.plain...)...)
	r := call(t, append([]string{"test", "-t", "one", "--subscribe", "say", "--interval", "1h", "-W", "20"}, b.plain...)...)
	if r.code != 0 || !strings.Contains(r.out, "<- say quit\n") {
		t.Errorf("quit: exit %d\n%s%s", r.code, r.out, r.err)
	}
}

// TestPayloadOverTheLimit: whatever way a broker has to say so, it is one line
// and an exit code, and pub -l says what was acknowledged before it.
func TestPayloadOverTheLimit(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 2000)
	for setting, want := range map[string]map[string]string{
		"max_packet_size 1000": { // MQTT 5 says so in CONNACK
			"5":   "the broker takes 1000 at most\nhint: Mosquitto's setting is max_packet_size",
			"311": "such as one over its limit; with -V 5",
		},
		"message_size_limit 1000": {
			"5": "broker's PUBACK: packet too large (0x95)", // with 3.1.1 Mosquitto acknowledges it and drops it
		},
	} {
		m, err := servers.StartMosquitto(t.TempDir(), setting)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Kill()
		for version, says := range want {
			args := []string{"pub", "-L", m.URL + "/t", "-V", version, "-q", "1"}
			one := call(t, append(args, "-m", big)...)
			lines := callWith(t, "a\nb\n"+big+"\n", append(args, "-l")...)
			if one.code == 0 || !strings.Contains(one.err, says) || strings.Count(one.err, "mqttetl: ") != 1 {
				t.Errorf("%s, MQTT %s: exit %d: %s", setting, version, one.code, one.err)
			}
			if lines.code == 0 || !strings.Contains(lines.err, "has acknowledged 2\n") || !strings.Contains(lines.err, says) {
				t.Errorf("%s, MQTT %s, -l: exit %d: %s", setting, version, lines.code, lines.err)
			}
		}
	}
}
