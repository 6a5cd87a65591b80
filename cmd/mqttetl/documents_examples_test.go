package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/embedded"
)

// An example is how the examples of a command are run where it is not enough
// to run them to their end.
type example struct {
	service bool              // they need the service
	until   map[string]string // how a line begins → what it has printed when Ctrl-C ends it; "": ready
	cut     bool              // Ctrl-C ends them after a while: they would take too long
	instead []string          // what stands in a line, and what a test must have instead
}

// examples has no entry for a command whose examples end by themselves.
var examples = map[string]example{
	"mqttetl":       {until: map[string]string{"mqttetl run": ""}, instead: []string{"--duration 10s", "--duration 3s"}},
	"mqttetl run":   {until: map[string]string{"mqttetl run": ""}},
	"mqttetl demo":  {until: map[string]string{"mqttetl demo\n": "sqlite3", "mqttetl demo --devices": "sqlite3"}, instead: []string{"--duration 10s", "--duration 3s"}},
	"mqttetl bench": {cut: true},
	"mqttetl status": {
		service: true,
	},
	"mqttetl transform try": {service: true},
	"mqttetl tail":          {service: true, until: map[string]string{"mqttetl tail -t": "factory/1/temp ", "mqttetl tail -F": "Z factory/1/temp "}},
	"mqttetl sub": {until: map[string]string{
		"mqttetl sub -t 'factory/#' -v": "factory/1/temp 2", "mqttetl sub -t 'factory/#' -q": `"topic":"factory/1/temp"`, "mqttetl sub -L": "21.5",
	}},
	"mqttetl test":     {until: map[string]string{"mqttetl test 127": "acknowledged after", "mqttetl test -t": "acknowledged after"}},
	"mqttetl import":   {instead: []string{"-W 60", "-W 1"}},
	"mqttetl simulate": {instead: []string{"--duration 10s", "--duration 1s", "--duration 5s", "--duration 1s"}},
}

// exampleTime is how long a line may take.
const exampleTime = 25 * time.Second

// TestExamplesWorkAsPasted runs every line of every command's examples in a
// shell, in a directory with a mqttetl.yaml and what it has stored. Addresses
// become those of the servers here, and the configuration is named where the
// example means /etc/mqttetl/mqttetl.yaml, which a test leaves alone. A new
// command's examples are run to their end and must exit with 0.
func TestExamplesWorkAsPasted(t *testing.T) {
	t.Parallel()
	w := newExampleWorld(t)
	visit(newRoot(streams{}), func(cmd *cobra.Command) {
		t.Run(strings.ReplaceAll(cmd.CommandPath(), " ", "_"), func(t *testing.T) {
			t.Parallel()
			x := examples[cmd.CommandPath()]
			d := w.directory(t, cmd.Example)
			if x.service {
				d.start(t)
			}
			for line := range strings.Lines(cmd.Example) {
				if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
					d.run(t, line, x)
				}
			}
		})
	})
}

// exampleWorld is what the examples find.
type exampleWorld struct {
	broker  *toolBroker
	bin     string   // a directory with mqttetl in it
	home    string   // configuration directory, with the defaults of mqttetl and mosquitto's programs
	stock   string   // a directory with stores and files that the examples name
	address []string // of the brokers, in examples and here
}

func newExampleWorld(t *testing.T) *exampleWorld {
	w := &exampleWorld{broker: startToolBroker(t, "sys_interval 1"), bin: t.TempDir(), home: t.TempDir(), stock: t.TempDir()}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(w.bin, "mqttetl"))
	}
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(w.broker.Addr)
	for _, file := range []string{"mqttetl/defaults", "mosquitto_pub", "mosquitto_sub"} {
		writeFile(t, filepath.Join(w.home, file), "-h "+host+"\n-p "+port+"\n")
	}
	wss := strings.TrimSuffix(w.broker.transports["wss"][1], "/mqtt")
	w.address = []string{
		"127.0.0.1:1883", w.broker.Addr, "127.0.0.1:1884", w.broker.Addr,
		"-h test.mosquitto.org", "", "wss://broker.example", wss, "/etc/mqttetl/mqttetl.yaml", "mqttetl.yaml",
	}
	w.telemetry(t)
	w.fill(t)
	return w
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// telemetry publishes until the test ends.
func (w *exampleWorld) telemetry(t *testing.T) { publishEvery(t, w.broker.Addr, 20*time.Millisecond) }

