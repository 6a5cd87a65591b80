package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	osexec "os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mqttetl/mqttetl/test/servers"
)

// toolBroker is one Mosquitto with a listener for each transport.
type toolBroker struct {
	*servers.Mosquitto
	ca         string
	transports map[string][]string // name → arguments for mqttetl
	plain      []string            // arguments for mosquitto's programs
}

func startToolBroker(t *testing.T, extra string) *toolBroker {
	t.Helper()
	dir := t.TempDir()
	authority, err := servers.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := authority.Issue("broker", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	port := func() string { _, p, _ := net.SplitHostPort(freeAddress(t)); return p }
	tlsPort, wsPort, wssPort := port(), port(), port()
	files := fmt.Sprintf("cafile %s\ncertfile %s\nkeyfile %s\n", authority.CA(), cert, key)
	m, err := servers.StartMosquitto(dir, extra+"\nmax_queued_messages 0\n"+
		"listener "+tlsPort+" 127.0.0.1\n"+files+
		"listener "+wsPort+" 127.0.0.1\nprotocol websockets\n"+
		"listener "+wssPort+" 127.0.0.1\nprotocol websockets\n"+files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Kill() })
	host, plain, _ := net.SplitHostPort(m.Addr)
	b := &toolBroker{Mosquitto: m, ca: authority.CA(), plain: []string{"-h", host, "-p", plain}}
	b.transports = map[string][]string{
		"tcp": b.plain,
		"tls": {"-h", host, "-p", tlsPort, "--cafile", b.ca},
		"ws":  {"-h", host, "-p", wsPort, "--ws"},
		"wss": {"-L", "wss://" + net.JoinHostPort(host, wssPort) + "/mqtt", "--ca", b.ca},
	}
	return b
}

// mosquitto runs one of mosquitto's programs to its end.
func mosquittoOut(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s (apt-get install mosquitto-clients): %v: %s", args, err, out)
	}
}

// listening is a subscriber in the background.
type listening struct {
	mu    sync.Mutex
	lines []string
	debug []string // what the client says of itself
	ready chan struct{}
	done  chan int
}

// listen collects the lines of r, and notices the answer to SUBSCRIBE in them.
func (l *listening) listen(r io.Reader, answer string) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	once := sync.OnceFunc(func() { close(l.ready) })
	for lines.Scan() {
		if strings.Contains(lines.Text(), answer) {
			once()
			continue
		}
		if strings.HasPrefix(lines.Text(), "Client ") {
			l.mu.Lock()
			l.debug = append(l.debug, lines.Text())
			l.mu.Unlock()
			continue
		}
		l.mu.Lock()
		l.lines = append(l.lines, lines.Text())
		l.mu.Unlock()
	}
}

func (l *listening) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}

func (l *listening) got() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// mqttetlSub runs mqttetl sub until the test ends, with its output and debug
// lines in one stream.
func mqttetlSub(t *testing.T, args ...string) *listening {
	t.Helper()
	l := &listening{ready: make(chan struct{}), done: make(chan int, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	collected := make(chan struct{})
	go func() { defer close(collected); l.listen(r, "received SUBACK") }()
	go func() {
		l.done <- exec(ctx, append([]string{"sub", "-d"}, args...), strings.NewReader(""), w, w)
		w.Close()
	}()
	t.Cleanup(func() { cancel(); <-collected })
	t.Cleanup(func() {
		if t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("mqttetl sub %q said %q %.300q", args, l.debug, l.lines)
		}
	})
	await(t, "subscription of mqttetl sub", l.ready)
	return l
}

// mosquittoSub runs mosquitto_sub until the test ends.
func mosquittoSub(t *testing.T, args ...string) *listening {
	t.Helper()
	l := &listening{ready: make(chan struct{})}
	// stdbuf (coreutils), or what -d tells would stay in a buffer.
	cmd := osexec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub", "-d"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("mosquitto_sub (apt-get install mosquitto-clients): %v", err)
	}
	collected := make(chan struct{})
	go func() { defer close(collected); l.listen(out, "Subscribed (mid") }()
	t.Cleanup(func() { cmd.Process.Kill(); <-collected; cmd.Wait() })
	await(t, "subscription of mosquitto_sub", l.ready)
	return l
}

func await(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("waited in vain: %s", what)
	}
}

