package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl/internal/mosquitto"
)

// program is how a program of mosquitto's ends.
func program(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := osexec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s (apt-get install mosquitto-clients): %v", args[0], err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// TestEveryOptionOfMosquittos: what the help of mosquitto's programs on this
// machine lists is an option here.
func TestEveryOptionOfMosquittos(t *testing.T) {
	t.Parallel()
	for name, cmd := range map[string]*cobra.Command{"mosquitto_pub": newPub(streams{}), "mosquitto_sub": newSub(streams{})} {
		found := regexp.MustCompile(`(?m)^ (-[A-Za-z]|--[a-z0-9-]+) : `).FindAllStringSubmatch(program(t, "", name, "--help").out, -1)
		if len(found) < 40 {
			t.Fatalf("%s has %d options", name, len(found))
		}
		for _, option := range found {
			if mosquitto.Lookup(cmd, option[1]) == nil {
				t.Errorf("%s has %s", name, option[1])
			}
		}
	}
}

// TestSubOptionsMeanMosquittos: with the same options both print the same and
// end with the same code.
func TestSubOptionsMeanMosquittos(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	b := startToolBroker(t, "listener 0 "+socket)
	files := filepath.Join(dir, "files")
	for _, topic := range []string{"r/1", "r/2", "r/3", "s/$x"} {
		mosquittoOut(t, "", append([]string{"mosquitto_pub", "-r", "-q", "1", "-t", topic, "-m", `{"of": "` + topic + `"}`}, b.plain...)...)
	}
	host, port := b.plain[1], b.plain[3]
	ca := append(b.transports["tls"][:4:4], "--cafile", b.ca)
	if err := os.Mkdir(files, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := osexec.Command("cp", b.ca, filepath.Join(files, "ca.pem")).CombinedOutput(); err != nil {
		t.Fatal(err, out)
	}
	if out, err := osexec.Command("openssl", "rehash", files).CombinedOutput(); err != nil {
		t.Fatalf("openssl (apt-get install openssl): %v: %s", err, out)
	}
	for _, c := range []struct {
		server []string
		args   string
	}{
		{b.plain, "-t r/# -C 3 -v"},
		{b.plain, "-t r/1 -t r/3 -C 2 -v"},
		{b.plain, "-t r/# -C 2 -N"},
		{b.plain, "-t r/# -T r/2 -C 2 -v"},
		{b.plain, "-t r/# -R -W 1"},
		{b.plain, "-t r/# --retained-only -C 3"},
		{b.plain, "-t r/# -E"},
		{b.plain, "-t r/1 -U r/1 -E"},
		{b.plain, "-t r/1 -C 1 -F %j"},
		{b.plain, "-t r/1 -C 1 -F %J --pretty"},
		{b.plain, "-t r/1 -C 1 -F %J_%r_%q -q 2"},
		{b.plain, "-t r/1 -C 1 -i mine -c -x 60 -V mqttv5"},
		{b.plain, "-t r/1 -C 1 -I mine- -k 5 --nodelay --quiet -u nobody"},
		{b.plain, "-t r/1 -C 1 -A 127.0.0.1 -V 311"},
		{b.plain, "-t s/$x -C 1 --will-topic w --will-payload x --will-qos 1 --will-retain"},
		{[]string{"-L", "mqtt://" + net.JoinHostPort(host, port) + "/r/1"}, "-C 1"},
		{[]string{"--unix", socket}, "-t r/1 -C 1"},
		{ca, "-t r/1 -C 1 --tls-version tlsv1.2"},
		{append(b.transports["tls"][:4:4], "--capath", files), "-t r/1 -C 1"},
		{append([]string{"-h", "localhost"}, ca[2:]...), "-t r/1 -C 1 --insecure --tls-alpn mqtt"},
		{b.plain, "-t none -W 1"},
	} {
		args := append(slices.Clone(c.server), strings.Fields(c.args)...)
		want, got := program(t, "", append([]string{"mosquitto_sub"}, args...)...), call(t, append([]string{"sub"}, args...)...)
		if strings.Contains(c.args, "--pretty") {
			want.out, got.out = onOneLine(want.out), onOneLine(got.out)
		}
		if got.code != want.code || stamp.ReplaceAllString(got.out, "") != stamp.ReplaceAllString(want.out, "") {
			t.Errorf("%s\nmosquitto_sub %d %q %s\nmqttetl sub   %d %q %s", args, want.code, want.out, want.err, got.code, got.out, got.err)
		}
		if want.out == "" && want.code == 0 && !strings.Contains(c.args, "-E") {
			t.Errorf("%s prints nothing", args)
		}
	}
	if r := call(t, append([]string{"sub", "-t", "r/#", "--remove-retained", "-C", "3"}, b.plain...)...); r.code != 0 {
		t.Errorf("--remove-retained: exit %d: %s", r.code, r.err)
	}
	if r := program(t, "", append([]string{"mosquitto_sub", "-t", "r/#", "-W", "1"}, b.plain...)...); r.out != "" {
		t.Errorf("--remove-retained has left %q", r.out)
	}
	if n := strings.Count(call(t, append([]string{"sub", "-t", "s/#", "-W", "1", "--random-filter", "0.1"}, b.plain...)...).out, "\n"); n > 1 {
		t.Errorf("--random-filter 0.1 prints %d", n)
	}
}

// onOneLine is JSON without the white space that is a matter of taste.
func onOneLine(text string) string {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		return err.Error()
	}
	return b.String()
}

// TestPubOptionsMeanMosquittos: with the same options both publish the same.
func TestPubOptionsMeanMosquittos(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("of a\nfile\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sub := mqttetlSub(t, append([]string{"-V", "5", "-q", "2", "-t", "p/#", "-F", "%t|%x|%q|%r|%P|%C|%E"}, b.plain...)...)
	for _, c := range []struct{ args, stdin string }{
		{"-m hello", ""}, {"-n", ""}, {"-m x -q 1", ""}, {"-m x -q 2 -V 5", ""}, {"-m x -r", ""}, {"-n -r", ""},
		{"-s", "all\nof it"}, {"-f " + file, ""}, {"-l", "one\n\nthree\nlast"}, {"-l -q 1 -M 1", "a\nb\n"},
		{"-m x --repeat 3 --repeat-delay 0.01", ""}, {"-m x -k 5 -i me -c --nodelay", ""}, {"-m x -I me- --quiet", ""},
		{"-m x -V 5 -D publish user-property a b -D publish content-type text -x 9 -D connect user-property c d", ""},
		{"-m x -V mqttv5 -D publish message-expiry-interval 60", ""},
	} {
		before := len(sub.got())
		args := append([]string{"-t", "p/topic"}, append(b.plain, strings.Fields(c.args)...)...)
		published := func(r outcome) []string {
			mosquittoOut(t, "", append([]string{"mosquitto_pub", "-q", "2", "-t", "p/end", "-m", "end"}, b.plain...)...)
			var lines []string
			eventually(t, c.args, func() bool {
				lines = sub.got()[before:]
				return len(lines) > 0 && strings.HasPrefix(lines[len(lines)-1], "p/end|")
			})
			before += len(lines)
			return append(lines, fmt.Sprint("exit ", r.code))
		}
		want := published(program(t, c.stdin, append([]string{"mosquitto_pub"}, args...)...))
		got := published(callWith(t, c.stdin, append([]string{"pub"}, args...)...))
		if !slices.Equal(got, want) || len(want) < 3 {
			t.Errorf("%s\nmosquitto_pub %q\nmqttetl pub   %q", c.args, want, got)
		}
	}
}

// TestWillOfATool: the will of a tool that is killed is published.
func TestWillOfATool(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	watch := mqttetlSub(t, append([]string{"-t", "will/#", "-F", "%t %p %q", "-q", "2"}, b.plain...)...)
	mortal := start(t, nil, append([]string{"sub", "-t", "x", "-d", "--will-topic", "will/x", "--will-payload", "farewell", "--will-qos", "1"}, b.plain...)...)
	eventually(t, "the connection", func() bool {
		log, err := os.ReadFile(b.Log)
		return err == nil && strings.Contains(string(log), "Will message specified") || strings.Count(string(log), "New client connected") >= 2
	})
	mortal.Process.Kill()
	eventually(t, "the will", func() bool { return slices.Equal(watch.got(), []string{"will/x farewell 1"}) })
}

// TestOptionsFile: -o stands for the lines of its file.
func TestOptionsFile(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	file := filepath.Join(t.TempDir(), "options")
	text := "-h 127.0.0.1\n-p " + b.plain[3] + "\n-t from/file\n# not this\n-V 5\n-D publish user-property a b\n-q 1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := call(t, "pub", "-o", file, "-r", "-m", "x"); r.code != 0 {
		t.Fatalf("pub: exit %d: %s", r.code, r.err)
	}
	if r := call(t, "sub", "-o", file, "-C", "1", "-q", "0", "-F", "%t %q %P"); r.out != "from/file 0 a:b\n" {
		t.Errorf("sub: exit %d\n%s%s", r.code, r.out, r.err)
	}
	for line, want := range map[string]string{
		"sub -t a -o":                                "flag needs an argument: -o",
		"sub -t a -o /no/such/file":                  "read options: open /no/such/file",
		"sub -t a -vo " + file:                       "must be an argument of its own: -o FILE",
		"pub -t a -m x --psk 00":                     "no pre-shared keys here",
		"pub -t a -m x --ciphers AES":                "no choice of ciphers here",
		"pub -t a -m x --tls-engine e":               "no TLS engines here",
		"pub -t a -m x --proxy http://p":             "--proxy: proxy URL: want socks5h://",
		"pub -t a -m x --unix s --proxy socks5h://p": "--unix excludes",
	} {
		if r := call(t, strings.Fields(line)...); r.code != exitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%s: exit %d: %s", line, r.code, r.err)
		}
	}
}