// publishEvery publishes to factory/1/temp until the test ends.
func publishEvery(t *testing.T, addr string, pause time.Duration) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Connect(context.Background(), conn, client.Options{Version: client.Version311, ClientID: "telemetry", CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		often := time.NewTicker(pause)
		defer often.Stop()
		for n := 0; ; n++ {
			_, err := c.Publish(&client.Message{Topic: "factory/1/temp", Payload: fmt.Appendf(nil, "2%d.5", n%9), QoS: 1})
			if err != nil {
				return
			}
			c.Flush()
			select {
			case <-stop:
				return
			case <-often.C:
			}
		}
	})
	t.Cleanup(func() { close(stop); publishing.Wait(); c.Disconnect(0) })
}

// fill lets mqttetl store something, and makes the files that examples name.
func (w *exampleWorld) fill(t *testing.T) {
	config := filepath.Join(w.stock, "mqttetl.yaml")
	text := fmt.Sprintf(`sources: [{name: plant, url: %q, client_id: stock, subscribe: ["factory/#"]}]
log: {dir: log, max_size: 64MiB}
archive: {path: telemetry.db, batch: {period: 20ms}}
http: {listen: "127.0.0.1:9641"}
routes:
  - {name: temperatures, topic: "factory/{line}/temp", decode: number, table: temperatures, columns: {celsius: REAL .}}
`, w.broker.URL)
	writeFile(t, config, text)
	d := &exampleDir{exampleWorld: w, path: w.stock, listen: freeAddress(t)}
	d.here = newReplacer("127.0.0.1:9641", d.listen)
	d.localize(t)
	stop := d.start(t)
	eventually(t, "50 archived records", func() bool {
		out, err := w.shell(t.Context(), w.stock, "mqttetl query -c mqttetl.yaml --count -o json").Output()
		return err == nil && regexp.MustCompile(`"count": ?([5-9]\d|\d{3,})\b`).Match(out)
	})
	stop()
	writeFile(t, config, text)
	for _, line := range []string{
		"mqttetl export -c mqttetl.yaml --out export.ndjson.zst --compress zstd",
		"sqlite3 telemetry.db '.backup backup.db'",
		"printf '2026-01-02T03:04:05Z a/b hello\n' > recording.txt",
		"printf 'ts,t,value\n2026-01-02T03:04:05Z,a/b,1\n' | gzip > table.csv.gz",
		"printf '2026-01-02T03:04:05Z,a/b,1,1,0\n' > no-header.csv",
		`printf '{"received_at":"2026-01-02T03:04:05Z","topic":"a/b","msg_b64":"MQ=="}\n' > recorded.ndjson`,
		`printf '2026-01-02T03:04:05Z\t*                 \t{"_type":"location","lat":1}\n' > 2026-01.rec`,
		"cp " + w.broker.ca + " ca.pem",
	} {
		if out, err := w.shell(t.Context(), w.stock, line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

// exampleDir is where the examples of one command run.
type exampleDir struct {
	*exampleWorld
	path   string
	listen string // the service's address
	door   string // its listener's
	here   replacer
}

// replacer replaces whole addresses: 127.0.0.1:1883 is not a part of
// 127.0.0.1:18837, which may be that of a server here.
type replacer struct {
	any *regexp.Regexp
	new map[string]string
}

func newReplacer(pairs ...string) replacer {
	r := replacer{new: map[string]string{}}
	var all []string
	for i := 0; i < len(pairs); i += 2 {
		r.new[pairs[i]] = pairs[i+1]
		old := regexp.QuoteMeta(pairs[i])
		if strings.Contains("0123456789", pairs[i][len(pairs[i])-1:]) {
			old += `\b`
		}
		all = append(all, old)
	}
	r.any = regexp.MustCompile(strings.Join(all, "|"))
	return r
}

func (r replacer) Replace(s string) string {
	return r.any.ReplaceAllStringFunc(s, func(old string) string { return r.new[old] })
}

func TestReplacerTakesWholeAddresses(t *testing.T) {
	t.Parallel()
	r := newReplacer("127.0.0.1:1883", "127.0.0.1:27358", "-h test.mosquitto.org", "")
	const text = "127.0.0.1:18837 mqtt://127.0.0.1:1883/a -h test.mosquitto.org -t b"
	if got, want := r.Replace(text), "127.0.0.1:18837 mqtt://127.0.0.1:27358/a  -t b"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// directory is a copy of the stock, with a NATS server of its own where the
// examples may use one.
func (w *exampleWorld) directory(t *testing.T, text string) *exampleDir {
	d := &exampleDir{exampleWorld: w, path: t.TempDir(), listen: freeAddress(t), door: freeAddress(t)}
	_, port, _ := net.SplitHostPort(d.door)
	if out, err := osexec.Command("cp", "-r", "--sparse=always", w.stock+"/.", d.path).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	addresses := append([]string{"127.0.0.1:9641", d.listen, "127.0.0.1:1885", d.door, "-p 1885", "-h 127.0.0.1 -p " + port, "client_id: stock", "client_id: " + strings.ToLower(rand.Text())}, w.address...)
	if strings.Contains(text, ":4222") || strings.Contains(text, "--publish") || strings.Contains(text, "mqttetl run") {
		n, err := embedded.StartNATS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Stop)
		addresses = append(addresses, "nats://127.0.0.1:4222", n.URL())
		if strings.Contains(text, "--publish") {
			addresses = append(addresses, "{celsius: REAL .}}", fmt.Sprintf("{celsius: REAL .}, publish: \"t.{line}\"}\nnats: {url: %q}", n.URL()))
		}
	}
	d.here = newReplacer(addresses...)
	d.localize(t)
	return d
}

// localize puts addresses of our own into the configuration.
func (d *exampleDir) localize(t *testing.T) {
	path := filepath.Join(d.path, "mqttetl.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, d.here.Replace(string(b)))
}

// shell is a line as it is pasted: with pipes, of which every part must succeed.
func (w *exampleWorld) shell(ctx context.Context, dir, line string) *osexec.Cmd {
	cmd := osexec.CommandContext(ctx, "bash", "-c", "set -o pipefail; "+line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+w.bin+":"+os.Getenv("PATH"), "XDG_CONFIG_HOME="+w.home, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// start runs the service until stop is called or the test ends.
func (d *exampleDir) start(t *testing.T) (stop func()) { return d.startWith(t, "mqttetl.yaml") }

// configOf is the file that a line names with -c.
func configOf(line string) string {
	_, file, _ := strings.Cut(line, "-c ")
	file, _, _ = strings.Cut(file, " ")
	return file
}

// startWith is start with another configuration than mqttetl.yaml, which is that of
// a listener.
func (d *exampleDir) startWith(t *testing.T, config string) (stop func()) {
	var out bytes.Buffer
	cmd := d.shell(context.Background(), d.path, "exec mqttetl run -c "+config)
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("the service wrote\n%s", &out)
		}
	})
	ready := d.ready
	if config != "mqttetl.yaml" {
		ready = d.open
	}
	eventually(t, "the service is ready", ready)
	return stop
}

// open says that devices can connect, and that there is an archive.
func (d *exampleDir) open() bool {
	conn, err := net.Dial("tcp", d.door)
	if err != nil {
		return false
	}
	conn.Close()
	return osexec.Command("sqlite3", "-readonly", "-cmd", ".timeout 5000", filepath.Join(d.path, "door/telemetry.db"), "SELECT count(*) FROM msg").Run() == nil
}

func (d *exampleDir) ready() bool {
	code, _ := site{listen: d.listen}.get("/readyz")
	return code == 200
}

// lockedBuffer is what a process has written so far.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// named adds the configuration to a command that would read the system's.
var (
	ownCommand = regexp.MustCompile(`\bmqttetl (run|status|verify|replay|import|export|query|tail|doctor)\b`)
	ownConfig  = regexp.MustCompile(`(-c|--config|--archive|--help)[ =]`)
)

// run runs one line, to its end or as far as x says, and returns what it has printed.
func (d *exampleDir) run(t *testing.T, line string, x example) (printed string) {
	t.Helper()
	pasted := line
	d.localize(t)
	line = d.here.Replace(strings.NewReplacer(x.instead...).Replace(line))
	if !ownConfig.MatchString(line) {
		line = ownCommand.ReplaceAllString(line, "$0 -c mqttetl.yaml")
	}
	ctx, cancel := context.WithTimeout(t.Context(), exampleTime)
	defer cancel()
	cmd, out := d.shell(ctx, d.path, line), &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	seen, stopped := x.seen(d, pasted, out), false
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			switch {
			case seen != nil && !stopped:
				t.Errorf("%s\nended by itself (%v):\n%s", pasted, err, out)
			case err != nil && !(x.cut && stopped):
				t.Errorf("%s\n%v:\n%s", pasted, err, out)
			case strings.Contains(out.String(), "Usage:"):
				t.Errorf("%s\n%s", pasted, out)
			}
			return out.String()
		case <-again.C:
			if seen != nil && !stopped && seen() {
				stopped = true
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
			}
		}
	}
}

// seen returns what says that a line that does not end has done its work, nil
// for one that ends.
func (x example) seen(d *exampleDir, line string, out *lockedBuffer) func() bool {
	if x.cut {
		began := time.Now()
		return func() bool { return time.Since(began) > 2*time.Second }
	}
	for begin, text := range x.until {
		switch {
		case !strings.HasPrefix(line+"\n", begin):
		case text == "":
			return d.ready
		default:
			return func() bool { return strings.Contains(out.String(), text) }
		}
	}
	return nil
}