// randomMessages are topic → payload, at random but the same in every run.
func randomMessages(n int, prefix string) map[string]string {
	r := rand.New(rand.NewPCG(6, uint64(len(prefix))))
	letters := []rune(`abcXYZ019 /._-~"'\%$&äßЖ漢🙂`)
	messages := make(map[string]string, n)
	for i := range n {
		topic := fmt.Sprintf("%s/%d/", prefix, i)
		for range r.IntN(30) {
			topic += string(letters[r.IntN(len(letters))])
		}
		payload := make([]byte, r.IntN(300))
		for j := range payload {
			payload[j] = byte(r.Uint32())
		}
		messages[topic] = string(payload)
	}
	return messages
}

// perQoS is how many messages each version and QoS has to carry over TCP. Over the
// other transports the same bytes are fewer.
const perQoS = 300

// agree waits for all messages and compares them.
func agree(t *testing.T, who string, l *listening, qos int, want map[string]string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s: %d messages", who, len(want)), func() bool { return l.count() >= len(want) })
	seen := map[string]bool{}
	for _, line := range l.got() {
		i := strings.LastIndexByte(line, ' ')
		j := strings.LastIndexByte(line[:i], ' ')
		topic, payload, q := line[:j], line[j+1:i], line[i+1:]
		if text, ok := want[topic]; !ok || payload != hex.EncodeToString([]byte(text)) || q != fmt.Sprint(qos) || seen[topic] {
			t.Fatalf("%s: %q, want payload %x and QoS %d, once", who, line, text, qos)
		}
		seen[topic] = true
	}
}

// asHex is a format that any message leaves on one line.
const asHex = "%t %x %q"

// TestMosquittoPubToSub: what mosquitto_pub sends, mqttetl sub receives, over
// every transport and with both versions, byte for byte.
func TestMosquittoPubToSub(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	for qos := range 3 {
		t.Run(fmt.Sprint("qos", qos), func(t *testing.T) {
			prefix := fmt.Sprint("in", qos)
			want := randomMessages(perQoS, prefix)
			subs := map[string]*listening{}
			for name, transport := range b.transports {
				for _, version := range []string{"5", "mqttv311"} {
					subs[name+" "+version] = mqttetlSub(t, append(transport, "-V", version, "-q", "2", "-t", prefix+"/#", "-F", asHex)...)
				}
			}
			publishers := errgroup.Group{}
			publishers.SetLimit(4)
			version := 0
			for topic, payload := range want {
				version++
				args := append(b.plain, "-V", []string{"5", "311"}[version%2], "-q", fmt.Sprint(qos), "-t", topic, "-s")
				publishers.Go(func() error {
					cmd := osexec.CommandContext(t.Context(), "mosquitto_pub", args...)
					cmd.Stdin = strings.NewReader(payload)
					if payload == "" {
						cmd.Args[len(cmd.Args)-1] = "-n"
					}
					if out, err := cmd.CombinedOutput(); err != nil {
						return fmt.Errorf("mosquitto_pub (apt-get install mosquitto-clients): %w: %s", err, out)
					}
					return nil
				})
			}
			if err := publishers.Wait(); err != nil {
				t.Fatal(err)
			}
			for name, sub := range subs {
				agree(t, name, sub, qos, want)
			}
		})
	}
}

// TestPubToMosquittoSub is the other direction.
func TestPubToMosquittoSub(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	for name, transport := range b.transports {
		for _, version := range []string{"mqttv5", "311"} {
			for qos := range 3 {
				t.Run(fmt.Sprintf("%s/%s/qos%d", name, version, qos), func(t *testing.T) {
					t.Parallel()
					prefix := strings.Join([]string{name, version, fmt.Sprint(qos)}, "-")
					n := perQoS
					if name != "tcp" {
						n /= 5
					}
					want := randomMessages(n, prefix)
					sub := mosquittoSub(t, append(b.plain, "-q", "2", "-t", prefix+"/#", "-F", asHex)...)
					publishers := errgroup.Group{}
					publishers.SetLimit(32) // a WebSocket of Mosquitto's waits for delayed TCP acknowledgements
					for topic, payload := range want {
						args := append([]string{"pub"}, transport...)
						args = append(args, "-V", version, "-q", fmt.Sprint(qos), "-t", topic, "-s")
						publishers.Go(func() error {
							var errs bytes.Buffer
							if code := exec(t.Context(), args, strings.NewReader(payload), io.Discard, &errs); code != 0 {
								return fmt.Errorf("%q: exit %d: %s", args, code, &errs)
							}
							return nil
						})
					}
					if err := publishers.Wait(); err != nil {
						t.Fatal(err)
					}
					agree(t, prefix, sub, qos, want)
				})
			}
		}
	}
}