// TestProxy goes through a SOCKS5 proxy (RFC 1928) with user and password (RFC
// 1929), which resolves the name.
func TestProxy(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 3)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked <- socks(c, "me", "secret", b.Addr)
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	pub := func(user string) outcome {
		return call(t, "pub", "-t", "a", "-m", "x", "-q", "1", "-h", "broker.behind.it", "-p", "1883", "--proxy", "socks5h://"+user+"@"+l.Addr().String())
	}
	if r := pub("me:secret"); r.code != 0 {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	if got := <-asked; got != "broker.behind.it:1883" {
		t.Errorf("the proxy is asked for %q", got)
	}
	if r := pub("me:wrong"); r.code != exitUnreachable || !strings.Contains(r.err, "authentication failed") {
		t.Errorf("wrong password: exit %d: %s", r.code, r.err)
	}
}

// socks serves one connection: it asks for user and password and connects to
// the broker, whatever was asked for, which it returns.
func socks(c net.Conn, user, password, broker string) (asked string) {
	defer c.Close()
	head := make([]byte, 2)
	body := func(n byte) string {
		p := make([]byte, n)
		_, _ = io.ReadFull(c, p)
		return string(p)
	}
	_, _ = io.ReadFull(c, head)
	body(head[1])
	_, _ = c.Write([]byte{5, 2})
	_, _ = io.ReadFull(c, head)
	who := body(head[1])
	if what := body(body(1)[0]); who != user || what != password {
		_, _ = c.Write([]byte{1, 1})
		return ""
	}
	_, _ = c.Write([]byte{1, 0})
	if request := body(4); request != "\x05\x01\x00\x03" { // CONNECT to a name
		return fmt.Sprintf("%x", request)
	}
	name := body(body(1)[0])
	asked = fmt.Sprintf("%s:%d", name, binary.BigEndian.Uint16([]byte(body(2))))
	to, err := net.Dial("tcp", broker)
	if err != nil {
		return err.Error()
	}
	defer to.Close()
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	back := make(chan struct{})
	go func() { defer close(back); _, _ = io.Copy(c, to); c.Close() }()
	_, _ = io.Copy(to, c)
	to.Close()
	<-back
	return asked
}
