package compare

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
	"github.com/mqttetl/mqttetl/test/service"
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
  listen: %s
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

// pipelineTime is how long the pipeline may take until it is ready.
const pipelineTime = 20 * time.Second

// startPipeline runs mqttetl for this trial as a process of its own.
func (t *trial) startPipeline(broker brokerAt, to natsAt) error {
	dir := filepath.Join(t.dir, fmt.Sprintf("pipeline-%d", t.tag))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	t.cleanup = append(t.cleanup, func() error { return os.RemoveAll(dir) })
	p, err := service.Bare(t.cfg.Self, dir)
	if err != nil {
		return err
	}
	login, err := broker.settings(dir)
	if err != nil {
		return err
	}
	conf := fmt.Sprintf(pipelineConfig, broker.anonymous(), pipelineID(t.run), t.topicPrefix(), login, p.LogDir(),
		to.url, t.stream(), t.pipelinePrefix(), to.settings(), p.HTTP)
	if err := p.Configure(conf); err != nil {
		return err
	}
	p.Flags = []string{"--log-level", "warn"}
	if err := p.Start(); err != nil {
		return fmt.Errorf("start the pipeline: %w", err)
	}
	t.cleanup = append(t.cleanup, func() error { return t.stopPipeline(p, broker) })
	h := t.up["pipeline"]
	h.PID, h.Config, h.URL = p.Pid(), redactedText(conf, to.url), "http://"+p.HTTP
	ctx, cancel := context.WithTimeout(t.ctx, pipelineTime)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		return fmt.Errorf("start the pipeline: %w: %s", err, strings.TrimSpace(p.Output()))
	}
	return nil
}

// stopPipeline ends the process, and its session on a broker that stays.
func (t *trial) stopPipeline(p *service.Service, broker brokerAt) error {
	_, _ = p.Stop() // or it has ended by itself
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
