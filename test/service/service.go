package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

// Service is mqttetl run, one process at a time, with its files in Dir.
type Service struct {
	Bin   string
	Dir   string
	HTTP  string        // host:port of its HTTP listener
	Wrap  []string      // a command that runs it, such as strace; empty: none
	Env   []string      // added to its environment
	Flags []string      // of run, besides the configuration
	Look  time.Duration // how often Await asks; 0: every 10 ms

	process *Process
	log     Output
	begun   time.Time
}

// Bare is a service with its files in dir, at a port that is free, and without a
// configuration.
func Bare(bin, dir string) (*Service, error) {
	addr, err := servers.FreeAddr()
	return &Service{Bin: bin, Dir: dir, HTTP: addr}, err
}

// Config, LogDir and Archive are where the service's files are.
func (s *Service) Config() string  { return filepath.Join(s.Dir, "mqttetl.yaml") }
func (s *Service) LogDir() string  { return filepath.Join(s.Dir, "log") }
func (s *Service) Archive() string { return filepath.Join(s.Dir, "telemetry.db") }

// Configure writes its configuration.
func (s *Service) Configure(text string) error {
	return os.WriteFile(s.Config(), []byte(text), 0o600)
}

// Output is everything the service has written to its standard error so far.
func (s *Service) Output() string { return s.log.String() }

// Start runs the service and returns without waiting for anything.
func (s *Service) Start() error {
	args := slices.Concat(s.Wrap, []string{s.Bin, "run", "-c", s.Config()}, s.Flags)
	p := Command(args[0], args[1:]...)
	p.Stderr, p.Stdout = &s.log, &s.log
	if len(s.Env) > 0 {
		p.Env = append(os.Environ(), s.Env...)
	}
	s.begun = time.Now()
	if err := p.Start(); err != nil {
		return fmt.Errorf("start mqttetl: %w", err)
	}
	s.process = p
	return nil
}

// Process is the process that runs, nil if none was started.
func (s *Service) Process() *Process { return s.process }

// Begun is when it was started.
func (s *Service) Begun() time.Time { return s.begun }

// Kill ends the service, and what it is wrapped in, with SIGKILL. It may have
// ended before.
func (s *Service) Kill() {
	if s.process != nil {
		s.process.Kill()
		s.process = nil
	}
}

// Stop ends the service with SIGTERM and says how long that took. An exit code
// other than 0 is an error.
func (s *Service) Stop() (time.Duration, error) {
	took, err := s.process.Stop()
	s.process = nil
	return took, err
}

// Signal sends a signal to the service, and to what it is wrapped in.
func (s *Service) Signal(sig syscall.Signal) { s.process.Signal(sig) }

// Ended says whether no process runs: none was started, or it has ended.
func (s *Service) Ended() bool { return s.process == nil || s.process.Ended() }

// Pid is the process id of the service, or of what it is wrapped in; 0 if none was started.
func (s *Service) Pid() int {
	if s.process == nil {
		return 0
	}
	return s.process.Process.Pid
}

// Exited waits until the service ends by itself and returns its exit code.
func (s *Service) Exited(ctx context.Context) (int, error) {
	select {
	case <-s.process.Done():
		code := s.process.ProcessState.ExitCode()
		s.process = nil
		return code, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Status is the document of GET /status, as far as it is used here.
type Status struct {
	Ready   bool
	Sources []struct{ Received, Acknowledged, Redelivered, Reconnects uint64 }
	Log     struct {
		First, Last uint64
		Paused      bool
	}
	Archive, NATS, Publish *Position // nil: off
}

// Position is how far a consumer has come.
type Position struct{ Cursor, Lag uint64 }

func (p *Position) String() string {
	if p == nil {
		return "off"
	}
	return fmt.Sprintf("at %d, %d to go", p.Cursor, p.Lag)
}

// Get fetches a page. Another answer than 200 is an error.
func (s *Service) Get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTP+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return body, err
}

// Status asks the service for its status.
func (s *Service) Status(ctx context.Context) (st Status, err error) {
	body, err := s.Get(ctx, "/status")
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(body, &st)
}

// look is how often Await asks: often enough for the clock, seldom enough not to be
// work.
const look = 10 * time.Millisecond

// Await polls the status until ok says so. It fails when ctx or the service ends.
func (s *Service) Await(ctx context.Context, what string, ok func(Status) bool) (Status, error) {
	tick := time.NewTicker(cmp.Or(s.Look, look))
	defer tick.Stop()
	for {
		ended := s.Ended()
		last, err := s.Status(ctx)
		switch {
		case err == nil && ok(last):
			return last, nil
		case ended:
			return last, fmt.Errorf("%s: not reached, the service has ended; status %+v, %v", what, last, err)
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("%s: not reached; status %+v, %v", what, last, err)
		case <-tick.C:
		}
	}
}

// Ready waits until every source is subscribed and both stores are open.
func (s *Service) Ready(ctx context.Context) error {
	_, err := s.Await(ctx, "ready", func(st Status) bool { return st.Ready })
	return err
}

// Drained says whether every consumer has all that the log holds.
func (st *Status) Drained() bool {
	for _, p := range []*Position{st.Archive, st.NATS, st.Publish} {
		if p != nil && (p.Lag != 0 || p.Cursor != st.Log.Last) {
			return false
		}
	}
	return true
}

// Drained waits until the log holds at least n records and every consumer has them all.
func (s *Service) Drained(ctx context.Context, n int) (Status, error) {
	return s.Await(ctx, fmt.Sprintf("%d records drained", n), func(st Status) bool { return st.Log.Last >= uint64(n) && st.Drained() })
}

// Run runs another command of the program with the service's configuration and
// returns all that it printed.
func (s *Service) Run(ctx context.Context, command string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, s.Bin, append([]string{command, "-c", s.Config()}, args...)...).CombinedOutput()
	if err != nil {
		return string(out), errors.Join(fmt.Errorf("mqttetl %s: %w\n%s", command, err, out))
	}
	return string(out), nil
}

// Verify runs mqttetl verify.
func (s *Service) Verify(ctx context.Context) error {
	_, err := s.Run(ctx, "verify")
	return err
}