// formatCases print every letter, flag and escape, but for times.
var formatCases = []string{
	`%t|%p|%q|%r|%l|%m|%%|%x|%X`,
	`[%10l][%-10l][%010l][%-010l][%5m][%02m]`,
	`[%5.3t][%-20t][%.3t][%30t][%.0t]`,
	`[%6p][%-6p][%06p][%300p]`, // of x and X with a width see internal/format
	`[%A][%5A][%05A][%-5A][%C][%5C][%05C][%-9C][%3.1C][%D]`,
	`[%E][%05E][%-5E][%F][%3F][%P][%R][%8R][%-8R][%.2R][%S][%3S]`,
	`@@|\\|\a|\e|\r|\t|\v`,
	`%t\0%x`,
	`%j`,
	`%J`,
}

// oddMessages are what a format may stumble over. Those that mosquitto_sub
// prints as something that is not JSON are not among them.
var oddMessages = [][]string{
	{"-t", "f/a", "-m", "hello"},
	{"-t", "f/é 漢🙂", "-m", "hällo wörld"},
	{"-t", `f/"q"\`, "-m", `{"a": 1.50,"b":[1e3,1E400,"é\u00e9\u0001/\/\ud83d\ude00"],"a":2, "big":12345678901234567890,"f":0.1,"neg":-0.0,"t":true,"n":null,"o":{},"l":[[]]}`},
	{"-t", "f/num", "-m", "123456789.123456789"},
	{"-t", "f/num", "-m", " -1.5e-7 "},
	{"-t", "f/num", "-m", "1e15"},
	{"-t", "f/num", "-m", "1234567890123456"},
	{"-t", "f/str", "-m", `"tab\there \b\f\n\r\" \u001f"`},
	{"-t", "f/null", "-n"},
	{"-t", "f/ctl", "-m", "tab\there \x1b[31m\x7f"},
	{"-t", "f/retained", "-m", "r", "-r"},
	{"-t", "f/p", "-m", "{}", "-D", "publish", "user-property", "k", "v", "-D", "publish", "content-type", "text/é",
		"-D", "publish", "user-property", "k2", "v", "-D", "publish", "correlation-data", "cd", "-D", "publish", "message-expiry-interval", "100",
		"-D", "publish", "payload-format-indicator", "1", "-D", "publish", "response-topic", "r/t"},
}

// stamp is the time in JSON, in mosquitto_sub's form or ours.
var stamp = regexp.MustCompile(`"tst":"[^"]*"`)

// TestFormatsAreMosquittos compares the output of both for every format and
// every message; of times only JSON's are left out.
func TestFormatsAreMosquittos(t *testing.T) {
	t.Parallel()
	b := startToolBroker(t, "")
	// The same text goes to both, and a mark behind it ends a message.
	style := strings.Join(formatCases, "\n")
	common := append(b.plain, "-V", "5", "-q", "2", "-t", "f/#", "-t", "end", "-F", style+"~")
	theirs, ours := mosquittoSub(t, common...), mqttetlSub(t, common...)
	for _, m := range oddMessages {
		mosquittoOut(t, "", append(append([]string{"mosquitto_pub"}, b.plain...), append([]string{"-V", "5", "-q", "1"}, m...)...)...)
	}
	mosquittoOut(t, "", append(append([]string{"mosquitto_pub"}, b.plain...), "-t", "end", "-m", `"end"`)...)
	ended := func(l *listening) func() bool {
		return func() bool { g := l.got(); return len(g) > 0 && strings.Contains(g[len(g)-1], `"topic":"end"`) }
	}
	eventually(t, "mosquitto_sub", ended(theirs))
	eventually(t, "mqttetl sub", ended(ours))
	want := stamp.ReplaceAllString(strings.Join(theirs.got(), "\n"), "")
	got := stamp.ReplaceAllString(strings.Join(withoutErrors(ours.got()), "\n"), "")
	if got != want {
		w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
		for i := range w {
			if i >= len(g) || w[i] != g[i] {
				t.Errorf("line %d\nmosquitto_sub %q\nmqttetl sub   %q", i, w[i], append(g, "nothing")[min(i, len(g))])
			}
		}
	}
	for _, line := range ours.got() {
		line = strings.TrimSuffix(line, "~")
		if strings.HasPrefix(line, "{") && !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// withoutErrors leaves out what went to standard error.
func withoutErrors(lines []string) (data []string) {
	for _, l := range lines {
		if !strings.HasPrefix(l, "mqttetl: payload is not valid JSON") {
			data = append(data, l)
		}
	}
	return data
}
