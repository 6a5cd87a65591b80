package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build compiles the mqttetl command from the checkout into dir. replace
// changes source files for this build only: file (relative to the module's
// root) → old text → new text; an old text that the file does not hold once is
// an error. With it a test proves that it would notice a broken build.
func Build(ctx context.Context, dir string, replace map[string][2]string) (bin string, err error) {
	bin = filepath.Join(dir, "mqttetl")
	return bin, compile(ctx, dir, replace, "build", "-ldflags", stamp(ctx), "-o", bin, "./cmd/mqttetl")
}

// stamp is what the Makefile gives the linker, so that a report can name the
// commit; nothing outside of a git checkout.
func stamp(ctx context.Context) string {
	git := func(args ...string) string {
		out, _ := exec.CommandContext(ctx, "git", args...).Output()
		return strings.TrimSpace(string(out))
	}
	commit := git("rev-parse", "HEAD")
	if commit == "" {
		return ""
	}
	return "-X main.commit=" + commit + " -X main.version=" + git("describe", "--tags", "--always", "--dirty")
}

// BuildTest is Build for the tests of a package, such as ./sink/wal.
func BuildTest(ctx context.Context, dir, pkg string, replace map[string][2]string) (bin string, err error) {
	bin = filepath.Join(dir, filepath.Base(pkg)+".test")
	return bin, compile(ctx, dir, replace, "test", "-c", "-o", bin, pkg)
}

// compile runs the go command in the module's root.
func compile(ctx context.Context, dir string, replace map[string][2]string, verb string, args ...string) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	root := strings.TrimSpace(string(out))
	if len(replace) > 0 {
		overlay, err := writeOverlay(dir, root, replace)
		if err != nil {
			return err
		}
		args = append([]string{"-overlay", overlay}, args...)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{verb}, args...)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s %s: %w\n%s", verb, args[len(args)-1], err, out)
	}
	return nil
}

func writeOverlay(dir, root string, replace map[string][2]string) (string, error) {
	overlay := map[string]map[string]string{"Replace": {}}
	for name, change := range replace {
		path := filepath.Join(root, name)
		src, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(src), change[0]); n != 1 {
			return "", fmt.Errorf("%s holds the text to be replaced %d times: %s", name, n, change[0])
		}
		changed := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(changed, []byte(strings.Replace(string(src), change[0], change[1], 1)), 0o600); err != nil {
			return "", err
		}
		overlay["Replace"][path] = changed
	}
	p, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, p, 0o600)
}

// Service is one mqttetl run process at a time, with its files in Dir.
type Service struct {
	Bin  string
	Dir  string
	HTTP string   // host:port of its HTTP listener
	Wrap []string // a command that runs it, such as strace; empty: none

	cmd  *exec.Cmd
	exit chan error
	log  output
}

// output collects what all processes of a Service wrote.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Settings are what the configuration of a Service differs in.
type Settings struct {
	Broker  string // URL
	NATS    string // URL; "" for none
	QoS     int
	Version string // of MQTT; "" for auto
	Window  int    // receive maximum; 0 for the default
	MaxSize string // of the log; "" for the default

	CommitInterval string // of the log; "" for the default

	KeepAlive string // of the session with the broker; "" for the default
	CA        string // file that the broker's certificate is checked against; "" for none
	NATSCA    string // the same for the NATS server's

	Sources  string // further entries of sources, as they stand; "" for none
	Readings bool   // of the archive
	Routes   string // the sections routes and tests, as they stand; "" for none
}

// NewService writes a configuration for a service in dir and picks its port.
func NewService(bin, dir string, s Settings) (*Service, error) {
	l, err := net.Listen("tcp", "127.0.0.2:0") // connections, which leave from 127.0.0.1, take no port there
	if err != nil {
		return nil, err
	}
	svc := &Service{Bin: bin, Dir: dir, HTTP: l.Addr().String()}
	l.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "sources:\n  - name: e2e\n    url: %s\n    subscribe: [\"e2e/#\"]\n    qos: %d\n", s.Broker, s.QoS)
	if s.Version != "" {
		fmt.Fprintf(&b, "    version: %q\n", s.Version)
	}
	if s.Window != 0 {
		fmt.Fprintf(&b, "    receive_maximum: %d\n", s.Window)
	}
	if s.KeepAlive != "" {
		fmt.Fprintf(&b, "    keepalive: %s\n", s.KeepAlive)
	}
	if s.CA != "" {
		fmt.Fprintf(&b, "    tls: {ca: %s}\n", s.CA)
	}
	fmt.Fprintf(&b, "%slog:\n  dir: %s\n", s.Sources, svc.LogDir())
	if s.CommitInterval != "" {
		fmt.Fprintf(&b, "  commit_interval: %s\n", s.CommitInterval)
	}
	if s.MaxSize != "" {
		fmt.Fprintf(&b, "  max_size: %s\n", s.MaxSize)
	}
	fmt.Fprintf(&b, "archive:\n  path: %s\n  readings: %t\n", svc.Archive(), s.Readings)
	if s.NATS != "" {
		fmt.Fprintf(&b, "nats:\n  url: %s\n  stream: E2E\n  subject_prefix: mqtt\n", s.NATS)
		if s.NATSCA != "" {
			fmt.Fprintf(&b, "  tls: {ca: %s}\n", s.NATSCA)
		}
	}
	fmt.Fprintf(&b, "http:\n  listen: %s\n%s", svc.HTTP, s.Routes)
	return svc, os.WriteFile(svc.Config(), []byte(b.String()), 0o600)
}

