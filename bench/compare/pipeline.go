package compare

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// pipelineID is the client id of the pipeline, whose session outlives its
// connections.
func pipelineID(run string) string { return "mqttetl-bench-" + run }

// pipelineConfig is the configuration of mqttetl for a trial: MQTT into the
// log, and from there into the run's stream.
const pipelineConfig = `sources:
  - name: bench
    url: %q
    client_id: %s
    subscribe: ["%s/#"]
    qos: 1
%slog:
  dir: %s
nats:
  url: %q
  stream: %s
  subject_prefix: %s
%shttp:
  listen: 127.0.0.1:%d
`

// anonymous is the URL without user and password, which a configuration does
// not take there.
func (b brokerAt) anonymous() string {
	u := *b.URL
	u.User = nil
	return u.String()
}

// settings are what the pipeline's source needs to get in; the password is in a
// file in dir.
func (b brokerAt) settings(dir string) (text string, err error) {
	if t := b.tls; t.CA != "" || t.Cert != "" || t.AnyName {
		text = fmt.Sprintf("    tls: {ca: %q, cert: %q, key: %q, insecure: %v}\n", t.CA, t.Cert, t.Key, t.AnyName)
	}
	if name := b.User.Username(); name != "" {
		text += fmt.Sprintf("    username: %q\n", name)
	}
	if password, has := b.User.Password(); has {
		file := filepath.Join(dir, "password")
		text += fmt.Sprintf("    password_file: %q\n", file)
		err = os.WriteFile(file, []byte(password), 0o600)
	}
	return text, err
}

// settings are what the pipeline's forwarder needs to get in.
func (at natsAt) settings() (text string) {
	if at.creds != "" {
		text = fmt.Sprintf("  creds_file: %q\n", at.creds)
	}
	if t := at.tls; t.CA != "" || t.Cert != "" {
		text += fmt.Sprintf("  tls: {ca: %q, cert: %q, key: %q}\n", t.CA, t.Cert, t.Key)
	}
	return text
}

// pipelineTime is how long the pipeline may take until it is ready, or to end.
const pipelineTime = 20 * time.Second

// startPipeline runs mqttetl for this trial as a process of its own.
func (t *trial) startPipeline(broker brokerAt, to natsAt) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	dir := filepath.Join(t.dir, fmt.Sprintf("pipeline-%d", t.tag))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	t.cleanup = append(t.cleanup, func() error { return os.RemoveAll(dir) })
	prefix := t.pipelinePrefix()
	login, err := broker.settings(dir)
	if err != nil {
		return err
	}
	conf := fmt.Sprintf(pipelineConfig, broker.anonymous(), pipelineID(t.run), t.topicPrefix(), login, filepath.Join(dir, "log"),
		to.url, t.stream(), prefix, to.settings(), port)
	file := filepath.Join(dir, "mqttetl.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return err
	}
	var said bytes.Buffer
	command := append(append([]string{}, t.cfg.Self...), "run", "-c", file, "--log-level", "warn")
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the pipeline: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.cleanup = append(t.cleanup, func() error { return t.stopPipeline(cmd, ended, broker) })
	h := t.up["pipeline"]
	h.PID, h.Config, h.URL = cmd.Process.Pid, redactedText(conf, to.url), fmt.Sprintf("http://127.0.0.1:%d", port)
	if err := t.awaitPipeline(h.URL, ended); err != nil {
		return fmt.Errorf("start the pipeline: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// awaitPipeline waits until the pipeline says that it is ready.
func (t *trial) awaitPipeline(address string, ended chan error) error {
	ctx, cancel := context.WithTimeout(t.ctx, pipelineTime)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/readyz", nil)
		if err != nil {
			return err
		}
		r.Close = true
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stopPipeline ends the process, and its session on a broker that stays.
func (t *trial) stopPipeline(cmd *exec.Cmd, ended chan error, broker brokerAt) error {
	_ = cmd.Process.Signal(syscall.SIGTERM) // or it has ended by itself
	late := time.AfterFunc(pipelineTime, func() { cmd.Process.Kill() })
	defer late.Stop()
	<-ended
	if t.ctx.Err() != nil && t.cfg.MQTT == "" {
		return nil // the broker may have had the Ctrl-C too
	}
	return endSession(context.Background(), broker.String(), broker.tls, pipelineID(t.run))
}

// endSession removes a session from a broker.
func endSession(ctx context.Context, broker string, tls dial.TLS, id string) error {
	u, err := dial.URL(broker)
	if err != nil {
		return err
	}
	s, err := login(ctx, brokerAt{u, tls}, id, new(meter))
	if err != nil {
		return fmt.Errorf("end the session of %s: %w", id, err)
	}
	s.bye()
	return nil
}

// redacted is a URL without its password.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(a URL that cannot be read)"
	}
	return secret.URL(u.String())
}

// redactedText is text without the passwords of the URLs in it.
func redactedText(text string, urls ...string) string {
	for _, u := range urls {
		text = string(bytes.ReplaceAll([]byte(text), []byte(u), []byte(redacted(u))))
	}
	return text
}
