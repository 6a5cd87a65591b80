package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqttetl/mqttetl/test/servers"
)

// asCommand tells a child of the test binary to be mqttetl itself.
const asCommand = "MQTTETL_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" && !slices.Contains(os.Args, "-test.fuzzworker") { // which the testing package starts
		main()
	}
	os.Setenv(asCommand, "1")
	goleak.VerifyTestMain(m)
}

// outcome is what a command line led to.
type outcome struct {
	code     int
	out, err string
}

// call runs a command line within the test.
func call(t *testing.T, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	code := exec(ctx, args, strings.NewReader(""), &out, &errs)
	return outcome{code, out.String(), errs.String()}
}

// process is a mqttetl of its own.
type process struct {
	*osexec.Cmd
	err  bytes.Buffer
	done chan struct{}
}

// start runs a command line in a process of its own, killed at the end of the test.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := prepare(t, env, args...)
	p.launch(t)
	return p
}

// prepare is the process before its start.
func prepare(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: osexec.Command(self, args...), done: make(chan struct{})}
	p.Env = append(os.Environ(), env...)
	p.Env = append(p.Env, "GORACE=atexit_sleep_ms=0") // or each exit takes a second longer
	p.Stderr = &p.err
	return p
}

// launch starts the process; it is killed at the end of the test.
func (p *process) launch(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s wrote:\n%s", strings.Join(p.Args[1:], " "), p.err.String())
		}
	})
}

// eventually waits for cond and fails the test if it never holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline, again := time.NewTimer(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer deadline.Stop()
	defer again.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain: %s", what)
		case <-again.C:
		}
	}
}

// site is a configuration of its own in a directory of its own.
type site struct {
	dir, config, listen string
}

// newSite writes a configuration. Without servers the broker's and the NATS
// server's ports are such that nobody answers.
func newSite(t *testing.T, broker, nats string) site {
	t.Helper()
	if broker == "" {
		broker = "mqtt://127.0.0.1:1"
	}
	if nats == "" {
		nats = "nats://127.0.0.1:1"
	}
	dir := t.TempDir()
	s := site{dir: dir, config: filepath.Join(dir, "mqttetl.yaml"), listen: freeAddress(t)}
	text := fmt.Sprintf(`sources: [{name: plant, url: %q, subscribe: ["#"]}]
log: {dir: %q, max_size: 64MiB}
archive: {path: %q, batch: {period: 20ms}}
nats: {url: %q}
http: {listen: %q}
`, broker, s.logDir(), s.archive(), nats, s.listen)
	s.write(t, text)
	return s
}

func (s site) logDir() string  { return filepath.Join(s.dir, "log") }
func (s site) archive() string { return filepath.Join(s.dir, "telemetry.db") }

func (s site) write(t *testing.T, config string) {
	t.Helper()
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freeAddress is a loopback address at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := servers.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