// Config, LogDir and Archive are where the service's files are.
func (s *Service) Config() string  { return filepath.Join(s.Dir, "mqttetl.yaml") }
func (s *Service) LogDir() string  { return filepath.Join(s.Dir, "log") }
func (s *Service) Archive() string { return filepath.Join(s.Dir, "telemetry.db") }

// Output is everything the service has written to its standard error so far.
func (s *Service) Output() string { return s.log.String() }

// Start runs the service and returns without waiting for anything.
func (s *Service) Start() error {
	args := append(append([]string(nil), s.Wrap...), s.Bin, "run", "-c", s.Config())
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stderr, s.cmd.Stdout = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exit = make(chan error, 1)
	go func(cmd *exec.Cmd, exit chan error) { exit <- cmd.Wait() }(s.cmd, s.exit)
	return nil
}

// Kill ends the service, and what it is wrapped in, with SIGKILL.
func (s *Service) Kill() {
	if s.cmd == nil {
		return
	}
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.exit
	s.cmd = nil
}

// Stop ends the service with SIGTERM and says how long that took. An exit code
// other than 0 is an error.
func (s *Service) Stop() (time.Duration, error) {
	begin := time.Now()
	s.Signal(syscall.SIGTERM)
	select {
	case err := <-s.exit:
		s.cmd = nil
		return time.Since(begin), err
	case <-time.After(10 * time.Second):
		s.Kill()
		return time.Since(begin), errors.New("does not stop on SIGTERM")
	}
}

// Signal sends a signal to the service, and to what it is wrapped in.
func (s *Service) Signal(sig syscall.Signal) { syscall.Kill(-s.cmd.Process.Pid, sig) }

// Ended says whether no process runs: none was started, or it has ended.
func (s *Service) Ended() bool { return s.cmd == nil || len(s.exit) > 0 }

// Pid is the process id of the service, or of what it is wrapped in; 0 if none was started.
func (s *Service) Pid() int {
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Exited waits until the service ends by itself and returns its exit code.
func (s *Service) Exited(ctx context.Context) (int, error) {
	select {
	case <-s.exit:
		code := s.cmd.ProcessState.ExitCode()
		s.cmd = nil
		return code, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Status is the document of GET /status, as far as it is used here.
type Status struct {
	Ready   bool `json:"ready"`
	Sources []struct {
		Received     uint64 `json:"received"`
		Acknowledged uint64 `json:"acknowledged"`
		Redelivered  uint64 `json:"redelivered"`
		Reconnects   uint64 `json:"reconnects"`
	} `json:"sources"`
	Log struct {
		First  uint64 `json:"first"`
		Last   uint64 `json:"last"`
		Paused bool   `json:"paused"`
	} `json:"log"`
	Archive *Position `json:"archive"`
	NATS    *Position `json:"nats"`
	Publish *Position `json:"publish"`
}

// Position is where a consumer stands.
type Position struct {
	Cursor uint64 `json:"cursor"`
	Lag    uint64 `json:"lag"`
}

func (p *Position) String() string {
	if p == nil {
		return "off"
	}
	return fmt.Sprintf("%d behind %d", p.Lag, p.Cursor)
}

// Status asks the service for its status.
func (s *Service) Status(ctx context.Context) (st Status, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTP+"/status", nil)
	if err != nil {
		return st, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// Await polls the status until ok says so. It fails when ctx ends.
func (s *Service) Await(ctx context.Context, what string, ok func(Status) bool) (Status, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last Status
	var lastErr error
	for {
		if last, lastErr = s.Status(ctx); lastErr == nil && ok(last) {
			return last, nil
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("%s: not reached; status %+v, %v", what, last, lastErr)
		case <-tick.C:
		}
	}
}

// Ready waits until every source is subscribed and both stores are open.
func (s *Service) Ready(ctx context.Context) error {
	_, err := s.Await(ctx, "ready", func(st Status) bool { return st.Ready })
	return err
}

// Drained waits until the log holds at least n records and every consumer has them all.
func (s *Service) Drained(ctx context.Context, n int) (Status, error) {
	return s.Await(ctx, fmt.Sprintf("%d records drained", n), func(st Status) bool {
		done := func(p *Position) bool { return p == nil || p.Lag == 0 && p.Cursor == st.Log.Last }
		return st.Log.Last >= uint64(n) && done(st.Archive) && done(st.NATS) && done(st.Publish)
	})
}

// silence is how long a broker may send nothing while messages that it has
// acknowledged are missing: longer than any pause between attempts to connect.
const silence = 30 * time.Second

// Delivered waits until the service has drained what it was sent and the archive
// holds every acknowledged message, or nothing has come for a while: what is
// missing then is for CheckAcknowledged to tell. The number of records says
// nothing, for redelivered messages are records too.
func (s *Service) Delivered(ctx context.Context, acknowledged map[string]string) error {
	var seen uint64
	for {
		st, err := s.Drained(ctx, max(len(acknowledged), int(seen)))
		if err != nil {
			return err
		}
		rows, err := ReadArchive(s.Archive())
		if err != nil {
			return err
		}
		if _, err := CheckAcknowledged(rows, acknowledged); err == nil {
			return nil
		}
		quiet, cancel := context.WithTimeout(ctx, silence)
		_, err = s.Await(quiet, "more records", func(now Status) bool { return now.Log.Last > st.Log.Last })
		cancel()
		if err != nil {
			return ctx.Err()
		}
		seen = st.Log.Last + 1
	}
}

// Verify runs mqttetl verify.
func (s *Service) Verify(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, s.Bin, "verify", "-c", s.Config()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mqttetl verify: %w\n%s", err, out)
	}
	return nil
}
