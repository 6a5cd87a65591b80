package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl/internal/mosquitto"
)

// TestEveryOptionOf21: the options of mosquitto_pub and mosquitto_sub 2.1, and of
// the Lua client's three tools, are options here.
func TestEveryOptionOf21(t *testing.T) {
	t.Parallel()
	both := `-A --cafile --capath --cert --ciphers -c --disable-clean-session -D --property -d --debug --help -h --host -i --id -I --id-prefix
		--insecure -k --keepalive --key --keyform -L --url -M --nodelay --no-tls -o -p --port -P --pw --proxy --psk --psk-identity -q --qos --quiet
		-S -t --topic --tls-alpn --tls-engine --tls-engine-kpass-sha1 --tls-keylog --tls-use-os-certs --tls-version -u --username --unix -V
		--protocol-version --version --will-payload --will-qos --will-retain --will-topic --ws -x`
	lua := ` -H --will-message --will_message --will_qos --will_retain --will_topic`
	for _, c := range []struct {
		cmd     *cobra.Command
		options string
	}{
		{newPub(streams{}), both + lua + ` -w -f --file -l --stdin-line -m --message -n --null-message -r --retain --repeat --repeat-delay -s --stdin-file`},
		{newSub(streams{}), both + lua + ` -C -E -F -N --pretty -R --random-filter --remove-retained --retain-as-published --retain-handling
			--retained-only -T --filter-out -U --unsubscribe -v --verbose -W -w --watch --message-rate`},
		{newTest(streams{}), both + ` -H -s --topic_s --topic_p --topic1 --topic2`},
	} {
		for _, option := range strings.Fields(c.options) {
			if option == "-M" && c.cmd.Name() == "test" {
				continue
			}
			if mosquitto.Lookup(c.cmd, option) == nil {
				t.Errorf("%s has no %s", c.cmd.Name(), option)
			}
		}
	}
}

// TestUsageOf21: what cannot be is said in one line, in the user's words.
func TestUsageOf21(t *testing.T) {
	t.Parallel()
	internals := regexp.MustCompile(`strconv|\\x00|\x00|Parse(U?)int`)
	for line, want := range map[string]string{
		"pub -t a -m x -q 256":                                   `--qos must be 0, 1 or 2, not "256"`,
		"pub -t a -m x -q -1":                                    `--qos must be 0, 1 or 2, not "-1"`,
		"sub -t a --will-topic w --will-qos x":                   `--will-qos must be 0, 1 or 2, not "x"`,
		"pub -t a -m x -p 99999999999999999999":                  "--port 99999999999999999999 is out of range",
		"sub -t a -C 99999999999999999999":                       "--count 99999999999999999999 is out of range",
		"sub -t a -W 1e999":                                      "--timeout 1e999 is out of range",
		"sub -t a -W 1e300":                                      "-W must be above 0, and at most 1000000000 seconds",
		"sub -t a -W nan":                                        "-W must be above 0",
		"sub -t a --random-filter nan":                           "--random-filter must be",
		"pub -t a -m x --repeat-delay nan":                       "--repeat-delay must be 0 to",
		"pub -t a -m x -D publish content-type":                  "-D publish content-type: want packet, name and value",
		"pub -t a -m x -D":                                       "-D : want packet, name and value",
		"pub -t a -m x -D publish topic-alias 65536":             "-D publish topic-alias 65536: property topic-alias: 65536 is out of range, it must be 1 to 65535",
		"pub -t a -m x -D auth authentication-data x":            "a packet is one of connect, disconnect,",
		"pub -t a -m x -x 4294967296":                            "-x 4294967296: property session-expiry-interval: 4294967296 is out of range",
		"pub -t a -m x -x -2":                                    "-2 is out of range",
		"pub -t a -m x -V 5 -x -1":                               "a session without end needs a client id (-i)",
		"sub -t a -V 5 -x ∞":                                     "a session without end needs a client id (-i)",
		"sub -t a -x 4294967295":                                 "a session without end needs a client id (-i)",
		"sub -t a -x -1 -I prefix":                               "a session without end needs a client id (-i)",
		"sub -t a -D connect session-expiry-interval 4294967295": "a session without end needs a client id (-i)",
		"sub -t a -c -i ":                                        "-c needs a client id (-i)",
		"sub -t a -x -1 -i ":                                     "a session without end needs a client id (-i)",
		"sub -t a -M 0":                                          "-M must be 1 to 65535",
		"sub -t a -M 5 -V 311":                                   "--max-inflight needs MQTT 5: -V 5",
		"sub -t a --retain-handling sometimes":                   "--retain-handling sometimes: it must be always, new or never",
		"sub -t a --retain-handling new -V mqttv311":             "--retain-handling needs MQTT 5: -V 5",
		"sub -t a -w --message-rate":                             "exclude one another",
		"sub -t a -S":                                            "no SRV look-up here: dig +short SRV",
		"sub -t a --no-tls -L mqtts://h/a":                       "--no-tls excludes",
		"sub -t a --tls-keylog /no/such/dir/file":                "--tls-keylog: open /no/such/dir/file",
		"test 127.0.0.1 -h elsewhere":                            `unexpected argument "127.0.0.1"; name one host`,
		"test 127.0.0.1 more":                                    `unexpected argument "more"; name one host`,
		"sub -F %Z":                                              "unknown letter 'Z'", // and not first that a topic is missing
		"sub -M 0":                                               "-M must be 1 to 65535",
		"pub -l -n":                                              "exclude one another",
		"pub -t a/+":                                             "contains + or #",
		"sub -t a --latency":                                     "unknown flag: --latency",
	} {
		args := strings.Fields(line)
		if strings.HasSuffix(line, "-i ") {
			args = append(args, "")
		}
		r := call(t, args...)
		if r.code != exitUsage || !strings.Contains(r.err, want) || strings.Count(r.err, "\n") != 2 || internals.MatchString(r.err) {
			t.Errorf("mqttetl %s: exit %d\n%swant %s", line, r.code, r.err, want)
		}
	}
	for _, tool := range []string{"pub", "sub", "test"} {
		if r := call(t, tool, "--version"); r.code != 0 || !strings.HasPrefix(r.out, "mqttetl ") || strings.Count(r.out, "\n") != 1 {
			t.Errorf("%s --version: exit %d %q", tool, r.code, r.out)
		}
	}
}

