package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

// A program is a running mqttetl.
type program struct {
	cmd    *exec.Cmd
	addr   string // of its HTTP
	stderr bytes.Buffer
	ended  chan struct{}
	begun  time.Time
}

// settings are what the configurations of the benchmark differ in. All else is
// at its default.
type settings struct {
	Dir            string // for log and archive
	Broker         string // host:port
	Version        byte   // 4 or 5
	ReceiveMaximum int
	Archive        bool
	NATS           string // URL; empty: none
	Stream, Prefix string
	HTTP           string
	Profile        string // file for a CPU profile; empty: none
	Routes         string // section routes; empty: none
}

var configuration = template.Must(template.New("").Parse(`sources:
  - name: bench
    url: mqtt://{{.Broker}}
    version: "{{if eq .Version 5}}5{{else}}3.1.1{{end}}"
    subscribe: ["bench/#"]
    receive_maximum: {{.ReceiveMaximum}}
log:
  dir: {{.Dir}}/log
{{- if .Archive}}
archive:
  path: {{.Dir}}/telemetry.db
{{- end}}
{{- if .NATS}}
nats:
  url: {{.NATS}}
  stream: {{.Stream}}
  subject_prefix: {{.Prefix}}
{{- end}}
http:
  listen: {{.HTTP}}
{{.Routes}}`))

// startProgram starts mqttetl run with a configuration made from s.
func startProgram(ctx context.Context, binary string, s settings) (*program, error) {
	addr, err := servers.FreeAddr()
	if err != nil {
		return nil, err
	}
	s.HTTP = addr
	var conf bytes.Buffer
	if err := configuration.Execute(&conf, s); err != nil {
		return nil, err
	}
	path := filepath.Join(s.Dir, "mqttetl.yaml")
	if err := os.WriteFile(path, conf.Bytes(), 0o600); err != nil {
		return nil, err
	}
	p := &program{cmd: exec.CommandContext(ctx, binary, "run", "-c", path), addr: addr, ended: make(chan struct{}), begun: time.Now()}
	p.cmd.Stderr = &p.stderr
	if s.Profile != "" {
		p.cmd.Env = append(os.Environ(), "MQTTETL_PROFILE="+s.Profile)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start mqttetl: %w", err)
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// errf is an error with what the program said last.
func (p *program) errf(format string, args ...any) error {
	select {
	case <-p.ended:
	default:
		p.kill()
	}
	return fmt.Errorf("mqttetl: %w: %s", fmt.Errorf(format, args...), ends(strings.TrimSpace(p.stderr.String()), 2000))
}

// ends is the beginning and the end of a long text: what came first is often
// the cause of what came last.
func ends(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most/2] + "\n…\n" + s[len(s)-most/2:]
}

// until asks every few milliseconds until ok, and returns when that was.
func (p *program) until(what string, every time.Duration, ok func() (bool, error)) (time.Time, error) {
	deadline := time.After(patience)
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		yes, err := ok()
		switch {
		case err != nil:
			return time.Time{}, p.errf("wait until %s: %w", what, err)
		case yes:
			return time.Now(), nil
		}
		select {
		case <-again.C:
		case <-p.ended:
			return time.Time{}, p.errf("ended before it was %s", what)
		case <-deadline:
			return time.Time{}, p.errf("not %s after %v", what, patience)
		}
	}
}

// pollEvery is how often the program is asked whether it is done: often enough
// for the clock, seldom enough not to be work.
const pollEvery = 10 * time.Millisecond

// ready waits until sources are subscribed and stores are open.
func (p *program) ready() error {
	_, err := p.until("ready", pollEvery, func() (bool, error) {
		_, err := p.get("/readyz")
		return err == nil, nil
	})
	return err
}

// get fetches a page.
func (p *program) get(path string) ([]byte, error) {
	r, err := http.Get("http://" + p.addr + path)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, r.Status)
	}
	return body, err
}

// status is what the benchmark reads of GET /status.
type status struct {
	Sources []struct{ Received, Acknowledged, Redelivered, Reconnects int64 }
	Log     struct{ Last int64 }
	Archive *struct{ Cursor int64 }
	NATS    *struct{ Cursor int64 }
}

func (p *program) status() (s status, err error) {
	body, err := p.get("/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(body, &s)
}

func (p *program) metrics() (series, error) {
	body, err := p.get("/metrics")
	if err != nil {
		return nil, err
	}
	return parseSeries(body)
}

// acknowledged waits until n messages have been acknowledged.
func (p *program) acknowledged(n int) (time.Time, error) {
	return p.untilStatus(fmt.Sprintf("at %d acknowledgements", n), func(s *status) bool {
		return s.Sources[0].Acknowledged >= int64(n)
	})
}

// stored waits until n records are in every store.
func (p *program) stored(n int) (time.Time, error) {
	return p.untilStatus(fmt.Sprintf("done with %d records", n), func(s *status) bool { return s.everywhere(int64(n)) })
}

// untilStatus is until for the status. A connection that was lost is an error:
// what it has cost is in no measurement.
func (p *program) untilStatus(what string, ok func(*status) bool) (time.Time, error) {
	return p.until(what, pollEvery, func() (bool, error) {
		s, err := p.status()
		if err == nil && s.Sources[0].Reconnects > 0 {
			err = fmt.Errorf("the source has lost its connection: %+v", s.Sources[0])
		}
		return err == nil && ok(&s), err
	})
}

func (s *status) everywhere(n int64) bool {
	return s.Log.Last >= n && (s.Archive == nil || s.Archive.Cursor >= n) && (s.NATS == nil || s.NATS.Cursor >= n)
}

// A use is what a process has used so far.
type use struct {
	cpu     time.Duration
	written int64
	metrics series
}

func (p *program) use() (u use, err error) {
	pid := p.cmd.Process.Pid
	u.cpu, err = processTime(pid)
	if err != nil {
		return u, err
	}
	if u.written, err = writtenBytes(pid); err != nil {
		return u, err
	}
	u.metrics, err = p.metrics()
	return u, err
}

// stop ends the program as a service manager does, and waits.
func (p *program) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return p.errf("stop: %w", err)
	}
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		return p.errf("did not stop within 10 s")
	}
	if !p.cmd.ProcessState.Success() {
		return p.errf("stop: %w", errors.New(p.cmd.ProcessState.String()))
	}
	return nil
}

// kill ends the program. It may be called after stop.
func (p *program) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}