// TestOptionsOf21 do what mosquitto's manual says.
func TestOptionsOf21(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	for _, topic := range []string{"r/1", "r/2"} {
		mosquittoOut(t, "", append([]string{"mosquitto_pub", "-r", "-q", "1", "-t", topic, "-m", "of " + topic + "\nand more"}, b.plain...)...)
	}
	host, port := b.plain[1], b.plain[3]
	keys := filepath.Join(t.TempDir(), "keys")
	for _, c := range []struct {
		args string
		code int
		out  string
	}{
		{"-H " + host + " -p " + port + " -t r/1 -C 1 -N", 0, "of r/1\nand more"},
		{"-h " + host + " -p " + port + " -t r/1 -C 1 -N -V mqttv31", 0, "of r/1\nand more"},
		{"-h " + host + " -p " + port + " -t r/1 -C 1 -N -M 1", 0, "of r/1\nand more"},
		{"-h " + host + " -p " + port + " -t r/# -W 1 --retain-handling never", exitTimedOut, ""},
		{"-h " + host + " -p " + port + " -t r/1 -C 1 -N --retain-handling new", 0, "of r/1\nand more"},
		{"-h " + host + " -p " + port + " -t r/# -C 2 -w", 0, "\x1b[2J\x1b[1;1HBroker: " + host + "\n" +
			"\x1b[2;1H\x1b[Kof r/1\\nand more\x1b[3;1H" + "\x1b[3;1H\x1b[Kof r/2\\nand more\x1b[4;1H"},
		{"-h " + host + " -p " + port + " -t r/1 -C 1 -N --no-tls --cafile " + b.ca, 0, "of r/1\nand more"},
		{strings.Join(b.transports["tls"], " ") + " -t r/1 -C 1 -N --tls-keylog " + keys, 0, "of r/1\nand more"},
		{"-h " + host + " -p " + port + " -t r/# -W 1.5 --message-rate", exitTimedOut, "2 msgs/s\n"},
	} {
		if r := call(t, append([]string{"sub"}, strings.Fields(c.args)...)...); r.code != c.code || r.out != c.out {
			t.Errorf("sub %s: exit %d %q %s, want %q", c.args, r.code, r.out, r.err, c.out)
		}
	}
	if text, err := os.ReadFile(keys); err != nil || !strings.Contains(string(text), "CLIENT_") {
		t.Errorf("keys: %q, %v", text, err)
	}
}

// TestLuaTools: the lines that people have typed for mqtt_publish.lua,
// mqtt_subscribe.lua and mqtt_test.lua.
func TestLuaTools(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	watch := mqttetlSub(t, append([]string{"-t", "test/1", "-t", "will/x", "-F", "%t %p %q %r"}, b.plain...)...)
	mortal := start(t, nil, append([]string{"sub", "-t", "x", "-d", "--will_topic", "will/x", "--will_message", "farewell", "--will_qos", "1", "--will_retain", "0"}, b.plain...)...)
	eventually(t, "the connection", func() bool {
		log, err := os.ReadFile(b.Log)
		return err == nil && strings.Contains(string(log), "Will message specified") || strings.Count(string(log), "New client connected") >= 2
	})
	mortal.Process.Kill()
	eventually(t, "the will", func() bool { return slices.Contains(watch.got(), "will/x farewell 0 0") })
	mosquittoOut(t, "", append([]string{"mosquitto_pub", "-r", "-t", "test/2", "-m", "quit"}, b.plain...)...)
	for _, args := range [][]string{
		{"127.0.0.1", "-p", b.plain[3]},
		{"-d", "--topic_s", "test/2", "--topic_p", "test/1", "-p", b.plain[3], "127.0.0.1"},
		{"-s", "test/2", "-t", "test/1", "-H", "127.0.0.1", "-p", b.plain[3]},
	} {
		r := call(t, append([]string{"test", "-W", "20"}, args...)...)
		if r.code != 0 || !strings.Contains(r.out, "<- test/2 quit\n") {
			t.Errorf("test %q: exit %d\n%s%s", args, r.code, r.out, r.err)
		}
	}
	eventually(t, "the first message of each on test/1", func() bool {
		return strings.Count(strings.Join(watch.got(), "\n"), "test/1 mqttetl test 1 ") == 3
	})
}

// oneSided is a broker that accepts one client and answers with raw bytes.
func oneSided(t *testing.T, answer func(c net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			answer(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String()
}

// TestProtocolErrorsEndTools with mosquitto's exit code, at once.
func TestProtocolErrorsEndTools(t *testing.T) {
	t.Parallel()
	read := func(c net.Conn) { _, _ = c.Read(make([]byte, 1000)) }
	say := func(c net.Conn, text string) { _, _ = c.Write([]byte(text)) }
	for name, c := range map[string]struct {
		answers []string
		args    string
		want    string
	}{
		"receive maximum 0": {[]string{"\x20\x06\x00\x00\x03\x21\x00\x00"}, "pub -V 5 -t a -m x -q 1", "property receive-maximum is 0"},
		"PUBREC for QoS 1":  {[]string{"\x20\x02\x00\x00", "\x50\x02\x00\x01"}, "pub -t a -m x -q 1", "answered by a PUBREC, a PUBACK is due"},
		"PUBACK for QoS 2":  {[]string{"\x20\x02\x00\x00", "\x40\x02\x00\x01"}, "pub -t a -m x -q 2", "answered by a PUBACK, a PUBREC is due"},
		"QoS 3":             {[]string{"\x20\x02\x00\x00", "\x36\x05\x00\x01t\x00\x01"}, "sub -t a", "a PUBLISH with QoS 3"},
		"two answers":       {[]string{"\x20\x02\x00\x00", "\x90\x04\x00\x01\x00\x00"}, "sub -t a", "a SUBACK with 2 codes for 1 filters"},
		"an alias":          {[]string{"\x20\x03\x00\x00\x00", "\x30\x06\x00\x00\x03\x23\x00\x01"}, "sub -V 5 -t a", "a topic alias although none was allowed"},
	} {
		address := oneSided(t, func(conn net.Conn) {
			for _, answer := range c.answers {
				read(conn)
				say(conn, answer)
			}
			for range 3 {
				read(conn) // and leaves the connection open
			}
			conn.Close()
		})
		host, port, _ := net.SplitHostPort(address)
		began := time.Now()
		r := call(t, append(strings.Fields(c.args), "-h", host, "-p", port)...)
		if r.code != exitProtocol || !strings.Contains(r.err, c.want) || strings.Contains(r.err, "Usage") || time.Since(began) > 2*time.Second {
			t.Errorf("%s: exit %d after %v: %s", name, r.code, time.Since(began), r.err)
		}
	}
}

// TestHintKnowsTheVersion: who has asked for MQTT 5 is not told to.
func TestHintKnowsTheVersion(t *testing.T) {
	t.Parallel()
	for version, connack := range map[string]string{"5": "\x20\x03\x00\x00\x00", "3.1.1": "\x20\x02\x00\x00"} {
		address := oneSided(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1000))
			_, _ = c.Write([]byte(connack))
			_, _ = c.Read(make([]byte, 1000))
			c.Close()
		})
		host, port, _ := net.SplitHostPort(address)
		r := call(t, "pub", "-t", "a", "-m", "x", "-q", "1", "-V", version, "-h", host, "-p", port)
		if r.code != exitUnreachable || !strings.Contains(r.err, "such as one over its limit") || strings.Contains(r.err, "-V 5") == (version == "5") {
			t.Errorf("%s: exit %d: %s", version, r.code, fmt.Sprint(r.err))
		}
	}
}
